// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// TestFastTakesEveryField sets each field of the contract alone, to each value
// at the edge of what it can be, and all of them together. A field that the fast
// way does not take would cost its senders' events a factor of twenty.
func TestFastTakesEveryField(t *testing.T) {
	e := newEncoder(t, unlicensed(), payload.KeyFingerprint)
	together := minimalEvent()
	paths := 0
	var visit func(path []protoreflect.FieldDescriptor)
	set := func(event *telemetrygatewayv1.Event, path []protoreflect.FieldDescriptor, f func(protoreflect.Message, protoreflect.FieldDescriptor)) {
		m := event.ProtoReflect()
		for _, field := range path[:len(path)-1] {
			m = m.Mutable(field).Message()
		}
		f(m, path[len(path)-1])
	}
	visit = func(path []protoreflect.FieldDescriptor) {
		field := path[len(path)-1]
		if field.FullName() == "telemetrygateway.v1.EventParameters.legacy_metadata" {
			return // a matter of the plain way
		}
		if len(path) > 1 || field.Message() != nil {
			for _, value := range edgeValues(t, field) {
				paths++
				event := minimalEvent()
				set(event, path, value)
				if !same(t, e, wire(t, event)) {
					t.Errorf("the fast way did not take an event with %s: %v", field.FullName(), event)
				}
				set(together, path, value)
			}
		}
		if m := field.Message(); m != nil && !field.IsMap() && m.FullName().Parent() != "google.protobuf" {
			for i := range m.Fields().Len() {
				visit(append(slices.Clone(path), m.Fields().Get(i)))
			}
		}
	}
	for i := range eventDescriptor.Fields().Len() {
		visit([]protoreflect.FieldDescriptor{eventDescriptor.Fields().Get(i)})
	}
	if !same(t, e, wire(t, together)) {
		t.Errorf("the fast way did not take an event with every field: %v", together)
	}
	if paths < 200 {
		t.Errorf("only %d events were compared", paths)
	}
}

// edgeValues returns functions that set a field to its least, greatest and other
// values at an edge.
func edgeValues(t testing.TB, field protoreflect.FieldDescriptor) (all []func(protoreflect.Message, protoreflect.FieldDescriptor)) {
	value := field
	if field.IsMap() {
		value = field.MapValue()
	}
	var values []protoreflect.Value
	switch value.Kind() {
	case protoreflect.StringKind:
		for _, text := range oddTexts {
			if strings.ToValidUTF8(text, "") == text {
				values = append(values, protoreflect.ValueOfString(text))
			}
		}
	case protoreflect.Int32Kind:
		for _, n := range []int32{math.MinInt32, -1, 0, 1, math.MaxInt32} {
			values = append(values, protoreflect.ValueOfInt32(n))
		}
	case protoreflect.Int64Kind:
		for _, n := range []int64{math.MinInt64, -1, 0, 1, 1<<53 - 1, 1 << 53, 1<<53 + 1, math.MaxInt64} {
			values = append(values, protoreflect.ValueOfInt64(n))
		}
	case protoreflect.DoubleKind:
		for _, bits := range oddDoubles() {
			if n := math.Float64frombits(bits); !math.IsNaN(n) && !math.IsInf(n, 0) {
				values = append(values, protoreflect.ValueOfFloat64(n))
			}
		}
	case protoreflect.MessageKind:
		return append(all, func(m protoreflect.Message, field protoreflect.FieldDescriptor) {
			content := m.NewField(field)
			switch field.Message().FullName() {
			case "google.protobuf.Timestamp":
				copyTo(content.Message(), &timestamppb.Timestamp{Seconds: -62_135_596_800, Nanos: 1})
			case "google.protobuf.Struct":
				copyTo(content.Message(), fullEvent().Parameters.PrivateMetadata)
			}
			m.Set(field, content)
		})
	default:
		t.Fatalf("the contract has a field of kind %v: say which of its values are at an edge", value.Kind())
	}
	for _, v := range values {
		all = append(all, func(m protoreflect.Message, field protoreflect.FieldDescriptor) {
			if field.IsMap() {
				m.Mutable(field).Map().Set(protoreflect.ValueOfString(fmt.Sprintf("recordsPrivateMetadata\u2028%d", len(v.String()))).MapKey(), v)
				return
			}
			m.Set(field, v)
		})
	}
	return all
}
