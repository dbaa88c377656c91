// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// numberedTokens gives out good-1, and another one each time that one is
// forgotten.
type numberedTokens struct{ forgotten atomic.Int64 }

func (s *numberedTokens) present() string { return fmt.Sprintf("good-%d", s.forgotten.Load()+1) }

func (s *numberedTokens) Token(context.Context) (string, error) { return s.present(), nil }

func (s *numberedTokens) Forget(token string) {
	if token == s.present() {
		s.forgotten.Add(1)
	}
}

var errUnauthenticated = connect.NewError(connect.CodeUnauthenticated, errors.New("the token has expired"))

// A token that the gateway does not take is replaced within the same call. What
// was answered before is not sent again, and everything else is.
func TestTokenIsReplaced(t *testing.T) {
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect, client.Auto} {
		for _, n := range []int{1, 100} {
			t.Run(fmt.Sprintf("at once, protocol %d, %d events", protocol, n), func(t *testing.T) {
				s := &server{event: acceptOne, admit: func(a string) error {
					if a != "Bearer good-2" {
						return errUnauthenticated
					}
					return nil
				}}
				c := newClient(t, s.serve(t), client.Service("pings", "", new(numberedTokens)), client.Options{Protocol: protocol})
				r, err := c.Send(t.Context(), numbered(n, 0)...)
				if err != nil || r.Count(client.Accepted) != n || len(s.events()) != n {
					t.Errorf("%v, %v; %d received", outcomes(r), err, len(s.events()))
				}
			})
		}
		t.Run(fmt.Sprintf("on the way, protocol %d", protocol), func(t *testing.T) {
			var refusals atomic.Int64
			s := &server{answer: func(n int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
				// Each token lasts for three messages.
				if n%4 == 3 {
					refusals.Add(1)
					return nil, errUnauthenticated
				}
				return acceptAll(n, events)
			}}
			var heard []int
			c := newClient(t, s.serve(t), client.Service("pings", "", new(numberedTokens)), client.Options{
				Protocol: protocol, MessageEvents: 10, OnVerdicts: func(first int, _ []client.Verdict) { heard = append(heard, first) },
			})
			r, err := c.Send(t.Context(), numbered(100, 0)...)
			if err != nil || r.Count(client.Accepted) != 100 || refusals.Load() != 3 {
				t.Fatalf("%v, %v after %d refusals", outcomes(r), err, refusals.Load())
			}
			if want := []int{0, 10, 20, 30, 40, 50, 60, 70, 80, 90}; !slices.Equal(heard, want) {
				t.Errorf("heard of %v, want %v", heard, want)
			}
		})
	}
}

// A gateway that takes no token is asked twice, and then it is an error; and so
// it is at once when there is no other token.
func TestTokenIsRefused(t *testing.T) {
	down := errors.New("the provider is down")
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect, client.Auto} {
		for _, n := range []int{1, 100} {
			for _, tt := range []struct {
				name   string
				source func() client.TokenSource
				calls  int
				kind   client.Kind
				text   string
			}{
				{"another one", func() client.TokenSource { return new(numberedTokens) }, 2, client.Refused, "the token has expired"},
				{"the same", func() client.TokenSource { return fixedToken("good-1") }, 1, client.Refused, "the token has expired"},
				{"none", func() client.TokenSource { return &failsAfter{1, down} }, 1, client.NoToken, "provider is down"},
			} {
				s := &server{event: acceptOne, admit: func(string) error { return errUnauthenticated }}
				r, err := newClient(t, s.serve(t), client.Service("pings", "", tt.source()), client.Options{Protocol: protocol}).Send(t.Context(), numbered(n, 0)...)
				var e *client.Error
				if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(err.Error(), tt.text) || r.Count(client.Failed) != n || len(s.calls) != tt.calls {
					t.Errorf("%s, protocol %d, %d events: %v after %d calls; want kind %s after %d", tt.name, protocol, n, err, len(s.calls), tt.kind, tt.calls)
				}
			}
		}
	}
}

type failsAfter struct {
	n   int
	err error
}

func (f *failsAfter) Token(context.Context) (string, error) {
	if f.n--; f.n < 0 {
		return "", f.err
	}
	return "good-1", nil
}

// Without a token that has the form of one, nothing is sent.
func TestNoToken(t *testing.T) {
	s := &server{event: acceptOne}
	url := s.serve(t)
	cause := errors.New("no such file")
	for _, tt := range []struct {
		source client.TokenSource
		text   string
	}{
		{&failsAfter{0, cause}, "no such file"},
		{fixedToken(""), "empty"},
		{fixedToken("="), "characters"},
		{fixedToken("a b"), "characters"},
		{fixedToken("a=b"), "characters"},
		{fixedToken("a\r\nHost: b"), "characters"},
		{fixedToken("ä"), "characters"},
		{fixedToken(strings.Repeat("x", 17<<10)), "17408 bytes"},
	} {
		for _, protocol := range []client.Protocol{client.GRPC, client.Connect, client.Auto} {
			for _, n := range []int{1, 2} {
				r, err := newClient(t, url, client.Service("pings", "", tt.source), client.Options{Protocol: protocol}).Send(t.Context(), numbered(n, 0)...)
				var e *client.Error
				if !errors.As(err, &e) || e.Kind != client.NoToken || !strings.Contains(err.Error(), tt.text) || r.Count(client.Failed) != n || r.Verdicts[0].Reason != client.ReasonNotSent {
					t.Errorf("token %.20q, protocol %d: %v, %v", tt.source, protocol, reasons(r), err)
				}
				if strings.Contains(tt.text, "file") && !errors.Is(e, cause) {
					t.Errorf("%v does not unwrap to its cause", e)
				}
			}
		}
	}
	if len(s.calls) != 0 {
		t.Errorf("%d calls were made", len(s.calls))
	}
}

// A source that waits ends with the caller's context.
func TestTokenIsWaitedFor(t *testing.T) {
	s := new(server)
	c := newClient(t, s.serve(t), client.Service("pings", "", waiting{}), client.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := c.Send(ctx, numbered(1, 0)...); !errors.Is(err, enough) {
		t.Errorf("%v, want one that is %q", err, enough)
	} else if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != client.Canceled {
		t.Errorf("%v is not of the kind %s", err, client.Canceled)
	}
}

type waiting struct{}

func (waiting) Token(ctx context.Context) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// A gateway that quotes the token does not bring it into errors or verdicts.
func TestTokenIsRedacted(t *testing.T) {
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect, client.Auto} {
		for _, n := range []int{1, 2} {
			s := &server{admit: func(a string) error { return connect.NewError(connect.CodePermissionDenied, errors.New("not you: "+a)) }}
			c := newClient(t, s.serve(t), client.Service("pings", "", new(numberedTokens)), client.Options{Protocol: protocol})
			_, err := c.Send(t.Context(), numbered(n, 0)...)
			for e := err; e != nil; e = errors.Unwrap(e) {
				if text := fmt.Sprintf("%v %+v", e, e); strings.Contains(text, "good-1") || !strings.Contains(text, "[token]") {
					t.Errorf("protocol %d, %d events: %s", protocol, n, text)
				}
			}
			v := &telemetrygatewayv1.EventVerdict{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_FAILED, Reason: "good-1", Field: "good-1", Message: "Bearer good-1"}
			s = &server{
				event: func(*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventResponse, error) {
					return nil, withVerdict(connect.CodeUnavailable, v, 0)
				},
				answer: func(_ int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
					return &telemetrygatewayv1.RecordEventsResponse{Verdicts: slices.Repeat([]*telemetrygatewayv1.EventVerdict{v}, len(events))}, nil
				},
			}
			r, err := newClient(t, s.serve(t), client.Service("pings", "", new(numberedTokens)), client.Options{Protocol: protocol}).Send(t.Context(), numbered(n, 0)...)
			if err != nil || r.Verdicts[0] != (client.Verdict{Reason: "[token]", Field: "[token]", Message: "Bearer [token]"}) {
				t.Errorf("protocol %d, %d events: %v, %v", protocol, n, r.Verdicts, err)
			}
		}
	}
}

// A token that takes long is not held against the gateway: with the protocol
// Auto it must not look as if gRPC did not get through.
func TestSlowToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(server)
		c, _ := connectedAs(t, s.handler(), "http://gateway.example.com", client.Service("pings", "", slowToken{}), client.Options{
			Protocol: client.Auto, AllowCleartextToken: true,
		})
		if r, err := c.Send(t.Context(), numbered(2, 0)...); err != nil || r.Count(client.Accepted) != 2 || !slices.Equal(s.calls, []string{streamCall, streamCall}) {
			t.Errorf("%v, %v, calls %q", outcomes(r), err, s.calls)
		}
	})
}

type slowToken struct{}

func (slowToken) Token(context.Context) (string, error) {
	time.Sleep(20 * time.Second) // of the test's time
	return "good-1", nil
}
