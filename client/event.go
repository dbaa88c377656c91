// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// errUndecided is that a gateway's error for a single event may be about the
// event or about the call.
var errUndecided = errors.New("the gateway does not say what became of the event")

// single reports whether to send with RecordEvent, which is for one event of a
// service.
func (s *call) single() bool {
	return s.client.identity.tokens != nil && s.events.len() == 1 && !s.client.noEvent.Load()
}

// runEvent sends the only event in a unary call of its own.
//
// A gateway that does not take an event answers with an error, and attaches the
// verdict on the event to it. Old gateways do not. Some of their errors leave it
// open whether the event is at fault, and then it would be sent for ever; the
// error is errUndecided, and the other calls, which tell, are to be made.
func (s *call) runEvent(ctx context.Context, event *connect.Client[message, telemetrygatewayv1.RecordEventResponse]) error {
	if err := s.packUnary(); err != nil {
		return err
	}
	m, n, to := s.packer.next(s.start)
	if n == 0 {
		return nil
	}
	request := connect.NewRequest(m)
	if err := s.authorize(ctx, request.Header()); err != nil {
		return err
	}
	s.sending(span{s.start, to, n})
	r, err := event.CallUnary(ctx, request)
	answer := new(telemetrygatewayv1.RecordEventsResponse)
	switch rpc := answerIn(err); {
	case err == nil && r.Msg.GetVerdict() != nil:
		answer.Verdicts = []*telemetrygatewayv1.EventVerdict{r.Msg.GetVerdict()}
	case err == nil:
		answer.SucceededEvents = []string{s.events.id(s.start)}
	case rpc == nil:
		return err
	default:
		v := verdictIn(rpc)
		if v == nil {
			return s.undecided(rpc, err)
		}
		answer.Verdicts = []*telemetrygatewayv1.EventVerdict{v}
		answer.RetryAfter = durationpb.New(retryAfter(rpc))
	}
	return s.answered(answer)
}

// undecided returns errUndecided if an error without a verdict may be about the
// event, or about the call being unknown; and else err.
func (s *call) undecided(rpc *connect.Error, err error) error {
	switch rpc.Code() {
	case connect.CodeUnimplemented:
		s.client.noEvent.Store(true)
	case connect.CodeInvalidArgument, connect.CodeInternal, connect.CodeUnknown:
	default:
		return err
	}
	s.unheard()
	return errUndecided
}

// verdictIn returns the verdict on the event that a gateway has attached to its
// error, or nil.
func verdictIn(err *connect.Error) *telemetrygatewayv1.EventVerdict {
	for _, d := range err.Details() {
		var v telemetrygatewayv1.EventVerdict
		if d.Type() == string(v.ProtoReflect().Descriptor().FullName()) && proto.Unmarshal(d.Bytes(), &v) == nil &&
			v.GetOutcome() != telemetrygatewayv1.EventVerdict_OUTCOME_ACCEPTED {
			return &v
		}
	}
	return nil
}
