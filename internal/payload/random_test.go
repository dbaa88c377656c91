// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/proto"
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
				entries.Set(protoreflect.ValueOfString(key).MapKey(), r.of(field.MapValue(), entries.NewValue))
			}
		case field.IsList():
			elements := m.Mutable(field).List()
			for range r.IntN(4) {
				elements.Append(r.of(field, elements.NewElement))
			}
		default:
			m.Set(field, r.of(field, func() protoreflect.Value { return m.NewField(field) }))
		}
	}
}

// of returns a value of a field or of an element of it. empty returns an empty
// message of that type.
func (r random) of(field protoreflect.FieldDescriptor, empty func() protoreflect.Value) protoreflect.Value {
	if field.Message() == nil {
		return r.scalar(field)
	}
	m := empty()
	switch field.Message().FullName() {
	case "google.protobuf.Timestamp":
		copyTo(m.Message(), r.timestamp())
	case "google.protobuf.Struct":
		copyTo(m.Message(), r.object(3))
	case "google.protobuf.ListValue":
		copyTo(m.Message(), r.list(3))
	case "google.protobuf.Value":
		copyTo(m.Message(), r.value(3))
	default:
		r.fill(m.Message())
	}
	return m
}

// copyTo copies from into a message of the same type, whichever code is behind
// that.
func copyTo(to protoreflect.Message, from proto.Message) {
	wire, err := proto.Marshal(from)
	if err == nil {
		err = proto.Unmarshal(wire, to.Interface())
	}
	if err != nil {
		panic(err)
	}
}

func (r random) scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(r.text())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(r.text()))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(r.Uint32()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(r.Uint64()))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(r.Uint32())
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(r.Uint64())
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(r.number())
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(r.IntN(values.Len())).Number())
	}
	panic(fmt.Sprintf("the contract has a field of kind %v: teach random about it", field.Kind()))
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
	return structpb.NewListValue(r.list(depth - 1))
}

func (r random) list(depth int) *structpb.ListValue {
	l := &structpb.ListValue{}
	for range r.IntN(4) {
		l.Values = append(l.Values, r.value(depth))
	}
	return l
}
