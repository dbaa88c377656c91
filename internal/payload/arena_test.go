// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"
	"weak"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// numbered returns an event unlike those of other numbers, in every label. Of
// every seven one is refused, and one goes the plain way.
func numbered(t testing.TB, n int) []byte {
	event := fullEvent()
	event.Id = fmt.Sprintf("event-%d", n)
	event.Feature = "feature." + strings.Repeat("x", n%50)
	event.Action = "action." + strings.Repeat("y", n%40)
	for i := range n % 4 {
		event.Parameters.Metadata[fmt.Sprintf("recordsPrivateMetadata%d-%d", n, i)] = 1
	}
	if n%3 == 0 {
		event.Parameters.PrivateMetadata = nil
	}
	switch n % 7 {
	case 0:
		event.Action = "Not a name"
	case 1:
		event.Id = fmt.Sprintf("event/%d é", n)
	case 2:
		event.Parameters.LegacyMetadata = map[string]int64{fmt.Sprintf("recordsPrivateMetadataOld%d", n): 1}
	}
	return wire(t, event)
}

// encoded is what became of an event.
type encoded struct {
	data      []byte
	labels    payload.Labels
	violation *limits.Violation
}

// encodeAll encodes events as a caller does that keeps them all until it
// publishes: into one buffer, with dead letters among them.
func encodeAll(e *payload.Encoder, buffer []byte, events [][]byte) (all []encoded) {
	for _, event := range events {
		out, labels, v := e.Append(buffer, event, receivedAt)
		if v != nil {
			out, labels = e.AppendDeadLetter(buffer, event, receivedAt, v)
		}
		all = append(all, encoded{out[len(buffer):len(out):len(out)], labels, v})
		buffer = out
	}
	return all
}

// check compares with what a new encoder without an arena makes of each event
// alone.
func check(t *testing.T, name string, events [][]byte, all []encoded) {
	t.Helper()
	for i, event := range events {
		got := all[i]
		want := encodeAll(newEncoder(t, licensed(), payload.KeyFingerprint), nil, [][]byte{event})[0]
		if !bytes.Equal(got.data, want.data) || !equalLabels(got.labels, want.labels) || (got.violation == nil) != (want.violation == nil) {
			t.Fatalf("%s, event %d: %q\n%s\nwant %q\n%s", name, i, got.labels, got.data, want.labels, want.data)
		}
	}
}

// TestArena holds that labels stay as they are until their arena is reset,
// whatever is encoded meanwhile with the same arena or another, and that event
// IDs, which verdicts are made of, stay even longer.
func TestArena(t *testing.T) {
	var events [3][][]byte
	for i := range events {
		for n := range 400 {
			events[i] = append(events[i], numbered(t, 1000*i+n))
		}
	}
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	var a, b payload.Arena
	for round := range 3 { // first with memory that grows, then with the same
		e.Use(&a)
		first := encodeAll(e, nil, events[0])
		for _, event := range first { // as whoever publishes may do
			_ = append(event.labels.Attributes, payload.Label{Key: "one", Value: "more"})
		}
		e.Use(&b)
		second := encodeAll(e, nil, events[1])
		check(t, "first batch", events[0], first)
		check(t, "second batch", events[1], second)

		// The first batch is published, the second is not.
		a.Reset()
		e.Use(&a)
		third := encodeAll(e, nil, events[2])
		check(t, "second batch", events[1], second)
		check(t, "third batch", events[2], third)
		for i, event := range events[0] {
			if _, labels, _ := newEncoder(t, licensed(), payload.KeyFingerprint).Append(nil, event, receivedAt); first[i].labels.EventID != labels.EventID {
				t.Fatalf("round %d: event ID is %q after the arena was reset, it was %q", round, first[i].labels.EventID, labels.EventID)
			}
		}
		a.Reset()
		b.Reset()
	}
}

// TestArenaOfAnotherGoroutine reads the labels of one batch while the next is
// being encoded. The race detector sees what they share.
func TestArenaOfAnotherGoroutine(t *testing.T) {
	var events [2][][]byte
	for i := range events {
		for n := range 200 {
			events[i] = append(events[i], numbered(t, 1000*i+n))
		}
	}
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	var arenas [2]payload.Arena
	var publishing sync.WaitGroup
	for i := range events {
		arenas[i].Reset()
		e.Use(&arenas[i])
		all := encodeAll(e, nil, events[i])
		publishing.Go(func() { check(t, "batch", events[i], all) })
	}
	publishing.Wait()
}

// TestNoAllocations encodes batches of what senders send, with memory that is
// used again.
func TestNoAllocations(t *testing.T) {
	large := fullEvent()
	large.Parameters.Metadata["recordsPrivateMetadataToo"] = 1
	for i := range 200 {
		large.FeatureFlags.Flags[fmt.Sprintf("flag-%03d", i)] = "false"
		large.Parameters.Metadata[fmt.Sprintf("number-%03d", i)] = float64(i) / 7
	}
	for name, event := range map[string]*telemetrygatewayv1.Event{
		"full": fullEvent(), "minimal": minimalEvent(), "large": large, "deep": nested(limits.Depth, false),
	} {
		t.Run(name, func(t *testing.T) {
			e := newEncoder(t, licensed(), payload.KeyFingerprint)
			wire := wire(t, event)
			var buffer []byte
			var a payload.Arena
			now := receivedAt
			batch := func() {
				a.Reset()
				e.Use(&a)
				buffer, now = buffer[:0], now.Add(1)
				for range 100 {
					var v *limits.Violation
					if buffer, _, v = e.Append(buffer, wire, now); v != nil {
						t.Fatal(v)
					}
				}
			}
			batch()
			if n := testing.AllocsPerRun(10, batch); n != 0 {
				t.Errorf("a batch of 100 events takes %v allocations", n)
			}
		})
	}
}

// TestNothingIsKept holds that neither an encoder nor an arena holds on to an
// event: a stream that is idle after a large one would otherwise cost its
// memory.
func TestNothingIsKept(t *testing.T) {
	// The walk gives up in the midst of maps in maps.
	broken := fullEvent()
	broken.Parameters.PrivateMetadata = nested(limits.Depth+1, false).Parameters.PrivateMetadata
	for name, event := range map[string]*telemetrygatewayv1.Event{"full": fullEvent(), "legacy": legacyEvent(), "broken": broken} {
		t.Run(name, func(t *testing.T) {
			e := newEncoder(t, licensed(), payload.KeyFingerprint)
			var a payload.Arena
			e.Use(&a)
			event := slices.Grow(wire(t, event), 1<<10)
			_, labels, _ := e.Append(nil, event, receivedAt)
			a.Reset()
			kept, keptID := weak.Make(&event[0]), weak.Make(unsafe.StringData(labels.EventID))
			event, labels = nil, payload.Labels{}
			for range 3 { // protobuf pools what it made a message's JSON with
				runtime.GC()
			}
			if kept.Value() != nil || keptID.Value() != nil {
				t.Error("the event is still in memory, or what was decoded of it")
			}
			runtime.KeepAlive(e)
			runtime.KeepAlive(&a)
		})
	}
}

// TestMemoryIsReturned holds that an encoder and an arena do not keep what an
// unusual event or batch needed.
func TestMemoryIsReturned(t *testing.T) {
	event := minimalEvent()
	event.FeatureFlags = &telemetrygatewayv1.EventFeatureFlags{Flags: map[string]string{}}
	for i := range 20_000 {
		event.FeatureFlags.Flags[fmt.Sprint(i)] = "true"
	}
	wire := wire(t, event)
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	var a payload.Arena
	e.Use(&a)
	encode(t, e, wire)
	small := numbered(t, 3)
	for range 10_000 {
		encode(t, e, small)
	}
	a.Reset()
	if n := payload.Kept(e, &a); n > 512<<10 {
		t.Errorf("%d bytes are kept", n)
	}
}
