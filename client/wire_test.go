// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// FuzzPacker packs events of sizes that the fuzzer chooses, and decodes the
// messages as a gateway would: every event that fits in a message is in exactly
// one, in order, unchanged, and no bound is crossed.
func FuzzPacker(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint16(20), uint16(40), uint8(2), false)
	f.Add([]byte{0, 0, 0}, uint16(1), uint16(1), uint8(1), false)
	f.Add([]byte{20, 255, 20}, uint16(64), uint16(128), uint8(20), true)
	f.Add([]byte{126, 127, 128, 129, 130}, uint16(137), uint16(138), uint8(1), true) // the length grows a byte
	f.Add([]byte{255, 1}, uint16(10), uint16(20), uint8(3), true)
	f.Add([]byte{}, uint16(10), uint16(20), uint8(3), false)
	f.Fuzz(func(t *testing.T, sizes []byte, full, most uint16, maxEvents uint8, batch bool) {
		if maxEvents == 0 || full > most {
			return // New does not let such options pass
		}
		var events decoded
		for i, n := range sizes {
			events = append(events, &telemetrygatewayv1.Event{Id: strings.Repeat(string(rune('a'+i%26)), int(n))})
		}
		metadata, err := proto.Marshal(&telemetrygatewayv1.RecordEventBatchRequest{
			Metadata: &telemetrygatewayv1.RecordEventsRequestMetadata{RequestId: "r"},
		})
		if err != nil {
			t.Fatal(err)
		}
		p := packer{
			events: events, verdicts: make([]Verdict, len(events)), batch: batch,
			maxEvents: int(maxEvents), full: int(full), most: int(most),
		}
		if batch {
			p.prefix = metadata
		}
		var got decoded
		for from := 0; ; {
			m, n, to := p.next(from)
			if n == 0 {
				if to != len(events) {
					t.Fatalf("stopped at event %d of %d", to, len(events))
				}
				break
			}
			in := decode(t, m.wire, batch)
			if len(in) != n || n > int(maxEvents) {
				t.Fatalf("%d events in a message of %d, at most %d", len(in), n, maxEvents)
			}
			if len(m.wire) > int(most) || n > 1 && len(m.wire) > int(full) {
				t.Fatalf("a message of %d events has %d bytes, bounds %d and %d", n, len(m.wire), full, most)
			}
			got = append(got, in...)
			from = to
		}
		var want decoded
		for i, v := range p.verdicts {
			switch {
			case v.Outcome != Unsendable:
				want = append(want, events[i])
			case proto.Size(events[i])+headRoom+16+len(p.prefix) < int(most):
				t.Errorf("event of %d bytes is too large for a message of %d", proto.Size(events[i]), most)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d events packed, want %d", len(got), len(want))
		}
		for i := range want {
			if !proto.Equal(got[i], want[i]) {
				t.Errorf("event %d has changed", i)
			}
		}
	})
}

func decode(t *testing.T, wire []byte, batch bool) decoded {
	t.Helper()
	if batch {
		var m telemetrygatewayv1.RecordEventBatchRequest
		if err := proto.Unmarshal(wire, &m); err != nil || m.GetMetadata().GetRequestId() != "r" {
			t.Fatalf("metadata %v, %v", m.GetMetadata(), err)
		}
		return m.GetEvents()
	}
	var m telemetrygatewayv1.RecordEventsRequest
	if err := proto.Unmarshal(wire, &m); err != nil || m.GetEvents() == nil {
		t.Fatalf("payload %T, %v", m.GetPayload(), err)
	}
	return m.GetEvents().GetEvents()
}

// An ID in wire format is read as a decoder would read it, and bytes that no
// decoder takes have none.
func FuzzEncodedID(f *testing.F) {
	for _, e := range []*telemetrygatewayv1.Event{{Id: "a", Feature: "search"}, {Feature: "search"}, {}} {
		b, err := proto.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, 0x0a, 1, 'z')) // the last one counts
		f.Add(append(b, 0x0a, 9, 'z')) // cut off
		f.Add(append(b, 0x08, 1))      // not as text
		f.Add(append(b, 0x80))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e telemetrygatewayv1.Event
		if err := proto.Unmarshal(b, &e); err != nil {
			encoded{b}.id(0) // must only not panic
			return
		}
		if got := (encoded{b}).id(0); got != e.GetId() {
			t.Errorf("ID %q, want %q", got, e.GetId())
		}
	})
}
