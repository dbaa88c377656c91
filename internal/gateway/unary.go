// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// recordEventBatch serves a batch in one call. It means the same as a stream
// of one events message.
func (g *Gateway) recordEventBatch(ctx context.Context, in *connect.Request[batchRequest]) (*connect.Response[batchResponse], error) {
	callOf(ctx).charge.settle(int64(len(in.Msg.wire)))
	var req request
	if err := req.splitCall(in.Msg.wire); err != nil {
		return nil, invalid("%w", err)
	}
	s, err := g.newSession(ctx, req.metadata, in.Peer().Addr, in.Header())
	if err != nil {
		return nil, err
	}
	callOf(ctx).known()
	m := g.memory.takeMessage()
	m.wire, m.request = in.Msg.wire, req
	in.Msg.wire = nil
	s.record(ctx, m)
	wire := m.answer.append(nil)
	g.memory.giveMessage(m)
	if err := callOf(ctx).answer(len(wire)); err != nil {
		return nil, err
	}
	return connect.NewResponse(&batchResponse{wire: wire}), nil
}

// recordEvent serves one event of a managed service.
func (g *Gateway) recordEvent(ctx context.Context, in *connect.Request[eventRequest]) (*connect.Response[eventResponse], error) {
	callOf(ctx).charge.settle(int64(len(in.Msg.wire)))
	var req request
	if err := req.splitCall(in.Msg.wire); err != nil {
		return nil, invalid("%w", err)
	}
	if len(req.events) == 0 {
		return nil, invalid("the request has no event")
	}
	md, err := decodeMetadata(req.metadata)
	if err != nil {
		return nil, err
	}
	if _, ok := md.GetIdentifier().GetIdentifier().(*telemetrygatewayv1.Identifier_ManagedService); !ok {
		return nil, unimplemented("RecordEvent is for managed services; instances use RecordEvents or RecordEventBatch")
	}
	s, err := g.newSession(ctx, req.metadata, in.Peer().Addr, in.Header())
	if err != nil {
		return nil, err
	}
	callOf(ctx).known()
	// A message field that occurs more than once is one message, merged.
	var event []byte
	for _, part := range req.events {
		event = merge(event, part)
	}
	m := g.memory.takeMessage()
	m.wire, m.request.events = in.Msg.wire, [][]byte{event}
	s.record(ctx, m)
	v := &m.answer.verdicts[0]
	if err := v.unaryError(m.answer.retryAfter); err != nil {
		return nil, err
	}
	wire, err := proto.Marshal(&telemetrygatewayv1.RecordEventResponse{Verdict: v.proto()})
	if err != nil {
		return nil, internal("marshal response: %w", err)
	}
	return connect.NewResponse(&eventResponse{wire: wire}), nil
}
