// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// A stream that ends early has delivered what was acknowledged, and nothing
// else is taken for delivered.
func TestBrokenStream(t *testing.T) {
	lost := connect.NewError(connect.CodeInternal, errors.New("lost the topic"))
	heard := make(chan bool, 1) // of two answers
	third := func(err error) func(int, []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
		return func(n int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
			if n == 2 {
				<-heard // what is on its way when a connection breaks may be lost
				return nil, err
			}
			return acceptAll(n, events)
		}
	}
	for _, tt := range []struct {
		name     string
		protocol client.Protocol
		server   *server
		kind     client.Kind
		text     string
	}{
		{"error, stream", client.GRPC, &server{answer: third(lost)}, client.Broken, "lost the topic"},
		{"error, batches", client.Connect, &server{answer: third(lost)}, client.Broken, "lost the topic"},
		{"stopping", client.GRPC, &server{answer: third(connect.NewError(connect.CodeUnavailable, errors.New("stopping")))}, client.Broken, "stopping"},
		{"OK too early", client.GRPC, &server{answer: third(errEnd)}, client.NotGateway, "ended the call before"},
		{"stream reset", client.GRPC, &server{answer: third(errReset)}, client.Broken, "broke off the call"},
		{"connection gone, stream", client.GRPC, &server{answer: third(errDisconnect)}, client.Unreachable, "the connection broke"},
		{"connection gone, batches", client.Connect, &server{answer: third(errDisconnect)}, client.Unreachable, "the connection broke"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := tt.server.serve(t)
			c := newClient(t, url, site, client.Options{
				Protocol: tt.protocol, MessageEvents: 10,
				OnVerdicts: func(first int, _ []client.Verdict) {
					if first == 10 {
						heard <- true
					}
				},
			})
			// Large enough that the sender is still at it when the stream ends.
			r, err := c.Send(t.Context(), numbered(2000, 5000)...)
			var e *client.Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want a *client.Error", err)
			}
			if e.Kind != tt.kind || !strings.Contains(e.Error(), tt.text) {
				t.Errorf("kind %s, %v; want %s, with %q", e.Kind, e, tt.kind, tt.text)
			}
			if !strings.Contains(e.Error(), r.RequestID) || len(r.RequestID) != 36 {
				t.Errorf("%v does not name request ID %q", e, r.RequestID)
			}
			for i, v := range r.Verdicts {
				switch {
				case i < 20 && v.Outcome != client.Accepted:
					t.Fatalf("event %d, acknowledged before the end, is %v", i, v)
				case i >= 20 && i < 30 && (v.Outcome != client.Failed || v.Reason != client.ReasonUnanswered):
					t.Fatalf("event %d, sent and unanswered, is %v", i, v)
				case i >= 30 && v.Outcome != client.Failed:
					t.Fatalf("event %d is %v", i, v)
				}
			}
			if last := r.Verdicts[1999].Reason; last != client.ReasonNotSent {
				t.Errorf("the last event is %q, want %q", last, client.ReasonNotSent)
			}
		})
	}
}

func TestWrongAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server *server
		text   string
	}{
		{"one verdict too few", &server{answer: func(n int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
			return acceptAll(n, events[1:])
		}}, "number of verdicts"},
		{"one verdict too many", &server{answer: func(n int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
			return acceptAll(n, append(events, events[0]))
		}}, "number of verdicts"},
		{"one answer too many", &server{afterHalfClose: func(st stream) error {
			return st.Send(&telemetrygatewayv1.RecordEventsResponse{})
		}}, "more messages than were sent"},
	} {
		c := newClient(t, tt.server.serve(t), site, client.Options{})
		_, err := c.Send(t.Context(), numbered(3, 0)...)
		if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != client.NotGateway || !strings.Contains(e.Error(), tt.text) {
			t.Errorf("%s: %v, want one with %q", tt.name, err, tt.text)
		}
	}
}

// Answers may be as large as what is sent: a sender that reads none of them
// before it has sent everything would wait for ever for a gateway that waits
// for it.
func TestReadsWhileSending(t *testing.T) {
	s := &server{answer: func(_ int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
		return &telemetrygatewayv1.RecordEventsResponse{Verdicts: []*telemetrygatewayv1.EventVerdict{{
			Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_DEAD_LETTERED, Message: strings.Repeat("m", 16<<10),
		}}}, nil
	}}
	c := newClient(t, s.serve(t), site, client.Options{MessageEvents: 1})
	r, err := c.Send(t.Context(), numbered(1000, 16<<10)...)
	if err != nil || r.Count(client.DeadLettered) != 1000 {
		t.Errorf("%d dead-lettered, %v; want 1000", r.Count(client.DeadLettered), err)
	}
}

// The context ends the call between two answers, and what was answered counts.
func TestCanceled(t *testing.T) {
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect} {
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("the user had enough")
		release := make(chan struct{})
		s := &server{answer: func(n int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
			if n == 1 {
				<-release
			}
			return acceptAll(n, events)
		}}
		url := s.serve(t)
		c := newClient(t, url, site, client.Options{
			Protocol: protocol, MessageEvents: 1,
			OnVerdicts: func(int, []client.Verdict) { cancel(stopped) },
		})
		r, err := c.Send(ctx, numbered(3, 0)...)
		close(release)
		if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != client.Canceled || !errors.Is(err, stopped) {
			t.Errorf("%v, want one that is %q", err, stopped)
		}
		want := []client.Outcome{client.Accepted, client.Failed, client.Failed}
		if got := outcomes(r); !slices.Equal(got, want) {
			t.Errorf("outcomes %v, want %v", got, want)
		}
	}
}
