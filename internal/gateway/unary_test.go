// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// TestRecordEventAsks has a row for each way to ask wrongly.
func TestRecordEventAsks(t *testing.T) {
	p := startProvider(t)
	s := start(t, p.introspection)
	token := p.token(t, "pings")
	client := s.connect(t, connect.WithGRPC())
	misspelt := telemetrygatewayv1connect.NewTelemeteryGatewayServiceClient(h2c(t), s.url(), connect.WithGRPC())
	for _, row := range []struct {
		name string
		req  *pb.RecordEventRequest
		code connect.Code
		text string
	}{
		{"no event", &pb.RecordEventRequest{Metadata: managedMetadata("pings")}, connect.CodeInvalidArgument, "no event"},
		{"licensed instance", &pb.RecordEventRequest{Metadata: s.licensedMetadata(), Event: event("a")}, connect.CodeUnimplemented, "RecordEventBatch"},
		{"unlicensed instance", &pb.RecordEventRequest{Metadata: unlicensedMetadata("a"), Event: event("a")}, connect.CodeUnimplemented, "RecordEventBatch"},
		{"no metadata", &pb.RecordEventRequest{Event: event("a")}, connect.CodeInvalidArgument, "no metadata"},
		{"no identifier", &pb.RecordEventRequest{Metadata: &pb.RecordEventsRequestMetadata{}, Event: event("a")}, connect.CodeInvalidArgument, "no identifier"},
		{"empty identifier", &pb.RecordEventRequest{Metadata: &pb.RecordEventsRequestMetadata{Identifier: &pb.Identifier{}}, Event: event("a")}, connect.CodeUnimplemented, ""},
		{"empty service ID", one("", event("a")), connect.CodeInvalidArgument, "service_id is empty"},
		{"request ID too long", &pb.RecordEventRequest{Metadata: &pb.RecordEventsRequestMetadata{RequestId: strings.Repeat("x", limits.RequestIDBytes+1), Identifier: managedMetadata("pings").Identifier}, Event: event("a")}, connect.CodeInvalidArgument, "request_id"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := client.RecordEvent(t.Context(), withToken(token, row.req))
			if code := codeOfError(err); code != row.code || !strings.Contains(err.Error(), row.text) {
				t.Errorf("%v, want %v with %q", err, row.code, row.text)
			}
			if v := detail[*pb.EventVerdict](t, err); v != nil {
				t.Errorf("a verdict on an event that was not looked at: %v", v)
			}
			if _, same := misspelt.RecordEvent(t.Context(), withToken(token, row.req)); same == nil || same.Error() != err.Error() {
				t.Errorf("under the misspelt name: %v, want %v", same, err)
			}
		})
	}
	messages(t, s.topic, 0)
	messages(t, s.dead, 0)
}

// TestRecordEventAnswers has a row for each thing that can become of an event.
// What an error's code and text say, its verdict says too.
func TestRecordEventAnswers(t *testing.T) {
	rejected := failingTopic{err: topic.ErrRejected}
	down := failingTopic{err: errors.New("down")}
	for _, row := range []struct {
		name            string
		event           *pb.Event
		topic           topic.Topic
		dead            topic.Topic
		code            connect.Code // 0 is OK
		text            string       // that the error contains
		outcome         pb.EventVerdict_Outcome
		reason          string
		field           string
		published, kept int
	}{
		{name: "published", event: event("a"), outcome: accepted, published: 1},
		{name: "breaks a rule", event: &pb.Event{Id: "a"}, code: connect.CodeInvalidArgument, text: "feature_invalid: event.feature ", outcome: deadLettered, reason: limits.ReasonFeatureInvalid, field: "feature", kept: 1},
		{name: "breaks a rule further in", event: deep("a"), code: connect.CodeInvalidArgument, text: "too_deep: event.parameters.private_metadata ", outcome: deadLettered, reason: limits.ReasonTooDeep, field: "parameters.private_metadata", kept: 1},
		{name: "no ID", event: event(""), code: connect.CodeInvalidArgument, text: "id_missing: event.id ", outcome: deadLettered, reason: limits.ReasonIDMissing, field: "id", kept: 1},
		{name: "too large", event: large("a", limits.MessageBytes), outcome: deadLettered, reason: limits.ReasonTooLarge, kept: 1},
		{name: "topic down", event: event("a"), topic: down, code: connect.CodeUnavailable, text: "send it again", outcome: failed, reason: limits.ReasonTopicUnavailable},
		{name: "topic refuses for good", event: event("a"), topic: rejected, outcome: deadLettered, reason: limits.ReasonTopicRejected, kept: 1},
		{name: "dead letters down", event: &pb.Event{Id: "a"}, dead: down, code: connect.CodeUnavailable, text: "send it again", outcome: failed, reason: limits.ReasonDeadLetterUnavailable},
		{name: "topic too slow for itself", event: event("a"), topic: failingTopic{err: fmt.Errorf("locked: %w", context.DeadlineExceeded)}, code: connect.CodeUnavailable, outcome: failed, reason: limits.ReasonTopicUnavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := startProvider(t)
			s := start(t, p.introspection, func(o *Options, _ *identity.Options, _ *ServeOptions) {
				o.MaxMessageBytes = 2 * limits.MessageBytes
				if row.topic != nil {
					o.Topic = row.topic
				}
				if row.dead != nil {
					o.DeadLetters = row.dead
				}
			})
			token := p.token(t, "pings")
			for wire, options := range map[string][]connect.ClientOption{"connect": nil, "json": {connect.WithProtoJSON()}, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}} {
				r, err := s.connect(t, options...).RecordEvent(t.Context(), withToken(token, one("pings", row.event)))
				if code := codeOfError(err); code != row.code || err != nil && !strings.Contains(err.Error(), row.text) {
					t.Fatalf("%s: %v, want %v with %q", wire, err, row.code, row.text)
				}
				var v *pb.EventVerdict
				if err == nil {
					v = r.Msg.GetVerdict()
				} else {
					v = detail[*pb.EventVerdict](t, err)
				}
				if v.GetOutcome() != row.outcome || v.GetReason() != row.reason || v.GetField() != row.field {
					t.Errorf("%s: verdict %v, want %v %q in %q", wire, v, row.outcome, row.reason, row.field)
				}
				if wait := detail[*errdetails.RetryInfo](t, err).GetRetryDelay(); (wait != nil) != (row.outcome == failed) {
					t.Errorf("%s: come back after %v with outcome %v", wire, wait, row.outcome)
				}
			}
			messages(t, s.topic, 4*row.published)
			messages(t, s.dead, 4*row.kept)
		})
	}
}

// deep is an event whose private metadata nests too deep.
func deep(id string) *pb.Event {
	e := event(id)
	text := strings.Repeat(`{"a":`, limits.Depth+1) + "1" + strings.Repeat("}", limits.Depth+1)
	if err := protojson.Unmarshal([]byte(`{"parameters":{"privateMetadata":`+text+`}}`), e); err != nil {
		panic(err)
	}
	e.Id, e.Feature, e.Action, e.Timestamp = id, event(id).Feature, event(id).Action, event(id).Timestamp
	return e
}

// TestRecordEventMergesLegacyMetadata has old and new metadata in one event.
func TestRecordEventMergesLegacyMetadata(t *testing.T) {
	p := startProvider(t)
	s := start(t, p.introspection)
	e := event("a")
	e.Parameters = &pb.EventParameters{Metadata: map[string]float64{"new": 0.5, "both": 1.5}, LegacyMetadata: map[string]int64{"old": 7, "both": 1}}
	if _, err := s.connect(t).RecordEvent(t.Context(), withToken(p.token(t, "pings"), one("pings", e))); err != nil {
		t.Fatal(err)
	}
	m, err := payload.Decode(messages(t, s.topic, 1)[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"new": 0.5, "old": 7, "both": 1.5}, m.Event.GetParameters().GetMetadata()); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if old := m.Event.GetParameters().GetLegacyMetadata(); len(old) > 0 {
		t.Errorf("legacy metadata is still there: %v", old)
	}
}

// TestRecordEventOverPlainHTTP reads an error as a program without any library
// does: a status, JSON, and the verdict in it.
func TestRecordEventOverPlainHTTP(t *testing.T) {
	p := startProvider(t)
	s := start(t, p.introspection)
	body := `{"metadata":{"identifier":{"managedService":{"serviceId":"pings"}}},
		"event":{"id":"a","timestamp":"2026-01-02T03:04:05Z","feature":"No Such Form","action":"executed"}}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url()+eventPath, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + p.token(t, "pings")}}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Code    string
		Details []struct{ Type, Value string }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusBadRequest || answer.Code != "invalid_argument" {
		t.Fatalf("status %d, %+v, %v", response.StatusCode, answer, err)
	}
	if len(answer.Details) != 1 || answer.Details[0].Type != "telemetrygateway.v1.EventVerdict" {
		t.Fatalf("details %v", answer.Details)
	}
	wire, err := base64.RawStdEncoding.DecodeString(answer.Details[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	var v pb.EventVerdict
	if err := proto.Unmarshal(wire, &v); err != nil || v.Field != "feature" {
		t.Errorf("verdict %v, %v", &v, err)
	}
}

// TestCanceled has a call end while it waits for a topic: nobody is told, so
// the session is asked.
func TestCanceled(t *testing.T) {
	for name, e := range map[string]*pb.Event{"event": event("a"), "dead letter": {Id: "a"}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := start(t, func(o *Options, _ *identity.Options, _ *ServeOptions) {
				down := failingTopic{err: errors.New("down")}
				o.Topic, o.DeadLetters = hook{down, cancel}, hook{down, cancel}
			})
			session, err := s.newSession(context.WithValue(t.Context(), callKey{}, new(call)), marshal(t, unlicensedMetadata("site")), "127.0.0.1:1", nil)
			if err != nil {
				t.Fatal(err)
			}
			m := &message{request: request{events: [][]byte{marshal(t, e)}}}
			session.record(ctx, m)
			a := &m.answer
			if v := a.verdicts[0]; v.outcome != failed || v.reason != limits.ReasonCanceled || v.field != "" || a.retryAfter == 0 {
				t.Errorf("verdict %+v, retry after %v", v, a.retryAfter)
			}
			if code := codeOfError(a.verdicts[0].unaryError(a.retryAfter)); code != connect.CodeCanceled {
				t.Errorf("code %v", code)
			}
		})
	}
}
