// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// addFields adds a text, a number, a map and a message to m and to the
// messages in it.
func addFields(m *descriptorpb.DescriptorProto) {
	if m.GetOptions().GetMapEntry() {
		return
	}
	for _, nested := range m.NestedType {
		addFields(nested)
	}
	add := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, label descriptorpb.FieldDescriptorProto_Label, message string) {
		f := &descriptorpb.FieldDescriptorProto{Name: new(name), Number: new(number), Type: kind.Enum(), Label: label.Enum()}
		if message != "" {
			f.TypeName = new(message)
		}
		m.Field = append(m.Field, f)
	}
	const (
		text     = descriptorpb.FieldDescriptorProto_TYPE_STRING
		number   = descriptorpb.FieldDescriptorProto_TYPE_SINT64
		message  = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
		optional = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		repeated = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	)
	add("new_text", 90, text, optional, "")
	add("new_number", 91, number, optional, "")
	add("new_texts", 92, text, repeated, "")
	add("new_map", 93, message, repeated, "NewMapEntry")
	m.NestedType = append(m.NestedType, &descriptorpb.DescriptorProto{
		Name: new("NewMapEntry"), Options: &descriptorpb.MessageOptions{MapEntry: new(true)},
		Field: []*descriptorpb.FieldDescriptorProto{
			{Name: new("key"), Number: new(int32(1)), Type: text.Enum(), Label: optional.Enum()},
			{Name: new("value"), Number: new(int32(2)), Type: text.Enum(), Label: optional.Enum()},
		},
	})
	if m.GetName() != "EventInteraction" && m.GetName() != "Geolocation" { // or they would have no end
		add("new_message", 94, message, optional, ".telemetrygateway.v1.EventInteraction")
	}
}

// canaries are values that are nowhere else, as they are on the wire, each
// with the path of the field that it is in.
type canaries struct {
	t    testing.TB
	list []canary
}

type canary struct {
	path string
	wire []byte
}

// text makes a canary.
func (c *canaries) text(path string) string {
	text := fmt.Sprintf("canary-%06d", len(c.list))
	c.list = append(c.list, canary{path, []byte(text)})
	return text
}

// number makes one that fits any type, though not what it stands for: as the
// nanoseconds of a timestamp it is out of range.
func (c *canaries) number(path string, wire func(uint64) []byte) uint64 {
	n := 1_234_000_000 + uint64(len(c.list))
	c.list = append(c.list, canary{path, wire(n)})
	return n
}

// paths returns the paths of all canaries, sorted, each once.
func (c *canaries) paths() []string { return c.found(nil) }

// found returns the paths of the canaries that are in wire, or of all when it
// is nil, sorted, each once. A path has left even if only one of several
// canaries has.
func (c *canaries) found(wire []byte) []string {
	var paths []string
	for _, canary := range c.list {
		if wire == nil || bytes.Contains(wire, canary.wire) {
			paths = append(paths, canary.path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// fill sets every field of m, and some that m does not know.
func (c *canaries) fill(path string, m protoreflect.Message, depth int) {
	name := func(d protoreflect.FieldDescriptor) string {
		return strings.TrimPrefix(path+"."+string(d.Name()), ".")
	}
	for i := range m.Descriptor().Oneofs().Len() {
		if o := m.Descriptor().Oneofs().Get(i); !o.IsSynthetic() && o.FullName() != "google.protobuf.Value.kind" {
			c.t.Fatalf("fill does not know how to fill every arm of %s", o.FullName())
		}
	}
	for i := range m.Descriptor().Fields().Len() {
		d := m.Descriptor().Fields().Get(i)
		switch {
		case d.FullName() == "google.protobuf.Struct.fields":
			c.fillStruct(path, m.Mutable(d).Map(), depth)
		case d.IsMap():
			for range 2 {
				entry := m.Mutable(d).Map()
				key := protoreflect.ValueOfString(c.text(name(d) + " key")).MapKey()
				if d.MapValue().Message() == nil {
					entry.Set(key, c.value(name(d), d.MapValue()))
				} else {
					c.fill(name(d), entry.Mutable(key).Message(), depth+1)
				}
			}
		case d.IsList() && d.Message() == nil:
			m.Mutable(d).List().Append(c.value(name(d), d))
		case d.IsList():
			c.fill(name(d), m.Mutable(d).List().AppendMutable().Message(), depth+1)
		case d.Message() != nil:
			c.fill(name(d), m.Mutable(d).Message(), depth+1)
		default:
			m.Set(d, c.value(name(d), d))
		}
	}
	c.addUnknown(path, m)
}

func (c *canaries) addUnknown(path string, m protoreflect.Message) {
	unknown := protowire.AppendTag(nil, 1234, protowire.BytesType)
	unknown = protowire.AppendString(unknown, c.text(path+" unknown text"))
	unknown = protowire.AppendTag(unknown, 1235, protowire.VarintType)
	unknown = protowire.AppendVarint(unknown, c.number(path+" unknown number", varint))
	m.SetUnknown(append(m.GetUnknown(), unknown...))
}

// fillStruct fills an object with a value of each kind, down to the depth of three objects.
func (c *canaries) fillStruct(path string, fields protoreflect.Map, depth int) {
	set := func(v *structpb.Value) {
		c.addUnknown(path, v.ProtoReflect())
		key := protoreflect.ValueOfString(c.text(path + " key")).MapKey()
		fields.Set(key, protoreflect.ValueOfMessage(c.like(fields, v)))
	}
	set(structpb.NewNullValue())
	set(structpb.NewBoolValue(true))
	set(structpb.NewStringValue(c.text(path)))
	set(structpb.NewNumberValue(float64(c.number(path, double))))
	if depth == 4 {
		return
	}
	object := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	c.fill(path, object.ProtoReflect(), depth+1)
	set(structpb.NewStructValue(object))
	list := &structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue(c.text(path)), structpb.NewStructValue(proto.CloneOf(object))}}
	c.addUnknown(path, list.ProtoReflect())
	set(structpb.NewListValue(list))
}

// like returns v as the kind of message that is in fields.
func (c *canaries) like(fields protoreflect.Map, v *structpb.Value) protoreflect.Message {
	m := fields.NewValue().Message()
	if err := proto.Unmarshal(marshal(c.t, v), m.Interface()); err != nil {
		c.t.Fatal(err)
	}
	return m
}

// value makes a canary of the type of d.
func (c *canaries) value(path string, d protoreflect.FieldDescriptor) protoreflect.Value {
	switch d.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(c.text(path))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(c.text(path)))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(c.number(path, varint)))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(c.number(path, varint)))
	case protoreflect.Sint64Kind:
		return protoreflect.ValueOfInt64(int64(c.number(path, zigzag)))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(c.number(path, double)))
	}
	c.t.Fatalf("fill does not know how to fill %s, of kind %s", d.FullName(), d.Kind())
	panic("unreachable")
}

func varint(n uint64) []byte { return protowire.AppendVarint(nil, n) }
func zigzag(n uint64) []byte { return varint(protowire.EncodeZigZag(int64(n))) }
func double(n uint64) []byte { return protowire.AppendFixed64(nil, math.Float64bits(float64(n))) }
