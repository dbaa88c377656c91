// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

const (
	streamCall = "/telemetrygateway.v1.TelemetryGatewayService/RecordEvents"
	eventCall  = "/telemetrygateway.v1.TelemetryGatewayService/RecordEvent"
	batchCall  = "/telemetrygateway.v1.TelemetryGatewayService/RecordEventBatch"
	oldStream  = "/telemetrygateway.v1.TelemeteryGatewayService/RecordEvents"
	oldEvent   = "/telemetrygateway.v1.TelemeteryGatewayService/RecordEvent"
)

func acceptOne(*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventResponse, error) {
	return &telemetrygatewayv1.RecordEventResponse{Verdict: &telemetrygatewayv1.EventVerdict{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_ACCEPTED}}, nil
}

// Every call of a service carries its token: the unary one for one event, the
// stream or the batches for more, and the one that only asks the way.
func TestServiceDelivers(t *testing.T) {
	prod := "prod"
	identifier := &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_ManagedService{
		ManagedService: &telemetrygatewayv1.Identifier_ManagedServiceIdentifier{ServiceId: "pings", ServiceEnvironment: &prod},
	}}
	for _, tt := range []struct {
		name    string
		options client.Options
		events  int
		calls   []string
	}{
		{"gRPC, one", client.Options{}, 1, []string{eventCall}},
		{"gRPC, many", client.Options{}, 100, []string{streamCall}},
		{"old name, one", client.Options{OldServiceName: true}, 1, []string{oldEvent}},
		{"old name, many", client.Options{OldServiceName: true}, 100, []string{oldStream}},
		{"Connect, one", client.Options{Protocol: client.Connect}, 1, []string{eventCall}},
		{"Connect, many", client.Options{Protocol: client.Connect, MessageEvents: 60}, 100, []string{batchCall, batchCall}},
		{"Auto, one", client.Options{Protocol: client.Auto}, 1, []string{streamCall, eventCall}},
		{"Auto, many", client.Options{Protocol: client.Auto}, 100, []string{streamCall, streamCall}},
	} {
		for _, form := range []string{"events", "encoded"} {
			t.Run(tt.name+", "+form, func(t *testing.T) {
				s := &server{event: acceptOne}
				c := newClient(t, s.serve(t), client.Service("pings", "prod", new(numberedTokens)), tt.options)
				events := numbered(tt.events, 10)
				send := func() (client.Result, error) { return c.Send(t.Context(), events...) }
				if form == "encoded" {
					send = func() (client.Result, error) { return c.SendEncoded(t.Context(), encode(t, events)...) }
				}
				r, err := send()
				if err != nil || r.Count(client.Accepted) != tt.events {
					t.Fatalf("%v, %v", outcomes(r), err)
				}
				if !slices.Equal(s.calls, tt.calls) {
					t.Errorf("calls %q, want %q", s.calls, tt.calls)
				}
				for i, h := range s.headers {
					if !slices.Equal(h, []string{"Bearer good-1"}) {
						t.Errorf("call %d has authorization %q", i, h)
					}
				}
				if diff := cmp.Diff(events, s.events(), protocmp.Transform()); diff != "" {
					t.Errorf("received events differ (-sent +received):\n%s", diff)
				}
				for _, m := range s.metadata {
					if m.GetRequestId() != r.RequestID || !proto.Equal(m.GetIdentifier(), identifier) {
						t.Errorf("metadata %v", m)
					}
				}
			})
		}
	}
	// Nobody else has a token, or makes this call.
	s := &server{event: acceptOne}
	if _, err := newClient(t, s.serve(t), site, client.Options{}).Send(t.Context(), numbered(1, 0)...); err != nil {
		t.Error(err)
	}
	if !slices.Equal(s.calls, []string{streamCall}) || len(s.headers[0]) != 0 {
		t.Errorf("an instance makes the calls %q with authorization %q", s.calls, s.headers)
	}
}

// withVerdict is an error about an event, as gateways give it.
func withVerdict(code connect.Code, v *telemetrygatewayv1.EventVerdict, wait time.Duration) error {
	err := connect.NewError(code, errors.New("about the event"))
	details := []proto.Message{v}
	if wait > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	for _, m := range details {
		d, detailErr := connect.NewErrorDetail(m)
		if detailErr != nil {
			return detailErr
		}
		err.AddDetail(d)
	}
	return err
}

// What a gateway answers to a single event means the same as on a stream.
func TestSingleEvent(t *testing.T) {
	answer := func(r *telemetrygatewayv1.RecordEventResponse, err error) func(*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventResponse, error) {
		return func(*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventResponse, error) { return r, err }
	}
	dead := &telemetrygatewayv1.EventVerdict{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_DEAD_LETTERED, Reason: "feature_invalid", Field: "feature", Message: "a small letter first"}
	failed := &telemetrygatewayv1.EventVerdict{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_FAILED, Reason: "publish_failed", Message: "the topic is full"}
	strange := &telemetrygatewayv1.EventVerdict{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_ACCEPTED}
	bare := func(code connect.Code) error { return connect.NewError(code, errors.New("no details")) }
	for _, tt := range []struct {
		name  string
		event func(*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventResponse, error)
		want  client.Verdict
		kind  client.Kind
		wait  time.Duration
		calls string // e for the unary one, s for the stream or a batch
	}{
		{"accepted", acceptOne, client.Verdict{Outcome: client.Accepted}, "", 0, "e"},
		{"accepted by an old gateway", answer(&telemetrygatewayv1.RecordEventResponse{}, nil), client.Verdict{Outcome: client.Accepted}, "", 0, "e"},
		{
			"dead-lettered", answer(&telemetrygatewayv1.RecordEventResponse{Verdict: dead}, nil),
			client.Verdict{Outcome: client.DeadLettered, Reason: "feature_invalid", Field: "feature", Message: "a small letter first"},
			"", 0, "e",
		},
		{
			"dead-lettered with an error", answer(nil, withVerdict(connect.CodeInvalidArgument, dead, 0)),
			client.Verdict{Outcome: client.DeadLettered, Reason: "feature_invalid", Field: "feature", Message: "a small letter first"},
			"", 0, "e",
		},
		{
			"failed", answer(nil, withVerdict(connect.CodeUnavailable, failed, 3*time.Second)),
			client.Verdict{Outcome: client.Failed, Reason: "publish_failed", Message: "the topic is full"},
			"", 3 * time.Second, "e",
		},
		{"unclear", answer(&telemetrygatewayv1.RecordEventResponse{Verdict: &telemetrygatewayv1.EventVerdict{}}, nil), client.Verdict{}, "", 0, "e"},
		{"an error that accepts", answer(nil, withVerdict(connect.CodeUnavailable, strange, 0)), client.Verdict{Reason: client.ReasonUnanswered}, client.Broken, 0, "e"},
		{"stopping", answer(nil, bare(connect.CodeUnavailable)), client.Verdict{Reason: client.ReasonUnanswered}, client.Broken, 0, "e"},
		{"at a limit", answer(nil, detailed(connect.CodeResourceExhausted, "slow down", 2*time.Second)), client.Verdict{Reason: client.ReasonUnanswered}, client.Busy, 2 * time.Second, "e"},
		{"not allowed, with either token", answer(nil, bare(connect.CodePermissionDenied)), client.Verdict{Reason: client.ReasonUnanswered}, client.Refused, 0, "ee"},
		// Old gateways do not say whether the event is at fault; the other calls do.
		{"invalid, old", answer(nil, bare(connect.CodeInvalidArgument)), client.Verdict{Outcome: client.Accepted}, "", 0, "es"},
		{"internal, old", answer(nil, bare(connect.CodeInternal)), client.Verdict{Outcome: client.Accepted}, "", 0, "es"},
		{"no such call", nil, client.Verdict{Outcome: client.Accepted}, "", 0, "es"},
	} {
		for _, o := range []client.Options{{}, {OldServiceName: true}, {Protocol: client.Connect}} {
			t.Run(fmt.Sprintf("%s, protocol %d, old name %v", tt.name, o.Protocol, o.OldServiceName), func(t *testing.T) {
				s := &server{event: tt.event}
				c := newClient(t, s.serve(t), client.Service("pings", "", new(numberedTokens)), o)
				r, err := c.Send(t.Context(), numbered(1, 0)...)
				if e := (*client.Error)(nil); errors.As(err, &e) != (tt.kind != "") || e != nil && e.Kind != tt.kind {
					t.Errorf("error %v, want kind %q", err, tt.kind)
				}
				if diff := cmp.Diff([]client.Verdict{tt.want}, r.Verdicts); diff != "" || r.RetryAfter != tt.wait {
					t.Errorf("retry after %s, want %s; verdict differs (-want +got):\n%s", r.RetryAfter, tt.wait, diff)
				}
				calls := ""
				for _, c := range s.calls {
					calls += map[bool]string{true: "e", false: "s"}[strings.HasSuffix(c, "/RecordEvent")]
				}
				if calls != tt.calls {
					t.Errorf("calls %q, want %q", calls, tt.calls)
				}
				// A call that a gateway does not have is not made again.
				if _, err := c.Send(t.Context(), numbered(1, 0)...); tt.event == nil && (err != nil || strings.HasSuffix(s.calls[len(s.calls)-2], "/RecordEvent")) {
					t.Errorf("then %v, %q", err, s.calls)
				}
			})
		}
	}
}

func TestSingleEventThatCannotBeSent(t *testing.T) {
	s := &server{event: acceptOne}
	c := newClient(t, s.serve(t), client.Service("pings", "", new(numberedTokens)), client.Options{})
	e := numbered(1, 5<<20)
	if r, err := c.Send(t.Context(), e...); err != nil || r.Verdicts[0].Reason != client.ReasonTooLarge || len(s.calls) != 0 {
		t.Errorf("%v, %v, %d calls", reasons(r), err, len(s.calls))
	}
}
