// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

const licenseKey = "c2VjcmV0LWxpY2VuY2Uta2V5"

var site = client.Unlicensed("site-1", "https://one.example.com")

// numbered returns n events with IDs "0", "1" and so on, and names padded to
// extra bytes.
func numbered(n, extra int) []*telemetrygatewayv1.Event {
	events := make([]*telemetrygatewayv1.Event, n)
	for i := range events {
		events[i] = &telemetrygatewayv1.Event{
			Id:        fmt.Sprint(i),
			Timestamp: timestamppb.New(time.Unix(1_700_000_000, 0)),
			Feature:   "codeSearch" + strings.Repeat("x", extra),
			Action:    "executed",
		}
	}
	return events
}

func encode(t testing.TB, events []*telemetrygatewayv1.Event) [][]byte {
	t.Helper()
	encoded := make([][]byte, len(events))
	for i, e := range events {
		b, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		encoded[i] = b
	}
	return encoded
}

func newClient(t testing.TB, url string, id client.Identity, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(url, id, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func outcomes(r client.Result) []client.Outcome {
	var all []client.Outcome
	for _, v := range r.Verdicts {
		all = append(all, v.Outcome)
	}
	return all
}

func reasons(r client.Result) []string {
	var all []string
	for _, v := range r.Verdicts {
		all = append(all, v.Reason)
	}
	return all
}

func TestDelivers(t *testing.T) {
	const (
		named    = "/telemetrygateway.v1.TelemetryGatewayService/RecordEvents"
		misspelt = "/telemetrygateway.v1.TelemeteryGatewayService/RecordEvents"
		batch    = "/telemetrygateway.v1.TelemetryGatewayService/RecordEventBatch"
	)
	for _, tt := range []struct {
		name      string
		id        client.Identity
		options   client.Options
		procedure string
		http      string
		identity  *telemetrygatewayv1.Identifier
	}{
		{
			"grpc, licensed", client.Licensed(licenseKey, "site-1", "https://one.example.com"),
			client.Options{},
			named, "HTTP/2.0",
			&telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_LicensedInstance{
				LicensedInstance: &telemetrygatewayv1.Identifier_LicensedInstanceIdentifier{
					LicenseKey: licenseKey, InstanceId: "site-1", ExternalUrl: "https://one.example.com",
				},
			}},
		},
		{
			"old name, unlicensed", site,
			client.Options{OldServiceName: true},
			misspelt, "HTTP/2.0",
			&telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_UnlicensedInstance{
				UnlicensedInstance: &telemetrygatewayv1.Identifier_UnlicensedInstanceIdentifier{
					InstanceId: "site-1", ExternalUrl: "https://one.example.com",
				},
			}},
		},
		{
			"connect, unlicensed", site,
			client.Options{Protocol: client.Connect},
			batch, "HTTP/1.1",
			&telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_UnlicensedInstance{
				UnlicensedInstance: &telemetrygatewayv1.Identifier_UnlicensedInstanceIdentifier{
					InstanceId: "site-1", ExternalUrl: "https://one.example.com",
				},
			}},
		},
	} {
		for _, form := range []string{"events", "encoded"} {
			t.Run(tt.name+", "+form, func(t *testing.T) {
				s := new(server)
				tt.options.MessageEvents = 30
				c := newClient(t, s.serve(t), tt.id, tt.options)
				events := numbered(100, 10)

				var r client.Result
				var err error
				if form == "events" {
					r, err = c.Send(t.Context(), events...)
				} else {
					r, err = c.SendEncoded(t.Context(), encode(t, events)...)
				}
				if err != nil {
					t.Fatal(err)
				}
				if r.Count(client.Accepted) != 100 || len(r.Verdicts) != 100 {
					t.Errorf("outcomes %v, want 100 times accepted", outcomes(r))
				}
				if diff := cmp.Diff(events, s.events(), protocmp.Transform()); diff != "" {
					t.Errorf("received events differ (-sent +received):\n%s", diff)
				}
				var counts []int
				for _, m := range s.messages {
					counts = append(counts, len(m))
				}
				if !slices.Equal(counts, []int{30, 30, 30, 10}) {
					t.Errorf("events in messages %v, want 30 30 30 10", counts)
				}
				for _, m := range s.metadata {
					if m.GetRequestId() != r.RequestID {
						t.Errorf("request ID %q received, %q returned", m.GetRequestId(), r.RequestID)
					}
					if diff := cmp.Diff(tt.identity, m.GetIdentifier(), protocmp.Transform()); diff != "" {
						t.Errorf("identity differs (-want +got):\n%s", diff)
					}
				}
				for i := range s.calls {
					if s.calls[i] != tt.procedure || s.http[i] != tt.http {
						t.Errorf("called %s over %s, want %s over %s", s.calls[i], s.http[i], tt.procedure, tt.http)
					}
				}
				if wantCalls := map[bool]int{true: 4, false: 1}[tt.options.Protocol == client.Connect]; len(s.calls) != wantCalls {
					t.Errorf("%d calls, want %d", len(s.calls), wantCalls)
				}
			})
		}
	}
}

// What gateways take is stated twice, because this package is public and the
// gateway's limits are not.
func TestWithinTheGatewaysLimits(t *testing.T) {
	if client.MaxMessageEvents > limits.EventsPerMessage || client.DefaultMaxMessageBytes > limits.ReceiveBytes {
		t.Error("the client's messages may be larger than a gateway takes by default")
	}
}

func TestMessageSizes(t *testing.T) {
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect} {
		t.Run(fmt.Sprint(protocol), func(t *testing.T) {
			s := new(server)
			events := numbered(5000, 600)                                // more than fits in one message
			events[0] = numbered(1, 1<<20)[0]                            // first and too large for company
			events[2500] = numbered(1, 3<<20)[0]                         // in the middle
			events[4999] = numbered(1, client.DefaultMessageBytes-80)[0] // last and just too large for company
			r, err := newClient(t, s.serve(t), site, client.Options{Protocol: protocol}).Send(t.Context(), events...)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Count(client.Accepted); got != len(events) || len(s.events()) != len(events) {
				t.Errorf("%d accepted, %d received, want %d", got, len(s.events()), len(events))
			}
			for i, m := range s.messages {
				if len(m) == 0 {
					t.Errorf("message %d is empty", i)
				}
				if len(m) > 1 && s.sizes[i] > client.DefaultMessageBytes {
					t.Errorf("message %d with %d events has %d bytes, want at most %d", i, len(m), s.sizes[i], client.DefaultMessageBytes)
				}
			}
			if len(s.messages) > 9 {
				t.Errorf("%d messages, want no more than it takes", len(s.messages))
			}
		})
	}
}

func TestNothingToSend(t *testing.T) {
	s := new(server)
	c := newClient(t, s.serve(t), site, client.Options{})
	if r, err := c.Send(t.Context()); err != nil || len(r.Verdicts) != 0 || len(s.calls) != 0 {
		t.Errorf("%v, %v, %d calls; want nothing at all", r, err, len(s.calls))
	}
}

func TestVerdicts(t *testing.T) {
	want := []client.Verdict{
		{Outcome: client.Accepted},
		{Outcome: client.DeadLettered, Reason: "feature_invalid", Field: "feature", Message: "a small letter first"},
		{Outcome: client.Failed, Reason: "publish_failed", Message: "the topic is full"},
		{Outcome: client.Failed},
	}
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect} {
		s := &server{answer: func(n int, _ []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
			return &telemetrygatewayv1.RecordEventsResponse{
				Verdicts: []*telemetrygatewayv1.EventVerdict{
					{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_ACCEPTED},
					{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_DEAD_LETTERED, Reason: "feature_invalid", Field: "feature", Message: "a small letter first"},
					{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_FAILED, Reason: "publish_failed", Message: "the topic is full"},
					{},
				},
				// The longest counts, whenever it came.
				RetryAfter: durationpb.New(time.Duration(3-n) * time.Second),
			}, nil
		}}
		var heard []client.Verdict
		c := newClient(t, s.serve(t), site, client.Options{Protocol: protocol, MessageEvents: 4, OnVerdicts: func(first int, vs []client.Verdict) {
			if first != len(heard) {
				t.Errorf("told of event %d, want %d", first, len(heard))
			}
			heard = append(heard, vs...)
		}})
		r, err := c.Send(t.Context(), numbered(8, 0)...)
		if err != nil {
			t.Fatal(err)
		}
		twice := slices.Concat(want, want)
		if diff := cmp.Diff(twice, r.Verdicts); diff != "" {
			t.Errorf("result differs (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(twice, heard); diff != "" {
			t.Errorf("what OnVerdicts was told differs (-want +got):\n%s", diff)
		}
		if r.RetryAfter != 3*time.Second {
			t.Errorf("retry after %s, want 3s", r.RetryAfter)
		}
	}
}

// Old gateways only list the IDs not to send again, in any order.
func TestOldGateway(t *testing.T) {
	for _, tt := range []struct {
		ids, acknowledged string
		want              string // a for accepted, f for failed
	}{
		{"a b c", "c a b", "aaa"},
		{"a b c", "c a", "afa"},
		{"a b c", "", "fff"},
		{"a b c", "a b c x", "aaa"},
		{"a a b", "a b a", "aaa"},
		{"a a b", "a b", "ffa"}, // there is no telling which of the two
	} {
		s := &server{answer: func(int, []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
			return &telemetrygatewayv1.RecordEventsResponse{SucceededEvents: strings.Fields(tt.acknowledged)}, nil
		}}
		c := newClient(t, s.serve(t), site, client.Options{OldServiceName: true})
		events := numbered(3, 0)
		for i, id := range strings.Fields(tt.ids) {
			events[i].Id = id
		}
		for form, send := range map[string]func() (client.Result, error){
			"events":  func() (client.Result, error) { return c.Send(t.Context(), events...) },
			"encoded": func() (client.Result, error) { return c.SendEncoded(t.Context(), encode(t, events)...) },
		} {
			r, err := send()
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, v := range r.Verdicts {
				got += v.Outcome.String()[:1]
			}
			if got != tt.want {
				t.Errorf("%s %q, acknowledged %q: got %s, want %s", form, tt.ids, tt.acknowledged, got, tt.want)
			}
		}
	}
}

func TestUnsendableEventsDoNotHarmOthers(t *testing.T) {
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect} {
		s := new(server)
		events := numbered(7, 0)
		events[0].Feature = "\xff"                         // first
		events[3].Feature = strings.Repeat("x", 4<<20)     // alone larger than a message may be
		events[4].Feature = strings.Repeat("x", 4<<20-300) // fits just so
		events[6].Feature = "\xff"                         // last
		r, err := newClient(t, s.serve(t), site, client.Options{Protocol: protocol}).Send(t.Context(), events...)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{client.ReasonUnencodable, "", "", client.ReasonTooLarge, "", "", client.ReasonUnencodable}
		if got := reasons(r); !slices.Equal(got, want) {
			t.Errorf("reasons %q, want %q", got, want)
		}
		if r.Count(client.Accepted) != 4 || r.Count(client.Unsendable) != 3 {
			t.Errorf("outcomes %v", outcomes(r))
		}
		for i, n := range s.sizes {
			if n > client.DefaultMaxMessageBytes {
				t.Errorf("message %d has %d bytes", i, n)
			}
		}
		for _, v := range r.Verdicts {
			if strings.Contains(v.Message, "xxx") {
				t.Error("a message quotes the event")
			}
		}
	}
}
