// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// floor is what cannot be avoided: it receives the same bytes with the same
// RPC library, finds each event and its ID, publishes the event's bytes as they
// are, and acknowledges. It checks and encodes nothing.
type floor struct{ topic topic.Topic }

func (f *floor) handler() http.Handler {
	mux := http.NewServeMux()
	path := telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventsProcedure
	mux.Handle(path, connect.NewBidiStreamHandler(path, f.recordEvents,
		connect.WithCodec(bytesCodec{}), connect.WithCompressMinBytes(math.MaxInt)))
	return mux
}

func (f *floor) recordEvents(ctx context.Context, stream *connect.BidiStream[[]byte, []byte]) error {
	var messages []topic.Message
	for first := true; ; first = false {
		wire, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if first {
			continue
		}
		if messages, err = split(messages[:0], *wire); err != nil {
			return err
		}
		if errs := f.topic.Publish(ctx, messages); errs != nil {
			return fmt.Errorf("publish: %w", errors.Join(errs...))
		}
		response := make([]byte, 0, 64*len(messages))
		for i := range messages {
			response = protowire.AppendString(protowire.AppendTag(response, 1, protowire.BytesType), messages[i].Key)
		}
		if err := stream.Send(&response); err != nil {
			return err
		}
	}
}

// split takes a message of events apart. It knows that an event's ID is its
// first field, as the mix makes them.
func split(messages []topic.Message, wire []byte) ([]topic.Message, error) {
	_, _, tag := protowire.ConsumeTag(wire)
	wire, n := protowire.ConsumeBytes(wire[max(tag, 0):])
	if tag < 0 || n < 0 {
		return nil, errors.New("split a message: not in wire format")
	}
	for len(wire) > 0 {
		_, _, tag := protowire.ConsumeTag(wire)
		event, n := protowire.ConsumeBytes(wire[max(tag, 0):])
		if tag < 0 || n < 0 || len(event) < 2 || len(event) < 2+int(event[1]) {
			return nil, errors.New("split events: not in wire format")
		}
		wire = wire[tag+n:]
		messages = append(messages, topic.Message{Key: string(event[2 : 2+event[1]]), Data: event})
	}
	return messages, nil
}

// bytesCodec leaves messages alone.
type bytesCodec struct{}

func (bytesCodec) Name() string                       { return "proto" }
func (bytesCodec) Marshal(m any) ([]byte, error)      { return *m.(*[]byte), nil }
func (bytesCodec) Unmarshal(data []byte, m any) error { *m.(*[]byte) = slices.Clone(data); return nil }
