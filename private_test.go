// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

type (
	color    string
	settings map[color]int
	secret   struct{ Password string }
	loop     *loop
)

// private returns what an event has of one private value.
func private(t *testing.T, v any) (any, error) {
	t.Helper()
	r, events := recorder(t, options)
	err := r.Record(context.Background(), "search", "executed", telemetry.Params{PrivateMetadata: telemetry.PrivateMetadata{"v": v}})
	if err != nil {
		events.Want()
		return nil, err
	}
	return events.Last().GetParameters().GetPrivateMetadata().AsMap()["v"], nil
}

func TestPrivateMetadata(t *testing.T) {
	text, pointer := "text", new(string)
	*pointer = "pointed"
	for _, row := range []struct {
		name      string
		give, get any
	}{
		{"nil", nil, nil},
		{"nil pointer", (*string)(nil), nil},
		{"nil map", map[string]any(nil), nil},
		{"nil slice", []string(nil), nil},
		{"nil with a method", (*big.Int)(nil), nil},
		{"bool", true, true},
		{"text", text, "text"},
		{"type of text", color("red"), "red"},
		{"int", 7, 7.0},
		{"largest int", math.MaxInt64, float64(math.MaxInt64)},
		{"smallest int", math.MinInt64, float64(math.MinInt64)},
		{"largest uint", uint64(math.MaxUint64), float64(math.MaxUint64)},
		{"int8", int8(-7), -7.0},
		{"float32", float32(0.5), 0.5},
		{"duration", time.Second, 1e9},
		{"JSON number", json.Number("1.5"), 1.5},
		{"bytes", []byte{0xff, 0}, "/wA="},
		{"time", now, "2026-03-04T05:06:07.000008Z"},
		{"UUID", uuid.Max, uuid.Max.String()},
		{"address", netip.MustParseAddr("::1"), "::1"},
		{"big number", big.NewInt(1), "1"},
		{"pointer", pointer, "pointed"},
		{"pointer to pointer", &pointer, "pointed"},
		{"texts", []string{"a", "b"}, []any{"a", "b"}},
		{"array", [2]int{1, 2}, []any{1.0, 2.0}},
		{"empty list", []string{}, []any{}},
		{"mixed list", []any{1, "a", nil, []any{true}}, []any{1.0, "a", nil, []any{true}}},
		{"map", map[string]any{"a": map[string]int{"b": 1}}, map[string]any{"a": map[string]any{"b": 1.0}}},
		{"type of map", settings{"red": 1}, map[string]any{"red": 1.0}},
		{"empty map", map[string]any{}, map[string]any{}},
		{"private metadata", telemetry.PrivateMetadata{"a": 1}, map[string]any{"a": 1.0}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := private(t, row.give)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.get, got); diff != "" {
				t.Errorf("private metadata (-want +got):\n%s", diff)
			}
		})
	}
}

// What is not taken names its type and nothing of its value, and takes the
// values beside it along: nobody knows what they are worth without it.
func TestPrivateMetadataOfNoForm(t *testing.T) {
	const canary = "canary"
	for _, v := range []any{
		secret{canary},
		&secret{canary},
		[]any{map[string]any{"deep": secret{canary}}},
		make(chan string),
		func() {},
		complex(1, 2),
		map[int]string{1: canary},
		errors.New(canary),
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), // its method fails
		json.Number(canary),
	} {
		r, events := recorder(t, options)
		err := r.Record(context.Background(), "search", "executed", telemetry.Params{PrivateMetadata: telemetry.PrivateMetadata{"v": v, "beside": canary}})
		if err != nil {
			t.Errorf("%T: %v", v, err)
			continue
		}
		got := events.Last().GetParameters().GetPrivateMetadata().AsMap()
		why, _ := got["telemetry.error"].(string)
		if len(got) != 1 || !strings.Contains(why, "of type") || strings.Contains(why, canary) {
			t.Errorf("%T: private metadata = %v, want only telemetry.error with a type", v, got)
		}
	}
	r, events := recorder(t, options)
	r.TryRecord(context.Background(), "search", "executed", telemetry.Params{PrivateMetadata: telemetry.PrivateMetadata{"v": make(chan secret)}})
	got := events.Last().GetParameters().GetPrivateMetadata().AsMap()["telemetry.error"]
	if want := "a value of type chan telemetry_test.secret cannot be recorded"; got != want {
		t.Errorf("telemetry.error = %q, want %q", got, want)
	}
}

// Values that nothing can be done with break a rule. They cost no more than
// what is within the limits, even if they have no end.
func TestPrivateMetadataBeyondLimits(t *testing.T) {
	var itself any
	itself = &itself
	var turns loop
	turns = &turns
	cycle := map[string]any{}
	for _, key := range strings.Split("abcdefghijklmnop", "") {
		cycle[key] = cycle
	}
	list := make([]any, 2)
	list[0], list[1] = list, list
	nested := func(depth int) any {
		var v any = map[string]any{}
		for range depth - 2 { // the outermost object is the metadata itself
			v = []any{v}
		}
		return v
	}
	// Sixteen lists of sixteen lists and so on, all of them the same few.
	var bomb any // nothing, and a great deal of it
	for range 20 {
		bomb = []any{bomb, bomb, bomb, bomb, bomb, bomb, bomb, bomb, bomb, bomb, bomb, bomb, bomb, bomb, bomb, bomb}
	}
	for _, row := range []struct {
		name   string
		v      any
		reason string
	}{
		{"map in itself", cycle, limits.ReasonTooDeep},
		{"list in itself", list, limits.ReasonTooDeep},
		{"pointer to itself", itself, limits.ReasonTooDeep},
		{"pointer type of itself", turns, limits.ReasonTooDeep},
		{"just too deep", nested(limits.Depth + 1), limits.ReasonTooDeep},
		{"wide and deep", bomb, limits.ReasonTooLarge},
		{"text", strings.Repeat("x", limits.RecordedEventBytes), limits.ReasonTooLarge},
		{"bytes", make([]byte, limits.RecordedEventBytes), limits.ReasonTooLarge},
		{"list", make([]bool, limits.RecordedEventBytes), limits.ReasonTooLarge},
		{"NaN", math.NaN(), limits.ReasonNotFinite},
		{"infinite", []float32{float32(math.Inf(1))}, limits.ReasonNotFinite},
		{"text that is not UTF-8", "\xff", limits.ReasonInvalidUTF8},
		{"key that is not UTF-8", map[string]any{"\xff": 1}, limits.ReasonInvalidUTF8},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := private(t, row.v)
			var invalid telemetry.InvalidEvents
			if !errors.As(err, &invalid) || len(invalid) != 1 {
				t.Fatalf("Record = %v, want an invalid event", err)
			}
			if got := invalid[0]; got.Reason != row.reason || got.Field != "parameters.private_metadata" && got.Field != "" {
				t.Errorf("invalid event = %+v, want %s of private metadata", got, row.reason)
			}
		})
	}
	if _, err := private(t, nested(limits.Depth)); err != nil {
		t.Errorf("%d deep: %v", limits.Depth, err)
	}
}

// FuzzPrivateMetadata gives what JSON may hold, and wants the same back.
func FuzzPrivateMetadata(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `[]`, `"text"`, `{"a":[1,2.5,-1e300,true,null,"é"],"b":{"c":{}}}`, `[[[[]]]]`,
		strings.Repeat("[", 40) + strings.Repeat("]", 40), `"\ud800"`, `1e308`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, document string) {
		var v any
		if json.Unmarshal([]byte(document), &v) != nil {
			return
		}
		got, err := private(t, v)
		if errors.As(err, new(telemetry.InvalidEvents)) {
			return
		}
		if err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("private metadata = %v, %v; want %v", got, err, v)
		}
	})
}
