// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

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
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

var eventDescriptor = (&telemetrygatewayv1.Event{}).ProtoReflect().Descriptor()

// same encodes event in both ways: what the fast way takes has to have the plain
// way's bytes and labels, and Append has to do what the plain way does. It
// reports whether the fast way took it.
func same(t testing.TB, e *payload.Encoder, event []byte) bool {
	t.Helper()
	original := bytes.Clone(event)
	fast, fastLabels, ok := payload.EncodeFast(e, []byte("before"), event, receivedAt)
	plain, labels, v := payload.EncodePlain(e, []byte("before"), event, receivedAt)
	switch {
	case ok && v != nil:
		t.Fatalf("the fast way took %x, but %v", event, v)
	case ok && !bytes.Equal(fast, plain):
		t.Fatalf("%x becomes, in the fast way,\n%s\nand in the plain way\n%s", event, fast, plain)
	case ok && !equalLabels(fastLabels, labels):
		t.Fatalf("labels of %x are, in the fast way,\n%q\nand in the plain way\n%q", event, fastLabels, labels)
	}
	got, gotLabels, gotV := e.Append([]byte("before"), event, receivedAt)
	switch {
	case (v == nil) != (gotV == nil) || v != nil && *v != *gotV:
		t.Fatalf("%x: violation is %v, in the plain way %v", event, gotV, v)
	case v == nil && (!bytes.Equal(got, plain) || !equalLabels(gotLabels, labels)):
		t.Fatalf("%x becomes %s with %q, not %s with %q", event, got, gotLabels, plain, labels)
	case v != nil && string(got) != "before":
		t.Fatalf("dst of %x became %q", event, got)
	}
	if !bytes.Equal(event, original) {
		t.Fatal("the event was changed")
	}
	return ok
}

func equalLabels(a, b payload.Labels) bool {
	return a.EventID == b.EventID && a.Key == b.Key && slices.Equal(a.Attributes, b.Attributes)
}

// typical are events that senders send, all of which the fast way has to take:
// tests that compare would otherwise compare the plain way with itself.
func typical() []*telemetrygatewayv1.Event {
	many := fullEvent()
	for i := range 150 {
		many.Parameters.Metadata[fmt.Sprintf("recordsPrivateMetadata%03d", 149-i)] = float64(i)
		many.FeatureFlags.Flags[fmt.Sprintf("flag-%d", i)] = "true"
	}
	empty := minimalEvent()
	empty.Source, empty.User = &telemetrygatewayv1.EventSource{}, &telemetrygatewayv1.EventUser{UserId: proto.Int64(0), AnonymousUserId: proto.String("")}
	empty.Parameters = &telemetrygatewayv1.EventParameters{PrivateMetadata: &structpb.Struct{}, Metadata: map[string]float64{"": 0}}
	empty.FeatureFlags = &telemetrygatewayv1.EventFeatureFlags{Flags: map[string]string{"": ""}}
	wide := minimalEvent()
	wide.Parameters = &telemetrygatewayv1.EventParameters{PrivateMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{}}}
	for i := range 2 * limits.Depth {
		wide.Parameters.PrivateMetadata.Fields[fmt.Sprint("list ", i)] = structpb.NewListValue(&structpb.ListValue{})
		wide.Parameters.PrivateMetadata.Fields[fmt.Sprint("object ", i)] = structpb.NewStructValue(&structpb.Struct{})
	}
	epoch := minimalEvent()
	epoch.Timestamp = &timestamppb.Timestamp{}
	return []*telemetrygatewayv1.Event{fullEvent(), minimalEvent(), escapesEvent(), many, empty, wide, epoch}
}

// nested returns an event with objects in private metadata down to depth, or with
// lists in the outermost.
func nested(depth int, lists bool) *telemetrygatewayv1.Event {
	inner := structpb.NewBoolValue(true)
	for ; depth > 1; depth-- {
		if lists {
			inner = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{inner}})
		} else {
			inner = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"k": inner}})
		}
	}
	event := minimalEvent()
	event.Parameters = &telemetrygatewayv1.EventParameters{
		PrivateMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"k": inner}},
	}
	return event
}

func TestFastTakesTypicalEvents(t *testing.T) {
	for _, s := range []sender{licensed(), unlicensed(), managedService()} {
		e := newEncoder(t, s, payload.KeyFingerprint)
		for i, event := range typical() {
			if !same(t, e, wire(t, event)) {
				t.Errorf("event %d of %s is encoded in the plain way", i, s.Source)
			}
			sorted, err := proto.MarshalOptions{Deterministic: true}.Marshal(event)
			if err != nil {
				t.Fatal(err)
			}
			if !same(t, e, sorted) {
				t.Errorf("event %d of %s with sorted maps is encoded in the plain way", i, s.Source)
			}
		}
		for _, lists := range []bool{false, true} {
			for depth, want := range map[int]bool{limits.Depth: true, limits.Depth + 1: false} {
				if took := same(t, e, wire(t, nested(depth, lists))); took != want {
					t.Errorf("%d deep, lists %v: the fast way took it: %v", depth, lists, took)
				}
			}
		}
	}
}

// TestUnusualIsPlain holds that the fast way takes nothing that could mean more
// than it looks at, even where it would make the same of it.
func TestUnusualIsPlain(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	original := wire(t, fullEvent())
	const id, timestamp, parameters = 0, 1, 5  // in the event
	const version, private, metadata = 0, 1, 3 // in its parameters
	for name, change := range map[string]func(event *[]*part){
		"out of order": func(event *[]*part) { slices.Reverse(*event) },
		"repeated":     func(event *[]*part) { *event = slices.Insert(*event, id, (*event)[id]) },
		"in parts": func(event *[]*part) {
			*event = slices.Insert(*event, parameters, &part{number: 6, typ: protowire.BytesType})
		},
		"unknown": func(event *[]*part) {
			*event = append(*event, &part{number: 900, typ: protowire.VarintType, value: []byte{1}})
		},
		"group": func(event *[]*part) {
			*event = append(*event, &part{number: 900, typ: protowire.StartGroupType, value: []byte("\xa4\x38")})
		},
		"long tag":           func(event *[]*part) { (*event)[id].padTag = 1 },
		"long length":        func(event *[]*part) { (*event)[id].padLength = 1 },
		"long number":        func(event *[]*part) { (*event)[timestamp].parts[0].padNumber = 1 },
		"zero":               func(event *[]*part) { (*event)[parameters].parts[version].value = []byte{0} },
		"key after value":    func(event *[]*part) { slices.Reverse((*event)[parameters].parts[private].parts[0].parts) },
		"no key":             func(event *[]*part) { p := (*event)[parameters].parts[private].parts[0]; p.parts = p.parts[1:] },
		"no value":           func(event *[]*part) { p := (*event)[parameters].parts[metadata]; p.parts = p.parts[:1] },
		"key twice in a map": func(event *[]*part) { p := (*event)[parameters].parts[private]; p.parts = append(p.parts, p.parts[0]) },
		"key twice in entry": func(event *[]*part) {
			p := (*event)[parameters].parts[private].parts[0]
			p.parts = append(p.parts, p.parts[0])
		},
		"value twice in entry": func(event *[]*part) {
			p := (*event)[parameters].parts[private].parts[0]
			p.parts = append(p.parts, p.parts[1])
		},
		"legacy metadata": func(event *[]*part) {
			p := (*event)[parameters]
			p.parts = slices.Insert(p.parts, 1, &part{number: 2, typ: protowire.BytesType, value: []byte("\x0a\x01a\x10\x01")})
		},
	} {
		tree, _ := takeApart(eventDescriptor, original)
		change(&tree)
		if event := putTogether(tree); same(t, e, event) || bytes.Equal(event, original) {
			t.Errorf("%s: the fast way took it, or nothing was changed", name)
		} else if _, _, v := e.Append(nil, event, receivedAt); v != nil {
			t.Errorf("%s: %v", name, v)
		}
	}
}

// TestFastIsPlainForRandomEvents takes all but those with legacy metadata.
func TestFastIsPlainForRandomEvents(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	random := newRandom(2)
	for range 2000 {
		event := random.event()
		if took, want := same(t, e, wire(t, event)), len(event.GetParameters().GetLegacyMetadata()) == 0; took != want {
			t.Fatalf("the fast way took it: %v, want %v: %v", took, want, event)
		}
	}
}

// mutated are the events whose bytes are changed in every way.
func mutated(t testing.TB) [][]byte {
	random := newRandom(3)
	return [][]byte{
		wire(t, fullEvent()), wire(t, minimalEvent()), wire(t, escapesEvent()), wire(t, legacyEvent()), newerEvent(t),
		wire(t, random.event()), wire(t, random.event()), wire(t, random.event()),
	}
}

func TestFastIsPlainForEveryTruncation(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	for _, event := range mutated(t) {
		for n := range event {
			same(t, e, event[:n:n])
			same(t, e, event[n:])
		}
	}
}

func TestFastIsPlainForEveryFlippedBit(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	took := 0
	for _, event := range mutated(t) {
		for i := range event {
			for bit := range 8 {
				event[i] ^= 1 << bit
				if same(t, e, event) {
					took++
				}
				event[i] ^= 1 << bit
			}
		}
	}
	if took < 5000 {
		t.Errorf("the fast way took only %d of the events", took)
	}
}

// TestFastIsPlainForEveryEdit makes each part of an event odd in each way, then
// several parts at once.
func TestFastIsPlainForEveryEdit(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	edits := edits()
	took, total := 0, 0
	try := func(tree []*part) {
		total++
		if same(t, e, putTogether(tree)) {
			took++
		}
	}
	mutated := mutated(t)
	for _, event := range mutated[:5] {
		tree, ok := takeApart(eventDescriptor, event)
		if !ok || !bytes.Equal(putTogether(tree), event) {
			t.Fatal("an event taken apart and put together is another")
		}
		eachLevel(&tree, func(parts *[]*part) {
			for i := range *parts {
				for _, edit := range edits {
					before := slices.Clone(*parts)
					if edit(parts, i) {
						try(tree)
					}
					*parts = before
				}
			}
		})
	}
	random := newRandom(4)
	for range 5000 {
		tree, _ := takeApart(eventDescriptor, mutated[random.IntN(3)])
		for range 1 + random.IntN(3) {
			if levels := levels(&tree); len(levels) > 0 {
				level := levels[random.IntN(len(levels))]
				edits[random.IntN(len(edits))](level, random.IntN(len(*level)))
			}
		}
		try(tree)
	}
	t.Logf("the fast way took %d of %d events", took, total)
	if took < total/10 || took > total*9/10 {
		t.Errorf("the fast way took %d of %d events", took, total)
	}
}

// oddDoubles returns the bits of numbers at which their form in JSON changes,
// and of some that have none.
func oddDoubles() []uint64 {
	var all []uint64
	add := func(numbers ...float64) {
		for _, n := range numbers {
			all = append(all, math.Float64bits(n), math.Float64bits(-n))
		}
	}
	add(0, 1, 0.1, 1.5, 123456, 1<<53-1, 1<<53, 1<<53+2, 1<<63, 1<<64, math.Pi, 100, 1e15, 123456789012345680,
		math.SmallestNonzeroFloat64, math.MaxFloat64, 0x1p-1022, 0x0.fffffffffffffp-1022, math.NaN(), math.Inf(1))
	for _, n := range []float64{1e-7, 1e-6, 1e-5, 1e-9, 1e-10, 1e-99, 1e-100, 1e20, 1e21, 1e22, 1e99, 1e100, 1<<53 - 1, 1 << 31, 1 << 52} {
		add(n, math.Nextafter(n, 0), math.Nextafter(n, math.Inf(1)), n+0.5)
	}
	return append(all, 0x7ff0000000000001, 0xfff8000000000000)
}

// TestFastIsPlainForNumbers compares the numbers of an event's metadata.
func TestFastIsPlainForNumbers(t *testing.T) {
	e := newEncoder(t, unlicensed(), payload.KeyFingerprint)
	event := minimalEvent()
	event.Parameters = &telemetrygatewayv1.EventParameters{Metadata: map[string]float64{}}
	check := func(n float64) {
		event.Parameters.Metadata["n"] = n
		event.Parameters.PrivateMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{"n": structpb.NewNumberValue(n)}}
		if took := same(t, e, wire(t, event)); took == (math.IsNaN(n) || math.IsInf(n, 0)) {
			t.Fatalf("%v: the fast way took it: %v", n, took)
		}
	}
	for _, bits := range oddDoubles() {
		check(math.Float64frombits(bits))
	}
	for exponent := -330; exponent <= 310; exponent++ {
		check(math.Pow10(exponent))
		check(3 * math.Pow10(exponent))
	}
	random := newRandom(5)
	for range 3000 {
		check(random.number())
	}
}

// TestFastIsPlainForTexts puts every byte into texts, at every place in a run of
// eight, every pair of bytes that could be a character, and every character.
func TestFastIsPlainForTexts(t *testing.T) {
	e := newEncoder(t, unlicensed(), payload.KeyFingerprint)
	event := minimalEvent()
	event.User = &telemetrygatewayv1.EventUser{AnonymousUserId: proto.String("")}
	tree, _ := takeApart(eventDescriptor, wire(t, event))
	user := tree[len(tree)-1].parts[0]
	check := func(text string) {
		user.value = []byte(text)
		same(t, e, putTogether(tree))
	}
	for a := range 256 {
		for place := range 17 {
			check(strings.Repeat("x", place) + string([]byte{byte(a)}) + strings.Repeat("y", 16-place))
		}
		for b := range 256 {
			if a >= 0xc0 || b%16 == 15 { // what a text of two bytes begins with, and samples
				check(string([]byte{byte(a), byte(b)}))
			}
		}
	}
	var block strings.Builder
	for r := rune(0x80); r <= 0x10ffff; r++ {
		if r < 0xd800 || r > 0xdfff {
			block.WriteRune(r)
		}
		if block.Len() >= 1<<14 || r == 0x10ffff {
			user.value = []byte(block.String())
			if !same(t, e, putTogether(tree)) {
				t.Fatalf("the fast way did not take characters before %U", r)
			}
			block.Reset()
		}
	}
	random := newRandom(6)
	for range 3000 {
		text := []byte(random.text() + oddTexts[random.IntN(len(oddTexts))] + random.text())
		check(string(text))
	}
}

// TestFastIsPlainForTimes compares times of every kind of fraction and at the
// ends of years, months and of what a timestamp can be.
func TestFastIsPlainForTimes(t *testing.T) {
	e := newEncoder(t, unlicensed(), payload.KeyFingerprint)
	event := minimalEvent()
	const first, last = -62_135_596_800, 253_402_300_799
	seconds := []int64{first - 1, first, -1, 0, 1, 951_782_399, 951_782_400, 951_868_800, 4_107_542_399, 4_107_542_400, last, last + 1, math.MinInt64, math.MaxInt64}
	random := newRandom(7)
	for range 500 {
		seconds = append(seconds, random.timestamp().Seconds)
	}
	for _, s := range seconds {
		for _, nanos := range []int32{-1, 0, 1, 999, 1000, 120_000, 999_000, 1_000_000, 250_000_000, 999_999_999, 1_000_000_000, math.MinInt32} {
			event.Timestamp = &timestamppb.Timestamp{Seconds: s, Nanos: nanos}
			if took := same(t, e, wire(t, event)); took != event.Timestamp.IsValid() {
				t.Fatalf("%v: the fast way took it: %v", event.Timestamp, took)
			}
		}
	}
}
