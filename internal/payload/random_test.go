// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// random makes events that break no rule.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, seed))} }

func (r random) event() *telemetrygatewayv1.Event {
	e := &telemetrygatewayv1.Event{}
	r.fill(e.ProtoReflect())
	e.Id, e.Feature, e.Action = "id"+r.text(), r.name(), r.name()
	if e.Timestamp == nil {
		e.Timestamp = r.timestamp()
	}
	return e
}

// fill sets each field of m, or does not, at even odds. It learns of new fields
// from the descriptor.
func (r random) fill(m protoreflect.Message) {
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		switch {
		case r.IntN(2) == 0:
		case field.IsMap():
			entries := m.Mutable(field).Map()
			for range r.IntN(4) {
				key := r.text()
				if r.IntN(3) == 0 {
					key = "recordsPrivateMetadata" + key
				}
				entries.Set(protoreflect.ValueOfString(key).MapKey(), r.scalar(field.MapValue().Kind()))
			}
		case field.Message() == nil:
			m.Set(field, r.scalar(field.Kind()))
		case field.Message().FullName() == "google.protobuf.Timestamp":
			m.Set(field, protoreflect.ValueOfMessage(r.timestamp().ProtoReflect()))
		case field.Message().FullName() == "google.protobuf.Struct":
			m.Set(field, protoreflect.ValueOfMessage(r.object(3).ProtoReflect()))
		default:
			r.fill(m.Mutable(field).Message())
		}
	}
}

func (r random) scalar(k protoreflect.Kind) protoreflect.Value {
	switch k {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(r.text())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(r.Uint32()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(r.Uint64()))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(r.number())
	}
	panic(fmt.Sprintf("the contract has a field of kind %v: teach random about it", k))
}

func (r random) number() float64 {
	switch r.IntN(4) {
	case 0:
		return float64(r.IntN(1000) - 500)
	case 1:
		return r.NormFloat64()
	}
	for {
		if n := math.Float64frombits(r.Uint64()); !math.IsNaN(n) && !math.IsInf(n, 0) {
			return n
		}
	}
}

// text returns up to 15 characters, many of them such as JSON must escape.
func (r random) text() string {
	var b strings.Builder
	for range r.IntN(16) {
		switch r.IntN(4) {
		case 0:
			b.WriteRune(rune(r.IntN(0x80)))
		case 1:
			b.WriteRune([]rune("\"\\/<>&\u2028\u2029\ufffd\x7f 😀")[r.IntN(12)])
		case 2:
			b.WriteRune(rune('a' + r.IntN(26)))
		default:
			b.WriteRune(rune(r.IntN(0xd800)))
		}
	}
	return b.String()
}

func (r random) name() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-"
	name := []byte{byte('a' + r.IntN(26))}
	for range 1 + r.IntN(63) {
		name = append(name, letters[r.IntN(len(letters))])
	}
	return string(name)
}

func (r random) timestamp() *timestamppb.Timestamp {
	const first, last = -62135596800, 253402300799
	return &timestamppb.Timestamp{Seconds: first + r.Int64N(last-first+1), Nanos: r.Int32N(1_000_000_000)}
}

func (r random) object(depth int) *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for range r.IntN(4) {
		s.Fields[r.text()] = r.value(depth)
	}
	return s
}

func (r random) value(depth int) *structpb.Value {
	kinds := 4
	if depth > 0 {
		kinds = 6
	}
	switch r.IntN(kinds) {
	case 0:
		return structpb.NewNullValue()
	case 1:
		return structpb.NewBoolValue(r.IntN(2) == 0)
	case 2:
		return structpb.NewNumberValue(r.number())
	case 3:
		return structpb.NewStringValue(r.text())
	case 4:
		return structpb.NewStructValue(r.object(depth - 1))
	}
	list := &structpb.ListValue{}
	for range r.IntN(4) {
		list.Values = append(list.Values, r.value(depth-1))
	}
	return structpb.NewListValue(list)
}
