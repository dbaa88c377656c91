// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

var discardLog = slog.New(slog.DiscardHandler)

// exchange sends all messages, then half-closes, then reads.
func exchange(t *testing.T, s *server, send ...*pb.RecordEventsRequest) ([]*pb.RecordEventsResponse, error) {
	t.Helper()
	stream := s.connect(t, connect.WithGRPC()).RecordEvents(t.Context())
	for _, m := range send {
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("send: %v", err)
		}
	}
	if err := stream.CloseRequest(); err != nil {
		t.Fatalf("half-close: %v", err)
	}
	var got []*pb.RecordEventsResponse
	for {
		r, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, r)
	}
}

func managedMetadata(id string) *pb.RecordEventsRequestMetadata {
	return &pb.RecordEventsRequestMetadata{Identifier: &pb.Identifier{Identifier: &pb.Identifier_ManagedService{
		ManagedService: &pb.Identifier_ManagedServiceIdentifier{ServiceId: id},
	}}}
}

// TestStreamSemantics has a row for each thing that a client can do on a
// stream, as clients in the field know it.
func TestStreamSemantics(t *testing.T) {
	s := start(t)
	unknownArm := &pb.RecordEventsRequest{}
	unknownArm.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 77, protowire.BytesType), "from the future"))
	both := metadataMessage(unlicensedMetadata("site"))
	md := metadataMessage(unlicensedMetadata("site"))
	for _, row := range []struct {
		name      string
		send      []*pb.RecordEventsRequest
		code      connect.Code // 0 is OK
		text      string       // that the error contains
		succeeded [][]string   // by response
	}{
		{name: "metadata has no response", send: []*pb.RecordEventsRequest{md}},
		{name: "metadata twice", send: []*pb.RecordEventsRequest{md, md}, code: connect.CodeInvalidArgument, text: "only be sent once"},
		{name: "metadata twice after events", send: []*pb.RecordEventsRequest{md, eventsMessage(event("a")), both}, code: connect.CodeInvalidArgument, succeeded: [][]string{{"a"}}},
		{name: "events before metadata", send: []*pb.RecordEventsRequest{eventsMessage(event("a"))}, code: connect.CodeInvalidArgument, text: "events before metadata"},
		{name: "one response per events message", send: []*pb.RecordEventsRequest{md, eventsMessage(event("a"), event("b")), eventsMessage(event("c"))}, succeeded: [][]string{{"a", "b"}, {"c"}}},
		{name: "empty events message", send: []*pb.RecordEventsRequest{md, eventsMessage(), eventsMessage(event("a"))}, succeeded: [][]string{nil, {"a"}}},
		{name: "no payload is ignored", send: []*pb.RecordEventsRequest{{}, md, {}, eventsMessage(event("a")), {}}, succeeded: [][]string{{"a"}}},
		{name: "unknown arm", send: []*pb.RecordEventsRequest{md, unknownArm}, code: connect.CodeInvalidArgument, text: "field 77"},
		{name: "half-close at once", send: nil},
		{name: "licence key that does not parse", send: []*pb.RecordEventsRequest{metadataMessage(licensedMetadata("nonsense"))}, code: connect.CodeInvalidArgument, text: "licence key"},
		{name: "licence key that does not verify", send: []*pb.RecordEventsRequest{metadataMessage(licensedMetadata(s.licenseOther))}, code: connect.CodeInvalidArgument, text: "licence key"},
		{name: "no licence key", send: []*pb.RecordEventsRequest{metadataMessage(licensedMetadata(""))}, code: connect.CodeInvalidArgument},
		{name: "licensed", send: []*pb.RecordEventsRequest{metadataMessage(s.licensedMetadata()), eventsMessage(event("a"))}, succeeded: [][]string{{"a"}}},
		{name: "unlicensed without instance ID", send: []*pb.RecordEventsRequest{metadataMessage(unlicensedMetadata(""))}, code: connect.CodeInvalidArgument, text: "instance_id is empty"},
		{name: "managed service without service ID", send: []*pb.RecordEventsRequest{metadataMessage(managedMetadata(""))}, code: connect.CodeInvalidArgument, text: "service_id is empty"},
		{name: "managed service", send: []*pb.RecordEventsRequest{metadataMessage(managedMetadata("svc"))}, code: connect.CodeUnimplemented, text: "managed services"},
		{name: "no identifier", send: []*pb.RecordEventsRequest{metadataMessage(&pb.RecordEventsRequestMetadata{RequestId: "x"})}, code: connect.CodeInvalidArgument, text: "no identifier"},
		{name: "empty identifier", send: []*pb.RecordEventsRequest{metadataMessage(&pb.RecordEventsRequestMetadata{Identifier: &pb.Identifier{}})}, code: connect.CodeUnimplemented},
		{name: "request ID too long", send: []*pb.RecordEventsRequest{metadataMessage(&pb.RecordEventsRequestMetadata{RequestId: strings.Repeat("x", limits.RequestIDBytes+1), Identifier: unlicensedMetadata("a").Identifier})}, code: connect.CodeInvalidArgument, text: "request_id"},
		{name: "first message too large", send: []*pb.RecordEventsRequest{eventsMessage(events("a", 2000)...)}, code: connect.CodeInvalidArgument, text: "first message"},
		{name: "too many events", send: []*pb.RecordEventsRequest{metadataMessage(s.licensedMetadata()), eventsMessage(make([]*pb.Event, limits.EventsPerMessage+1)...)}, code: connect.CodeInvalidArgument, text: "more than 20000 events"},
		{name: "message too large", send: []*pb.RecordEventsRequest{metadataMessage(s.licensedMetadata()), eventsMessage(large("a", limits.ReceiveBytes))}, code: connect.CodeResourceExhausted, text: "too large"},
		{name: "a bad event does not end the stream", send: []*pb.RecordEventsRequest{md, eventsMessage(&pb.Event{Id: "bad"}), eventsMessage(event("a"))}, succeeded: [][]string{{"bad"}, {"a"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := exchange(t, s, row.send...)
			if code := codeOfError(err); code != row.code {
				t.Fatalf("code %v, want %v (%v)", code, row.code, err)
			}
			if row.text != "" && !strings.Contains(err.Error(), row.text) {
				t.Errorf("error %q does not say %q", err, row.text)
			}
			var succeeded [][]string
			for _, r := range got {
				succeeded = append(succeeded, r.SucceededEvents)
			}
			if !slices.EqualFunc(succeeded, row.succeeded, slices.Equal) {
				t.Errorf("succeeded events %q, want %q", succeeded, row.succeeded)
			}
		})
	}
}

func codeOfError(err error) connect.Code {
	if err == nil {
		return 0
	}
	return connect.CodeOf(err)
}

// large is an event of about so many bytes.
func large(id string, bytes int) *pb.Event {
	e := event(id)
	e.FeatureFlags = &pb.EventFeatureFlags{Flags: map[string]string{"flag": strings.Repeat("x", bytes)}}
	return e
}

// TestUnaryEvent has a row for each thing that can become of RecordEvent.
// Tokens of managed services cannot be verified yet, so that rows that need a
// proven service are those of recordOne.
func TestUnaryEvent(t *testing.T) {
	s := start(t)
	client := s.connect(t, connect.WithGRPC())
	for _, row := range []struct {
		name string
		req  *pb.RecordEventRequest
		code connect.Code
		text string
	}{
		{"no event", &pb.RecordEventRequest{Metadata: managedMetadata("svc")}, connect.CodeInvalidArgument, "no event"},
		{"licensed instance", &pb.RecordEventRequest{Metadata: s.licensedMetadata(), Event: event("a")}, connect.CodeUnimplemented, "RecordEventBatch"},
		{"unlicensed instance", &pb.RecordEventRequest{Metadata: unlicensedMetadata("a"), Event: event("a")}, connect.CodeUnimplemented, "RecordEventBatch"},
		{"no metadata", &pb.RecordEventRequest{Event: event("a")}, connect.CodeInvalidArgument, "no metadata"},
		{"no identifier", &pb.RecordEventRequest{Metadata: &pb.RecordEventsRequestMetadata{}, Event: event("a")}, connect.CodeInvalidArgument, "no identifier"},
		{"empty identifier", &pb.RecordEventRequest{Metadata: &pb.RecordEventsRequestMetadata{Identifier: &pb.Identifier{}}, Event: event("a")}, connect.CodeUnimplemented, ""},
		{"empty service ID", &pb.RecordEventRequest{Metadata: managedMetadata(""), Event: event("a")}, connect.CodeInvalidArgument, "service_id is empty"},
		{"managed service", &pb.RecordEventRequest{Metadata: managedMetadata("svc"), Event: event("a")}, connect.CodeUnimplemented, "does not take events of managed services yet"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := client.RecordEvent(t.Context(), connect.NewRequest(row.req))
			if code := codeOfError(err); code != row.code || !strings.Contains(err.Error(), row.text) {
				t.Errorf("%v, want %v with %q", err, row.code, row.text)
			}
		})
	}
	messages(t, s.topic, 0)
}

// failingTopic answers Publish with an error for each message, to stand for a
// topic whose technology fails.
type failingTopic struct {
	topic.Topic
	err error
}

func (f failingTopic) Publish(_ context.Context, ms []topic.Message) []error {
	return slices.Repeat([]error{f.err}, len(ms))
}

// TestRecordOne has the outcomes of a single event of a sender that is known.
func TestRecordOne(t *testing.T) {
	rejected := failingTopic{err: topic.ErrRejected}
	down := failingTopic{err: errors.New("down")}
	for _, row := range []struct {
		name    string
		event   *pb.Event
		topic   topic.Topic
		dead    topic.Topic
		cancel  bool
		code    connect.Code
		outcome pb.EventVerdict_Outcome
		reason  string
	}{
		{name: "published", event: event("a"), outcome: accepted},
		{name: "breaks a rule", event: &pb.Event{Id: "a"}, code: connect.CodeInvalidArgument, outcome: deadLettered, reason: limits.ReasonFeatureInvalid},
		{name: "too large", event: large("a", limits.MessageBytes), outcome: deadLettered, reason: limits.ReasonTooLarge},
		{name: "topic down", event: event("a"), topic: down, code: connect.CodeUnavailable, outcome: failed, reason: limits.ReasonTopicUnavailable},
		{name: "topic refuses for good", event: event("a"), topic: rejected, outcome: deadLettered, reason: limits.ReasonTopicRejected},
		{name: "dead letters down", event: &pb.Event{Id: "a"}, dead: down, code: connect.CodeUnavailable, outcome: failed, reason: limits.ReasonDeadLetterUnavailable},
		{name: "cancelled", event: event("a"), topic: failingTopic{err: context.Canceled}, code: connect.CodeCanceled, outcome: failed, reason: limits.ReasonCanceled},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := start(t, func(o *Options, _ *identity.Options, _ *ServeOptions) {
				if row.topic != nil {
					o.Topic = row.topic
				}
				if row.dead != nil {
					o.DeadLetters = row.dead
				}
			})
			session, err := s.newSession(t.Context(), marshal(t, unlicensedMetadata("site")), "127.0.0.1:1", nil)
			if err != nil {
				t.Fatal(err)
			}
			a := session.record(t.Context(), [][]byte{marshal(t, row.event)}, 0)
			v := a.verdicts[0]
			if v.outcome != row.outcome || v.reason != row.reason {
				t.Errorf("verdict %v %q, want %v %q", v.outcome, v.reason, row.outcome, row.reason)
			}
			if (a.retryAfter > 0) != (row.outcome == failed) {
				t.Errorf("retry after %v with outcome %v", a.retryAfter, row.outcome)
			}
			if code := codeOfError(v.unaryError(a.retryAfter)); code != row.code {
				t.Errorf("code %v, want %v", code, row.code)
			}
		})
	}
}

// TestRevokedDuringStream shows that a licence stops working in the middle of
// a stream.
func TestRevokedDuringStream(t *testing.T) {
	var identities *identity.Identities
	s := start(t, func(o *Options, i *identity.Options, _ *ServeOptions) {})
	identities = s.o.Identities
	stream := s.connect(t, connect.WithGRPC()).RecordEvents(t.Context())
	send := func(m *pb.RecordEventsRequest) {
		t.Helper()
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	send(metadataMessage(s.licensedMetadata()))
	send(eventsMessage(event("before")))
	if r, err := stream.Receive(); err != nil || len(r.SucceededEvents) != 1 {
		t.Fatal(r, err)
	}
	sender, err := identities.Identify(t.Context(), s.licensedMetadata().Identifier, identity.Peer{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.revokedFile, []byte(sender.License.ID+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := identities.Reload(); err != nil {
		t.Fatal(err)
	}
	send(eventsMessage(event("after")))
	if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("after revocation: %v, want PermissionDenied", err)
	}
	messages(t, s.topic, 1)
}
