// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// poison is an event that can never be published, and why.
type poison struct {
	name          string
	event         []byte
	reason, field string
	id            string // what of the ID can be read
}

// field appends a length-delimited field to the wire bytes of a message.
func field(message []byte, number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, number, protowire.BytesType), content)
}

// deep returns an event whose private metadata is nested to depth: objects, or
// lists within one object. It is written inside out, since no library would.
func deep(t testing.TB, depth int, lists bool) []byte {
	// Every layer goes before what is there, so the bytes are built backwards.
	var back []byte
	wrap := func(number protowire.Number) {
		head := protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.BytesType), uint64(len(back)))
		for i := len(head) - 1; i >= 0; i-- {
			back = append(back, head[i])
		}
	}
	for depth--; depth > 0; depth-- {
		if lists && depth > 1 {
			wrap(6) // Value.list_value
			wrap(1) // ListValue.values
			continue
		}
		if lists {
			wrap(6)
		} else {
			wrap(5) // Value.struct_value
		}
		wrap(2) // the value of a map entry
		wrap(1) // Struct.fields
	}
	wrap(3) // EventParameters.private_metadata
	wrap(6) // Event.parameters
	inner := make([]byte, 0, len(back))
	for i := len(back) - 1; i >= 0; i-- {
		inner = append(inner, back[i])
	}
	return append(wire(t, minimalEvent()), inner...)
}

// poisons returns one event of each kind.
func poisons(t testing.TB) []poison {
	id := minimalEvent().Id
	good := wire(t, minimalEvent())
	changed := func(change func(e *telemetrygatewayv1.Event)) []byte {
		e := fullEvent()
		e.Id = id
		change(e)
		return wire(t, e)
	}
	private := func(v *structpb.Value) []byte {
		return changed(func(e *telemetrygatewayv1.Event) { e.Parameters.PrivateMetadata.Fields["x"] = v })
	}
	with := func(number protowire.Number, content ...byte) []byte {
		return field(bytes.Clone(good), number, content)
	}
	notUTF8 := []byte{'a', 0xff}
	mapEntry := func(key, value []byte) []byte { return field(field(nil, 1, key), 2, value) }

	return []poison{
		{"empty", nil, "id_missing", "id", ""},
		{"one byte", []byte{0xff}, "undecodable", "", ""},
		{"random", []byte("not protobuf at all"), "undecodable", "", ""},
		{"cut in the ID", good[:10], "undecodable", "id", ""},
		{"cut at the end", good[:len(good)-1], "undecodable", "action", id},
		{"field number 0", append(bytes.Clone(good), 0x02, 0x00), "undecodable", "", id},
		{"field number too large", append(bytes.Clone(good), 0x80, 0x80, 0x80, 0x80, 0x10, 0), "undecodable", "", id},
		{"end of no group", append(bytes.Clone(good), 0x0c), "undecodable", "id", id},
		{"unknown field is cut", append(bytes.Clone(good), 0xa2, 0x38, 9), "undecodable", "", id},
		{"source is not a message", with(5, 0xff), "undecodable", "source", id},
		{"source has a field number too large", with(5, 0x80, 0x80, 0x80, 0x80, 0x10, 0), "undecodable", "source", id},
		{"server is not a message", with(5, 0x0a, 1, 0xff), "undecodable", "source.server", id},
		{"client version is cut", with(5, 0x12, 2, 0x12, 9), "undecodable", "source.client.version", id},
		{"timestamp is not a message", with(2, 0x08), "undecodable", "timestamp", id},
		{"private metadata is not a message", with(6, 0x1a, 1, 0xff), "undecodable", "parameters.private_metadata", id},
		{"metadata entry is not a message", with(6, 0x2a, 1, 0xff), "undecodable", "parameters.metadata", id},
		{"flag is not a message", with(8, 0x0a, 2, 0x0a, 9), "undecodable", "feature_flags.flags", id},
		{"value of no kind", private(&structpb.Value{}), "undecodable", "parameters.private_metadata", id},

		{"ID is not UTF-8", with(1, notUTF8...), "invalid_utf8", "id", ""},
		{"feature is not UTF-8", with(3, notUTF8...), "invalid_utf8", "feature", id},
		{"user is not UTF-8", with(7, field(nil, 2, notUTF8)...), "invalid_utf8", "user.anonymous_user_id", id},
		{"country is not UTF-8", with(10, field(nil, 3, field(nil, 1, notUTF8))...), "invalid_utf8", "interaction.geolocation.country_code", id},
		{"flag is not UTF-8", with(8, field(nil, 1, mapEntry([]byte("k"), notUTF8))...), "invalid_utf8", "feature_flags.flags", id},
		{"metadata key is not UTF-8", with(6, field(nil, 5, field(nil, 1, notUTF8))...), "invalid_utf8", "parameters.metadata", id},
		{"legacy key is not UTF-8", with(6, field(nil, 2, field(nil, 1, notUTF8))...), "invalid_utf8", "parameters.legacy_metadata", id},
		{
			"private text is not UTF-8",
			with(6, field(nil, 3, field(nil, 1, mapEntry([]byte("k"), field(nil, 3, notUTF8))))...),
			"invalid_utf8", "parameters.private_metadata", id,
		},

		{"objects too deep", deep(t, 33, false), "too_deep", "parameters.private_metadata", id},
		{"lists too deep", deep(t, 33, true), "too_deep", "parameters.private_metadata", id},
		{"5,000 deep", deep(t, 5_000, false), "too_deep", "parameters.private_metadata", id},
		{"100,000 deep", deep(t, 100_000, false), "too_deep", "parameters.private_metadata", id},
		{"100,000 lists deep", deep(t, 100_000, true), "too_deep", "parameters.private_metadata", id},

		{"NaN", changed(func(e *telemetrygatewayv1.Event) { e.Parameters.Metadata["x"] = math.NaN() }), "not_finite", "parameters.metadata", id},
		{"private NaN", private(structpb.NewNumberValue(math.NaN())), "not_finite", "parameters.private_metadata", id},
		{"private infinity", private(structpb.NewNumberValue(math.Inf(-1))), "not_finite", "parameters.private_metadata", id},

		{"no ID", changed(func(e *telemetrygatewayv1.Event) { e.Id = "" }), "id_missing", "id", ""},
		{
			"ID too long", changed(func(e *telemetrygatewayv1.Event) { e.Id = strings.Repeat("x", 129) }),
			"id_too_long", "id", strings.Repeat("x", 129),
		},
		{"bad feature", changed(func(e *telemetrygatewayv1.Event) { e.Feature = "a1" }), "feature_invalid", "feature", id},
		{"bad action", changed(func(e *telemetrygatewayv1.Event) { e.Action = "" }), "action_invalid", "action", id},
		{"no timestamp", changed(func(e *telemetrygatewayv1.Event) { e.Timestamp = nil }), "timestamp_missing", "timestamp", id},
		{"bad timestamp", changed(func(e *telemetrygatewayv1.Event) { e.Timestamp.Nanos = -1 }), "timestamp_invalid", "timestamp", id},
		{
			"too large after escaping",
			changed(func(e *telemetrygatewayv1.Event) {
				e.User.AnonymousUserId = proto.String(strings.Repeat("\x01", limits.MessageBytes/6))
			}),
			"too_large", "", id,
		},
	}
}

func TestPoison(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	neighbour, _ := encode(t, e, wire(t, fullEvent()))
	for _, p := range poisons(t) {
		t.Run(p.name, func(t *testing.T) {
			event := bytes.Clone(p.event)
			dst, labels, v := e.Append(bytes.Clone(neighbour), event, receivedAt)
			if v == nil {
				t.Fatal("the event was encoded")
			}
			if v.Reason != p.reason || v.Field != p.field || v.Message == "" {
				t.Errorf("violation is %+v, want reason %q and field %q", *v, p.reason, p.field)
			}
			if !bytes.Equal(dst, neighbour) || !bytes.Equal(event, p.event) {
				t.Error("dst or the event was changed")
			}
			if labels.EventID != p.id || labels.Key != "" || labels.Attributes != nil {
				t.Errorf("labels are %v, want only the event ID %q", labels, p.id)
			}
			checkDeadLetter(t, e, p, v)

			if again, _ := encode(t, e, wire(t, fullEvent())); !bytes.Equal(again, neighbour) {
				t.Error("the next event is encoded differently")
			}
		})
	}
}

// checkDeadLetter makes a dead letter of p and reads it back.
func checkDeadLetter(t *testing.T, e *payload.Encoder, p poison, v *limits.Violation) {
	t.Helper()
	data, labels := e.AppendDeadLetter([]byte("before"), p.event, receivedAt, v)
	letter, err := payload.DecodeDeadLetter(bytes.TrimPrefix(data, []byte("before")))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(letter.Event, p.event) || letter.Violation != *v || !letter.ReceivedAt.Equal(receivedAt) {
		t.Error("the dead letter does not give back what went in")
	}
	attributes := map[string]string{}
	for _, a := range labels.Attributes {
		attributes[a.Key] = a.Value
		if letter.Labels[a.Key] != a.Value {
			t.Errorf("label %q is not as the attribute", a.Key)
		}
	}
	id := p.id
	if len(id) > limits.EventIDBytes {
		id = ""
	}
	if attributes["deadletter.reason"] != p.reason || attributes["event.id"] != id ||
		attributes["publisher.source"] != "licensed_instance" || attributes["publisher.id"] != "site-1" ||
		attributes["license.id"] != "L-7f3a" {
		t.Errorf("attributes are %v", attributes)
	}
	if labels.EventID != p.id || labels.Key != "license/L-7f3a/site-1/"+id {
		t.Errorf("ID is %q and key %q", labels.EventID, labels.Key)
	}
}

// TestEveryPermanentReasonHasPoison leaves only the reason that a topic gives.
func TestEveryPermanentReasonHasPoison(t *testing.T) {
	seen := map[string]bool{limits.ReasonTopicRejected: true}
	for _, p := range poisons(t) {
		seen[p.reason] = true
	}
	for _, r := range limits.Reasons() {
		if r.Permanent && !seen[r.Code] {
			t.Errorf("no event of the test is refused as %s", r.Code)
		}
	}
}

// TestDeepest encodes the deepest events that are let through.
func TestDeepest(t *testing.T) {
	for _, lists := range []bool{false, true} {
		// The innermost object or list is empty: it still counts.
		encode(t, newEncoder(t, unlicensed(), payload.KeyFingerprint), deep(t, limits.Depth, lists))
	}
}

// TestSize finds the largest event that fits, however much dst holds already,
// and adds one byte to it.
func TestSize(t *testing.T) {
	e := newEncoder(t, unlicensed(), payload.KeyFingerprint)
	event := minimalEvent()
	event.User = &telemetrygatewayv1.EventUser{AnonymousUserId: proto.String("")}
	data, labels := encode(t, e, wire(t, event))
	size := len(data) + len(labels.Key) + 2*limits.AttributeOverhead
	for _, a := range labels.Attributes {
		size += len(a.Key) + len(a.Value) + limits.AttributeOverhead
	}
	event.User.AnonymousUserId = proto.String(strings.Repeat("x", limits.MessageBytes-size))
	if _, _, v := e.Append(make([]byte, 1000), wire(t, event), receivedAt); v != nil {
		t.Errorf("the largest event that fits: %v", v)
	}
	event.User.AnonymousUserId = proto.String(strings.Repeat("x", limits.MessageBytes-size+1))
	if _, _, v := e.Append(nil, wire(t, event), receivedAt); v == nil || v.Reason != limits.ReasonTooLarge {
		t.Errorf("violation is %v, want too_large", v)
	}
}

// TestLargestDeadLetterFits makes the dead letter of the largest event that a
// gateway before Pub/Sub may receive.
func TestLargestDeadLetterFits(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFull)
	data, labels := e.AppendDeadLetter(nil, make([]byte, limits.ReceivePubSubBytes), receivedAt, &limits.Violation{Reason: limits.ReasonUndecodable})
	size := len(data) + len(labels.Key) + 2*limits.AttributeOverhead
	for _, a := range labels.Attributes {
		size += len(a.Key) + len(a.Value) + limits.AttributeOverhead
	}
	if size > limits.MessageBytes {
		t.Errorf("the dead letter takes %d bytes, more than %d", size, limits.MessageBytes)
	}
}
