// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// inspect walks the wire bytes of an event before they are decoded. It names
// the field in which they are broken, which proto.Unmarshal cannot, and refuses
// deep nesting before memory is spent on it. unknown tells that the event has
// fields, or fields of a wire type, that this version does not know; they are
// no violation.
func inspect(event []byte) (unknown bool, v *limits.Violation) {
	v = inspectMessage(event, telemetrygatewayv1.File_telemetrygateway_v1_telemetrygateway_proto.
		Messages().ByName("Event"), 0, &unknown)
	return unknown, v
}

// inspectMessage walks b as a message of type md, at the given depth of objects
// and lists of private metadata. Those are the only types that can hold
// themselves, so their depth bounds the recursion.
func inspectMessage(b []byte, md protoreflect.MessageDescriptor, depth int, unknown *bool) *limits.Violation {
	switch md.FullName() {
	case "google.protobuf.Struct", "google.protobuf.ListValue":
		if depth++; depth > limits.Depth {
			return &limits.Violation{Reason: limits.ReasonTooDeep, Message: fmt.Sprintf("is nested more than %d deep", limits.Depth)}
		}
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || num > protowire.MaxValidNumber {
			return malformed()
		}
		b = b[n:]
		field := md.Fields().ByNumber(num)
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return within(field, malformed())
		}
		value := b[:n]
		b = b[n:]

		if field == nil || !fits(field, typ) {
			*unknown = true
			continue
		}
		switch field.Kind() {
		case protoreflect.MessageKind:
			content, _ := protowire.ConsumeBytes(value)
			if v := inspectMessage(content, field.Message(), depth, unknown); v != nil {
				return within(field, v)
			}
		case protoreflect.StringKind:
			if content, _ := protowire.ConsumeBytes(value); !utf8.Valid(content) {
				return within(field, &limits.Violation{Reason: limits.ReasonInvalidUTF8, Message: "is not valid UTF-8"})
			}
		}
	}
	return nil
}

func malformed() *limits.Violation {
	return &limits.Violation{Reason: limits.ReasonUndecodable, Message: "is not a whole protobuf message of its type"}
}

// within puts the name of field, which may be unknown, before the path of v.
func within(field protoreflect.FieldDescriptor, v *limits.Violation) *limits.Violation {
	if field == nil {
		return v
	}
	name := string(field.Name())
	// The fields of a map's entries and of Google's types say nothing more.
	if m := field.Message(); v.Field != "" && !field.IsMap() && m.FullName().Parent() != "google.protobuf" {
		name += "." + v.Field
	}
	v.Field = name
	return v
}

// fits reports whether field may be written as typ. Repeated numbers may always
// be packed.
func fits(field protoreflect.FieldDescriptor, typ protowire.Type) bool {
	own := wireType(field.Kind())
	return typ == own || field.IsList() && typ == protowire.BytesType && own >= 0
}

// wireType returns how values of a kind are written, or -1 for kinds that the
// contract does not use: a field of such a kind counts as unknown, which loses
// nothing.
func wireType(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.BoolKind, protoreflect.EnumKind, protoreflect.Int32Kind, protoreflect.Int64Kind,
		protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return protowire.VarintType
	case protoreflect.DoubleKind:
		return protowire.Fixed64Type
	}
	return -1
}

// eventID returns the ID in the wire bytes of an event, as far as they can be
// read, or "" if it is missing or not valid UTF-8.
func eventID(event []byte) string {
	var id []byte
	for len(event) > 0 {
		num, typ, n := protowire.ConsumeTag(event)
		if n < 0 {
			break
		}
		event = event[n:]
		if n = protowire.ConsumeFieldValue(num, typ, event); n < 0 {
			break
		}
		if num == 1 && typ == protowire.BytesType {
			id, _ = protowire.ConsumeBytes(event)
		}
		event = event[n:]
	}
	if !utf8.Valid(id) {
		return ""
	}
	return string(id)
}

// varint returns the number that b begins with and its length, which is 0 if
// there is none, or one written longer than it has to be.
func varint(b string) (v uint64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return longVarint(b)
}

func longVarint(b string) (v uint64, n int) {
	for i := 0; i < len(b) && i < 10; i++ {
		c := b[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 || i == 9 && c > 1 {
				return 0, 0
			}
			return v, i + 1
		}
	}
	return 0, 0
}

// delimited returns the bytes that b begins with after their length, and the
// rest.
func delimited(b string) (content, rest string, ok bool) {
	size, n := varint(b)
	if n == 0 || size > uint64(len(b)-n) {
		return "", "", false
	}
	end := n + int(size)
	return b[n:end], b[end:], true
}

// double returns the number that b, of at least 8 bytes, begins with.
func double(b string) float64 { return math.Float64frombits(word(b)) }

func word(b string) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}
