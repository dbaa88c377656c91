// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// TestFieldNumbers holds the numbers that are written by hand against the
// contract.
func TestFieldNumbers(t *testing.T) {
	for _, row := range []struct {
		message proto.Message
		field   protoreflect.Name
		number  protowire.Number
	}{
		{&pb.RecordEventsRequest{}, "metadata", streamMetadataField},
		{&pb.RecordEventsRequest{}, "events", streamEventsField},
		{&pb.RecordEventsRequest_EventsPayload{}, "events", payloadEventsField},
		{&pb.RecordEventBatchRequest{}, "metadata", callMetadataField},
		{&pb.RecordEventBatchRequest{}, "events", callEventsField},
		{&pb.RecordEventRequest{}, "metadata", callMetadataField},
		{&pb.RecordEventRequest{}, "event", callEventsField},
		{&pb.RecordEventsResponse{}, "succeeded_events", succeededField},
		{&pb.RecordEventsResponse{}, "verdicts", verdictsField},
		{&pb.RecordEventsResponse{}, "retry_after", retryAfterField},
		{&pb.RecordEventBatchResponse{}, "succeeded_events", succeededField},
		{&pb.RecordEventBatchResponse{}, "verdicts", verdictsField},
		{&pb.RecordEventBatchResponse{}, "retry_after", retryAfterField},
		{&pb.EventVerdict{}, "outcome", outcomeField},
		{&pb.EventVerdict{}, "reason", reasonField},
		{&pb.EventVerdict{}, "field", fieldField},
		{&pb.EventVerdict{}, "message", messageField},
	} {
		d := row.message.ProtoReflect().Descriptor()
		f := d.Fields().ByName(row.field)
		if f == nil || f.Number() != row.number {
			t.Errorf("%s.%s: %v, want number %d", d.Name(), row.field, f, row.number)
		}
	}
}

func TestAnswer(t *testing.T) {
	for _, row := range []struct {
		name string
		a    answer
		want *pb.RecordEventsResponse
	}{
		{"nothing", answer{}, &pb.RecordEventsResponse{}},
		{
			"every outcome",
			answer{verdicts: []verdict{
				{id: "a", outcome: accepted},
				{id: "b", outcome: deadLettered, reason: "too_deep", field: "parameters.private_metadata", message: "is nested too deep"},
				{outcome: deadLettered, reason: "id_missing", field: "id"},
				{id: "c", outcome: failed, reason: "topic_unavailable", message: strings.Repeat("x", 300)},
				{id: strings.Repeat("é", 100), outcome: accepted},
			}, retryAfter: 90*time.Second + 5},
			&pb.RecordEventsResponse{
				SucceededEvents: []string{"a", "b", strings.Repeat("é", 100)},
				Verdicts: []*pb.EventVerdict{
					{Outcome: accepted},
					{Outcome: deadLettered, Reason: "too_deep", Field: "parameters.private_metadata", Message: "is nested too deep"},
					{Outcome: deadLettered, Reason: "id_missing", Field: "id"},
					{Outcome: failed, Reason: "topic_unavailable", Message: strings.Repeat("x", 300)},
					{Outcome: accepted},
				},
				RetryAfter: durationpb.New(90*time.Second + 5),
			},
		},
		{"whole seconds", answer{retryAfter: 10 * time.Second}, &pb.RecordEventsResponse{RetryAfter: durationpb.New(10 * time.Second)}},
		{"less than a second", answer{retryAfter: time.Millisecond}, &pb.RecordEventsResponse{RetryAfter: durationpb.New(time.Millisecond)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := new(pb.RecordEventsResponse)
			if err := (proto.UnmarshalOptions{}).Unmarshal(row.a.append(nil), got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func field(n protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), value)
}

// TestSplit compares the splitter with what the protobuf library makes of the
// same bytes.
func TestSplit(t *testing.T) {
	md := func(id string) []byte { return field(1, marshal(t, &pb.RecordEventsRequestMetadata{RequestId: id})) }
	es := func(ids ...string) []byte {
		var payload []byte
		for _, id := range ids {
			payload = append(payload, field(1, marshal(t, &pb.Event{Id: id}))...)
		}
		return field(2, payload)
	}
	for _, row := range []struct {
		name  string
		parts [][]byte
	}{
		{"nothing", nil},
		{"metadata", [][]byte{md("a")}},
		{"empty metadata", [][]byte{field(1, nil)}},
		{"metadata in two parts", [][]byte{md("a"), field(1, marshal(t, &pb.RecordEventsRequestMetadata{Identifier: &pb.Identifier{}}))}},
		{"events", [][]byte{es("a", "b")}},
		{"no events", [][]byte{es()}},
		{"events in two parts", [][]byte{es("a"), es("b", "c")}},
		{"metadata, then events", [][]byte{md("a"), es("b")}},
		{"events, then metadata", [][]byte{es("b"), md("a")}},
		{"back and forth", [][]byte{es("b"), md("a"), es("c"), md("d")}},
		{"unknown fields around", [][]byte{field(77, []byte("x")), es("a"), field(78, nil)}},
		{"a number where there should be a message", [][]byte{protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 3), es("a")}},
	} {
		t.Run(row.name, func(t *testing.T) {
			wire := bytes.Join(row.parts, nil)
			var want pb.RecordEventsRequest
			if err := proto.Unmarshal(wire, &want); err != nil {
				t.Fatal(err)
			}
			got := request{events: [][]byte{[]byte("left over")}}
			if err := got.splitStream(wire); err != nil {
				t.Fatal(err)
			}
			switch p := want.Payload.(type) {
			case *pb.RecordEventsRequest_Metadata:
				if got.arm != metadataArm || len(got.events) != 0 {
					t.Fatalf("arm %v with %d events, want metadata", got.arm, len(got.events))
				}
				merged := new(pb.RecordEventsRequestMetadata)
				if err := proto.Unmarshal(got.metadata, merged); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(p.Metadata, merged, protocmp.Transform()); diff != "" {
					t.Error(diff)
				}
			case *pb.RecordEventsRequest_Events:
				if got.arm != eventsArm || len(got.events) != len(p.Events.Events) {
					t.Fatalf("arm %v with %d events, want %d", got.arm, len(got.events), len(p.Events.Events))
				}
				for i, e := range p.Events.Events {
					if !bytes.Equal(got.events[i], marshal(t, e)) {
						t.Errorf("event %d differs", i)
					}
				}
			case nil:
				if got.arm != noArm {
					t.Errorf("arm %v, want none", got.arm)
				}
			}
		})
	}
}

func TestSplitCall(t *testing.T) {
	var r request
	wire := marshal(t, &pb.RecordEventBatchRequest{Metadata: unlicensedMetadata("a"), Events: events("e", 3)})
	if err := r.splitCall(wire); err != nil || len(r.events) != 3 || !bytes.Equal(r.metadata, marshal(t, unlicensedMetadata("a"))) {
		t.Errorf("%d events, metadata %q, %v", len(r.events), r.metadata, err)
	}
	for name, wire := range map[string][]byte{"cut short": wire[:len(wire)-1], "not protobuf": []byte("GET / HTTP/1.1")} {
		if err := r.splitCall(wire); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	many := bytes.Repeat(field(callEventsField, nil), limits.EventsPerMessage+1)
	if err := r.splitCall(many); err == nil {
		t.Error("too many events: no error")
	}
	if err := r.splitCall(many[2:]); err != nil {
		t.Errorf("just as many events as allowed: %v", err)
	}
}

// TestMergeKeepsWire shows that parts of a message are never written over.
func TestMergeKeepsWire(t *testing.T) {
	wire := []byte("abcdef")
	merged := merge(merge(nil, wire[0:2]), wire[4:6])
	if string(merged) != "abef" || string(wire) != "abcdef" {
		t.Errorf("merged %q, wire %q", merged, wire)
	}
}
