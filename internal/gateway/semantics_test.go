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
	"time"

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
		{name: "managed service", send: []*pb.RecordEventsRequest{metadataMessage(managedMetadata("svc"))}, code: connect.CodeUnimplemented, text: "-oauth-issuer"},
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

// failingTopic answers Publish with an error for each message, to stand for a
// topic whose technology fails.
type failingTopic struct {
	topic.Topic
	err error
}

func (f failingTopic) Publish(_ context.Context, ms []topic.Message) []error {
	return slices.Repeat([]error{f.err}, len(ms))
}

// hook calls before on the way to a topic.
type hook struct {
	topic.Topic
	before func()
}

func (h hook) Publish(ctx context.Context, ms []topic.Message) []error {
	h.before()
	return h.Topic.Publish(ctx, ms)
}

// batchesTopic notes how large the batches are that it is given.
type batchesTopic struct {
	topic.Topic
	messages, bytes []int
}

func (b *batchesTopic) Publish(ctx context.Context, ms []topic.Message) []error {
	bytes := 0
	for _, m := range ms {
		bytes += len(m.Data)
	}
	b.messages, b.bytes = append(b.messages, len(ms)), append(b.bytes, bytes)
	return b.Topic.Publish(ctx, ms)
}

// TestChunks publishes as many events at once as there may be, and no more
// bytes than are gathered for a batch and one turn.
func TestChunks(t *testing.T) {
	for _, row := range []struct {
		name   string
		events []*pb.Event
		full   int // batches
	}{
		{"many", events("a", 2*limits.RequestMessages+1), 2},
		{"large", slices.Repeat([]*pb.Event{large("a", 100_000)}, 25), 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			batches := &batchesTopic{Topic: topic.NewMemory(5000)}
			s := start(t, func(o *Options, _ *identity.Options, _ *ServeOptions) { o.Topic = batches })
			got, err := exchange(t, s, metadataMessage(s.licensedMetadata()), eventsMessage(row.events...))
			if err != nil || len(got) != 1 || len(got[0].SucceededEvents) != len(row.events) {
				t.Fatal(err)
			}
			full := 0
			for i, n := range batches.messages {
				if n > limits.RequestMessages || batches.bytes[i] > limits.ChunkBytes+turnBytes+110_000 {
					t.Errorf("a batch has %d messages and %d bytes", n, batches.bytes[i])
				}
				if n == limits.RequestMessages {
					full++
				}
			}
			if full != row.full || len(batches.messages) != 3 {
				t.Errorf("batches of %d messages, %d of them full", batches.messages, full)
			}
		})
	}
}

// TestRateLimited sends more than an unlicensed sender may: all of the message
// fails, and the sender is told when it may come back.
func TestRateLimited(t *testing.T) {
	s := start(t, func(_ *Options, i *identity.Options, _ *ServeOptions) {
		i.Unlicensed.Burst, i.Unlicensed.Rate = 5, 0.001 // the metadata takes one
	})
	md := metadataMessage(unlicensedMetadata("site"))
	got, err := exchange(t, s, md, eventsMessage(events("a", 3)...), eventsMessage(events("b", 3)...), eventsMessage(events("c", 6)...), eventsMessage(event("d")))
	if err != nil || len(got) != 4 {
		t.Fatal(got, err)
	}
	for i, want := range []struct {
		outcome pb.EventVerdict_Outcome
		reason  string
		wait    time.Duration // at least
	}{
		{outcome: accepted},
		{failed, limits.ReasonRateLimited, 1900 * time.Second}, // two events' worth
		{failed, limits.ReasonRateLimited, retryAfter},         // no wait would help
		{outcome: accepted},
	} {
		r := got[i]
		if (len(r.SucceededEvents) > 0) != (want.outcome == accepted) {
			t.Errorf("message %d: succeeded %q", i, r.SucceededEvents)
		}
		for _, v := range r.Verdicts {
			if v.Outcome != want.outcome || v.Reason != want.reason {
				t.Errorf("message %d: %v, want %v %s", i, v, want.outcome, want.reason)
			}
		}
		if wait := r.RetryAfter.AsDuration(); wait < want.wait || wait > want.wait+110*time.Second || want.wait == retryAfter && wait != retryAfter {
			t.Errorf("message %d: retry after %v, want about %v", i, wait, want.wait)
		}
	}
	messages(t, s.topic, 4)

	// A call that is not let in at all has it in its error.
	_, err = exchange(t, s, md)
	var e *connect.Error
	if !errors.As(err, &e) || e.Code() != connect.CodeResourceExhausted || e.Meta().Get("Retry-After") == "" {
		t.Fatalf("one call too many: %v", err)
	}
	if len(e.Details()) != 1 || e.Details()[0].Type() != "google.rpc.RetryInfo" {
		t.Errorf("details are %v, want a RetryInfo", e.Details())
	}
	limited := verdict{outcome: failed, reason: limits.ReasonRateLimited}
	if code := codeOfError(limited.unaryError(1500 * time.Millisecond)); code != connect.CodeResourceExhausted {
		t.Errorf("a single event that is limited: %v", code)
	}
	errors.As(limited.unaryError(1500*time.Millisecond), &e)
	if after := e.Meta().Get("Retry-After"); after != "2" {
		t.Errorf("to come back after 1.5 s is %q in whole seconds", after)
	}
}

// TestRevokedDuringStream shows that a licence stops working in the middle of
// a stream.
func TestRevokedDuringStream(t *testing.T) {
	s := start(t)
	identities := s.o.Identities
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
