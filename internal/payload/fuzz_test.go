// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// FuzzAppend holds for any bytes: they become either a payload that the schema
// accepts and Decode understands, or a violation of a known reason with a dead
// letter that gives them back.
func FuzzAppend(f *testing.F) {
	for _, p := range poisons(f) {
		if len(p.event) < 1<<17 {
			f.Add(p.event)
		}
	}
	for _, e := range []*telemetrygatewayv1.Event{fullEvent(), minimalEvent(), legacyEvent(), escapesEvent()} {
		f.Add(wire(f, e))
	}
	f.Add(newerEvent(f))
	f.Add(deep(f, limits.Depth, false))
	f.Add(deep(f, limits.Depth, true))

	permanent := map[string]bool{}
	for _, r := range limits.Reasons() {
		permanent[r.Code] = r.Permanent
	}
	schema := compileSchema(f)
	e := newEncoder(f, licensed(), payload.KeyFull)
	const before = "before"

	f.Fuzz(func(t *testing.T, event []byte) {
		var decoded telemetrygatewayv1.Event
		decodeErr := proto.Unmarshal(event, &decoded)
		original := bytes.Clone(event)
		out, labels, v := e.Append([]byte(before), event, receivedAt)
		if !bytes.Equal(event, original) || !bytes.HasPrefix(out, []byte(before)) {
			t.Fatal("the event or dst was changed")
		}
		if v != nil {
			if string(out) != before || !permanent[v.Reason] {
				t.Fatalf("dst is %q and the violation %v", out, v)
			}
			switch v.Reason {
			case limits.ReasonInvalidUTF8:
				if decodeErr == nil {
					t.Fatalf("%v, but protobuf decodes it", v)
				}
			case limits.ReasonUndecodable:
				if decodeErr == nil && limits.CheckEvent(&decoded) == nil {
					t.Fatalf("%v, but protobuf decodes it and nothing is wrong with it", v)
				}
			case limits.ReasonTooDeep:
			default:
				if decodeErr != nil {
					t.Fatalf("%v, but protobuf cannot even decode it: %v", v, decodeErr)
				}
				if labels.EventID != decoded.GetId() {
					t.Fatalf("event ID is %q, want %q", labels.EventID, decoded.GetId())
				}
			}
			data, _ := e.AppendDeadLetter(nil, event, receivedAt, v)
			if err := validate(schema, data); err != nil {
				t.Fatal(err)
			}
			letter, err := payload.DecodeDeadLetter(data)
			if err != nil || !bytes.Equal(letter.Event, event) || letter.Violation != *v {
				t.Fatalf("dead letter is %v, %v", letter, err)
			}
			return
		}
		if decodeErr != nil {
			t.Fatalf("the event was encoded, but protobuf cannot decode it: %v", decodeErr)
		}
		data := out[len(before):]
		if err := validate(schema, data); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		m, err := payload.Decode(data)
		if err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		if m.Event.GetId() != decoded.GetId() || labels.EventID != decoded.GetId() || m.Labels["event.id"] != decoded.GetId() {
			t.Fatalf("event IDs are %q, %q and %q, want %q", m.Event.GetId(), labels.EventID, m.Labels["event.id"], decoded.GetId())
		}
	})
}
