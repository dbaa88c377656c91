// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// nested is private metadata of so many objects inside one another.
func nested(depth int) []byte {
	var b []byte
	for range depth {
		// Struct.fields entry {key "a", value Value{struct_value b}}
		entry := append(field(1, []byte("a")), field(2, field(5, b))...)
		b = field(1, entry)
	}
	return b
}

// poison has an event of each kind that can never be published: its ID as far
// as it can be read, its bytes, and the reason.
func poison(t testing.TB) []struct {
	id, reason string
	wire       []byte
} {
	change := func(id string, f func(e *pb.Event)) []byte {
		e := event(id)
		f(e)
		return marshal(t, e)
	}
	withPrivate := func(id string, wire []byte) []byte {
		// The library would not marshal it: parameters.private_metadata.
		return append(marshal(t, event(id)), field(6, field(3, wire))...)
	}
	return []struct {
		id, reason string
		wire       []byte
	}{
		{"p-undecodable", limits.ReasonUndecodable, append(marshal(t, event("p-undecodable")), 0xff, 0xff)},
		{"p-utf8", limits.ReasonInvalidUTF8, append(marshal(t, event("p-utf8")), field(7, field(2, []byte("\xff\xfe")))...)},
		{"p-deep", limits.ReasonTooDeep, withPrivate("p-deep", nested(5000))},
		{"p-nan", limits.ReasonNotFinite, change("p-nan", func(e *pb.Event) {
			e.Parameters.PrivateMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{"n": structpb.NewNumberValue(math.NaN())}}
		})},
		{"", limits.ReasonIDMissing, change("", func(*pb.Event) {})},
		{"p-feature", limits.ReasonFeatureInvalid, change("p-feature", func(e *pb.Event) { e.Feature = "Not A Feature" })},
		{"p-action", limits.ReasonActionInvalid, change("p-action", func(e *pb.Event) { e.Action = "x1" })},
		{"p-time", limits.ReasonTimestampMissing, change("p-time", func(e *pb.Event) { e.Timestamp = nil })},
		{"p-large", limits.ReasonTooLarge, change("p-large", func(e *pb.Event) {
			e.User = &pb.EventUser{AnonymousUserId: proto.String(strings.Repeat("\x01", limits.MessageBytes/6))}
		})},
	}
}

// TestPoison sends a batch of 100 that holds one event of each poison kind, as
// an old client would, which knows only succeeded_events.
func TestPoison(t *testing.T) {
	s := start(t)
	var wires [][]byte
	var wantSucceeded []string
	kinds := poison(t)
	for i := range 100 {
		if i%10 == 3 && i/10 < len(kinds) {
			p := kinds[i/10]
			wires = append(wires, p.wire)
			if p.id != "" {
				wantSucceeded = append(wantSucceeded, p.id)
			}
			continue
		}
		id := fmt.Sprintf("good-%d", i)
		wires = append(wires, marshal(t, event(id)))
		wantSucceeded = append(wantSucceeded, id)
	}
	md := metadataMessage(s.licensedMetadata())
	var events []byte
	for _, w := range wires {
		events = append(events, field(payloadEventsField, w)...)
	}
	conn := s.grpc(t)
	response := rawExchange(t, conn, marshal(t, md), field(streamEventsField, events))[0]

	if !slices.Equal(response.SucceededEvents, wantSucceeded) {
		t.Errorf("succeeded events\n%q, want\n%q", response.SucceededEvents, wantSucceeded)
	}
	if len(response.Verdicts) != 100 || response.RetryAfter != nil {
		t.Fatalf("%d verdicts, retry after %v", len(response.Verdicts), response.RetryAfter)
	}
	dead := messages(t, s.dead, len(kinds))
	for i, p := range kinds {
		v := response.Verdicts[i*10+3]
		if v.Outcome != deadLettered || v.Reason != p.reason || v.Message == "" {
			t.Errorf("%s: verdict %v", p.reason, v)
		}
		letter, err := payload.DecodeDeadLetter(dead[i].Data)
		if err != nil {
			t.Fatalf("%s: %v", p.reason, err)
		}
		if !bytes.Equal(letter.Event, p.wire) || letter.Violation.Reason != p.reason || letter.ReceivedAt.IsZero() {
			t.Errorf("%s: the dead letter has %d bytes for %d, reason %q, time %v", p.reason, len(letter.Event), len(p.wire), letter.Violation.Reason, letter.ReceivedAt)
		}
		if got := attribute(dead[i], "publisher.source"); got != string(identity.LicensedInstance) {
			t.Errorf("%s: sender %q", p.reason, got)
		}
	}
	for _, m := range messages(t, s.topic, 100-len(kinds)) {
		if !strings.HasPrefix(attribute(m, "event.id"), "good-") {
			t.Errorf("message %s is not one of the good events", m.Key)
		}
	}
}

// TestUnknownFieldsSurvive shows that what a newer sender says is not lost.
func TestUnknownFieldsSurvive(t *testing.T) {
	s := start(t)
	newer := append(marshal(t, event("newer")), field(99, []byte("from the future"))...)
	rawExchange(t, s.grpc(t), marshal(t, metadataMessage(unlicensedMetadata("a"))), field(streamEventsField, field(payloadEventsField, newer)))
	m, err := payload.Decode(messages(t, s.topic, 1)[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(m.Event.ProtoReflect().GetUnknown(), protowire.AppendString(nil, "from the future")) {
		t.Errorf("the unknown field is lost: %v", m.Event)
	}
}
