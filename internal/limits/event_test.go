// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package limits_test

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

func validEvent() *telemetrygatewayv1.Event {
	return &telemetrygatewayv1.Event{
		Id: "e1", Feature: "codeSearch", Action: "executed",
		Timestamp:  &timestamppb.Timestamp{Seconds: 1_700_000_000},
		Parameters: &telemetrygatewayv1.EventParameters{Metadata: map[string]float64{"n": 1}},
	}
}

// nested returns an object at depth 1 that holds further objects, or lists,
// down to depth.
func nested(depth int, lists bool) *structpb.Struct {
	leaf := structpb.NewBoolValue(true)
	for ; depth > 1; depth-- {
		if lists {
			leaf = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{leaf}})
		} else {
			leaf = structpb.NewStructValue(object(leaf))
		}
	}
	return object(leaf)
}

func object(v *structpb.Value) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{"k": v}}
}

func TestCheckEvent(t *testing.T) {
	type event = telemetrygatewayv1.Event
	private := func(s *structpb.Struct) func(*event) {
		return func(e *event) { e.Parameters.PrivateMetadata = s }
	}
	for _, row := range []struct {
		name          string
		change        func(*event)
		reason, field string // both empty when the event is fine
	}{
		{"valid", func(*event) {}, "", ""},
		{"no parameters", func(e *event) { e.Parameters = nil }, "", ""},
		{"no ID", func(e *event) { e.Id = "" }, "id_missing", "id"},
		{"longest ID", func(e *event) { e.Id = strings.Repeat("x", 128) }, "", ""},
		{"ID too long", func(e *event) { e.Id = strings.Repeat("x", 129) }, "id_too_long", "id"},
		{"no feature", func(e *event) { e.Feature = "" }, "feature_invalid", "feature"},
		{"no action", func(e *event) { e.Action = "" }, "action_invalid", "action"},
		{"action with a colon", func(e *event) { e.Action = "persistence:present" }, "action_invalid", "action"},
		{"no timestamp", func(e *event) { e.Timestamp = nil }, "timestamp_missing", "timestamp"},
		{"the epoch", func(e *event) { e.Timestamp = &timestamppb.Timestamp{} }, "", ""},
		{"first second", func(e *event) { e.Timestamp.Seconds = -62135596800 }, "", ""},
		{"before the year 1", func(e *event) { e.Timestamp.Seconds = -62135596801 }, "timestamp_invalid", "timestamp"},
		{"last moment", func(e *event) { e.Timestamp.Seconds, e.Timestamp.Nanos = 253402300799, 999_999_999 }, "", ""},
		{"after the year 9999", func(e *event) { e.Timestamp.Seconds = 253402300800 }, "timestamp_invalid", "timestamp"},
		{"negative nanoseconds", func(e *event) { e.Timestamp.Nanos = -1 }, "timestamp_invalid", "timestamp"},
		{"too many nanoseconds", func(e *event) { e.Timestamp.Nanos = 1_000_000_000 }, "timestamp_invalid", "timestamp"},
		{"NaN", func(e *event) { e.Parameters.Metadata["n"] = math.NaN() }, "not_finite", "parameters.metadata"},
		{"infinite", func(e *event) { e.Parameters.Metadata["n"] = math.Inf(1) }, "not_finite", "parameters.metadata"},
		{"minus infinite", func(e *event) { e.Parameters.Metadata["n"] = math.Inf(-1) }, "not_finite", "parameters.metadata"},
		{"largest number", func(e *event) { e.Parameters.Metadata["n"] = math.MaxFloat64 }, "", ""},
		{"empty private metadata", private(&structpb.Struct{}), "", ""},
		{"private NaN", private(object(structpb.NewNumberValue(math.NaN()))), "not_finite", "parameters.private_metadata"},
		{"private NaN in a list", private(object(structpb.NewListValue(&structpb.ListValue{
			Values: []*structpb.Value{structpb.NewNumberValue(math.NaN())},
		}))), "not_finite", "parameters.private_metadata"},
		{"value of no kind", private(object(&structpb.Value{})), "undecodable", "parameters.private_metadata"},
		{"nil value", private(object(nil)), "undecodable", "parameters.private_metadata"},
		{"deepest objects", private(nested(32, false)), "", ""},
		{"objects too deep", private(nested(33, false)), "too_deep", "parameters.private_metadata"},
		{"deepest lists", private(nested(32, true)), "", ""},
		{"lists too deep", private(nested(33, true)), "too_deep", "parameters.private_metadata"},
		{"much too deep", private(nested(100_000, false)), "too_deep", "parameters.private_metadata"},

		{"ID before feature", func(e *event) { e.Id, e.Feature = "", "" }, "id_missing", "id"},
		{"feature before action", func(e *event) { e.Feature, e.Action = "", "" }, "feature_invalid", "feature"},
		{"action before timestamp", func(e *event) { e.Action, e.Timestamp = "", nil }, "action_invalid", "action"},
		{"timestamp before numbers", func(e *event) { e.Timestamp, e.Parameters.Metadata["n"] = nil, math.NaN() }, "timestamp_missing", "timestamp"},
		{"depth before numbers", private(&structpb.Struct{Fields: map[string]*structpb.Value{
			"a": structpb.NewNumberValue(math.NaN()), "b": structpb.NewStructValue(nested(32, false)), "c": {},
		}}), "too_deep", "parameters.private_metadata"},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := validEvent()
			row.change(e)
			v := limits.CheckEvent(e)
			if v == nil {
				v = &limits.Violation{}
			} else if v.Message == "" {
				t.Error("the violation has no message")
			}
			if diff := cmp.Diff([]string{row.reason, row.field}, []string{v.Reason, v.Field}); diff != "" {
				t.Errorf("reason and field (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNames holds the rule for features and actions against the regular
// expression that the original service uses.
func TestNames(t *testing.T) {
	rule := regexp.MustCompile(`^[a-z][a-zA-Z-\.]+$`)
	names := []string{"", "aB.", "a_b", "a1b", "Ab", "-ab", ".ab", "ab\n", "aé", strings.Repeat("a", 64), strings.Repeat("a", 65)}
	for c := range 256 {
		names = append(names, string([]byte{byte(c)}), string([]byte{'a', byte(c)}), string([]byte{byte(c), 'a'}), string([]byte{'a', byte(c), 'Z'}))
	}
	for _, name := range names {
		want := rule.MatchString(name) && len(name) <= 64
		e := validEvent()
		e.Feature = name
		if got := limits.CheckEvent(e) == nil; got != want {
			t.Errorf("feature %q: valid is %v, want %v", name, got, want)
		}
		e = validEvent()
		e.Action = name
		if got := limits.CheckEvent(e) == nil; got != want {
			t.Errorf("action %q: valid is %v, want %v", name, got, want)
		}
	}
}

func TestViolationsNeverQuoteTheEvent(t *testing.T) {
	e := validEvent()
	for _, change := range []func(){
		func() { e.Parameters.Metadata = map[string]float64{"canary": math.NaN()} },
		func() { e.Action = "canary!" },
		func() { e.Feature = "canary!" },
		func() { e.Id = strings.Repeat("canary", 100) },
	} {
		change()
		v := limits.CheckEvent(e)
		if v == nil {
			t.Fatal("the event was accepted")
		}
		if strings.Contains(v.Error(), "canary") {
			t.Errorf("%q quotes the event", v)
		}
	}
}

func TestReasons(t *testing.T) {
	code := regexp.MustCompile(`^[a-z]+[0-9]*(_[a-z0-9]+)*$`)
	seen := map[string]bool{}
	permanent := true
	for _, r := range limits.PipelineReasons() {
		if !code.MatchString(r.Code) || seen[r.Code] || r.Meaning == "" || !r.Permanent {
			t.Errorf("reason %q is misspelt, listed twice, not explained or not for good", r.Code)
		}
		seen[r.Code] = true
	}
	for _, r := range limits.Reasons() {
		if !code.MatchString(r.Code) || seen[r.Code] || r.Meaning == "" {
			t.Errorf("reason %q is misspelt, listed twice or not explained", r.Code)
		}
		if r.Permanent && !permanent {
			t.Errorf("permanent reason %q stands after one that is not", r.Code)
		}
		seen[r.Code], permanent = true, r.Permanent
	}
}
