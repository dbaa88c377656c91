// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/telemetrygateway/telemetry/internal/payload"
)

// fieldType is a type that a field of a later contract may have.
type fieldType struct {
	kind descriptorpb.FieldDescriptorProto_Type
	of   string // the name of a message or an enum
}

// knownTypes are those of which the fast way promises that a field of them needs
// no new code, and otherTypes those that it leaves alone.
var (
	knownTypes = []fieldType{
		{kind: descriptorpb.FieldDescriptorProto_TYPE_STRING},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_BYTES},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_BOOL},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_INT32},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_INT64},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_UINT32},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_UINT64},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_DOUBLE},
		{descriptorpb.FieldDescriptorProto_TYPE_ENUM, ".later.Colour"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".later.Inner"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".google.protobuf.Timestamp"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".google.protobuf.Struct"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".google.protobuf.ListValue"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".google.protobuf.Value"},
	}
	otherTypes = []fieldType{
		{kind: descriptorpb.FieldDescriptorProto_TYPE_SINT32},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_SINT64},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_FIXED32},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_FIXED64},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_SFIXED32},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_SFIXED64},
		{kind: descriptorpb.FieldDescriptorProto_TYPE_FLOAT},
		{descriptorpb.FieldDescriptorProto_TYPE_ENUM, ".google.protobuf.NullValue"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".later.Recursive"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".google.protobuf.Duration"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".google.protobuf.StringValue"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".google.protobuf.Empty"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".google.protobuf.FieldMask"},
		{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".google.protobuf.Any"},
	}
)

// A definition builds a message type.
type definition struct{ *descriptorpb.DescriptorProto }

func define(name string) definition {
	return definition{&descriptorpb.DescriptorProto{Name: &name}}
}

func (d definition) add(label descriptorpb.FieldDescriptorProto_Label, t fieldType) *descriptorpb.FieldDescriptorProto {
	f := &descriptorpb.FieldDescriptorProto{
		Name: proto.String(fmt.Sprintf("field_%d", len(d.Field)+1)), Number: proto.Int32(int32(len(d.Field)*7 + 1)), Label: &label, Type: &t.kind,
	}
	if t.of != "" {
		f.TypeName = &t.of
	}
	d.Field = append(d.Field, f)
	return f
}

// single, optional, repeated, mapped and oneof add a field of a type.
func (d definition) single(t fieldType) {
	d.add(descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, t)
}

func (d definition) optional(t fieldType) {
	f := d.add(descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, t)
	f.Proto3Optional = proto.Bool(true)
	f.OneofIndex = proto.Int32(int32(len(d.OneofDecl)))
	d.OneofDecl = append(d.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String("_" + f.GetName())})
}

func (d definition) repeated(t fieldType) {
	d.add(descriptorpb.FieldDescriptorProto_LABEL_REPEATED, t)
}

func (d definition) mapped(t fieldType) {
	d.mappedFrom(fieldType{kind: descriptorpb.FieldDescriptorProto_TYPE_STRING}, t)
}

func (d definition) mappedFrom(key, t fieldType) {
	name := fmt.Sprintf("Field%dEntry", len(d.Field)+1)
	d.add(descriptorpb.FieldDescriptorProto_LABEL_REPEATED, fieldType{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".later." + d.GetName() + "." + name})
	entry := define(name)
	entry.add(descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, key).Name = proto.String("key")
	f := entry.add(descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, t)
	f.Name, f.Number = proto.String("value"), proto.Int32(2)
	entry.Options = &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)}
	d.NestedType = append(d.NestedType, entry.DescriptorProto)
}

func (d definition) oneof(t fieldType) {
	d.add(descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, t).OneofIndex = proto.Int32(int32(len(d.OneofDecl)))
	d.OneofDecl = append(d.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String(fmt.Sprintf("choice_%d", len(d.OneofDecl)))})
}

// build returns the message type of a contract that has it, some types that it
// may refer to, and nothing else.
func (d definition) build(t testing.TB) contract {
	t.Helper()
	inner, recursive := define("Inner"), define("Recursive")
	inner.single(fieldType{kind: descriptorpb.FieldDescriptorProto_TYPE_STRING})
	inner.optional(fieldType{kind: descriptorpb.FieldDescriptorProto_TYPE_DOUBLE})
	recursive.single(fieldType{descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".later.Recursive"})
	value := func(name string, number int32) *descriptorpb.EnumValueDescriptorProto {
		return &descriptorpb.EnumValueDescriptorProto{Name: &name, Number: &number}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("later.proto"), Package: proto.String("later"), Syntax: proto.String("proto3"),
		Dependency: []string{
			structpb.File_google_protobuf_struct_proto.Path(), timestamppb.File_google_protobuf_timestamp_proto.Path(),
			durationpb.File_google_protobuf_duration_proto.Path(), wrapperspb.File_google_protobuf_wrappers_proto.Path(),
			emptypb.File_google_protobuf_empty_proto.Path(), fieldmaskpb.File_google_protobuf_field_mask_proto.Path(),
			anypb.File_google_protobuf_any_proto.Path(),
		},
		MessageType: []*descriptorpb.DescriptorProto{d.DescriptorProto, inner.DescriptorProto, recursive.DescriptorProto},
		EnumType: []*descriptorpb.EnumDescriptorProto{{
			Name:    proto.String("Colour"),
			Value:   []*descriptorpb.EnumValueDescriptorProto{value("NONE", 0), value("RED", 1), value("CRIMSON", 1), value("FAR", 1<<31-1), value("MINUS", -1)},
			Options: &descriptorpb.EnumOptions{AllowAlias: proto.Bool(true)},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	md := file.Messages().ByName(protoreflect.Name(d.GetName()))
	return contract{md, payload.Walk(md)}
}

// A contract is a message type with the walk that was compiled for it.
type contract struct {
	protoreflect.MessageDescriptor
	walk func(dst, wire []byte) ([]byte, bool)
}

// compare walks wire and, if the walk takes it, compares what that made with
// protojson.
func (c contract) compare(t testing.TB, wire []byte) bool {
	t.Helper()
	got, ok := c.walk([]byte("before"), wire)
	if !ok {
		return false
	}
	m := dynamicpb.NewMessage(c)
	if err := proto.Unmarshal(wire, m); err != nil {
		t.Fatalf("the walk took %x, but %v", wire, err)
	}
	spaced, err := protojson.Marshal(m)
	if err != nil {
		t.Fatalf("the walk took %x, but %v", wire, err)
	}
	want := bytes.NewBufferString("before")
	if err := json.Compact(want, spaced); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Fatalf("%x becomes\n%s\nbut protojson makes\n%s", wire, got, want)
	}
	return true
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// TestLaterContract compiles a contract made here that has a field of every
// type the walk knows, in every form, and reads messages of it both as libraries
// write them and with parts that are odd.
func TestLaterContract(t *testing.T) {
	later := define("Event")
	for _, of := range knownTypes {
		later.single(of)
		later.optional(of)
		later.repeated(of)
		later.mapped(of)
	}
	md := later.build(t)
	random := newRandom(8)
	for range 1000 {
		m := dynamicpb.NewMessage(md)
		random.fill(m)
		if !md.compare(t, marshal(t, m)) {
			t.Fatalf("the walk did not take %v", m)
		}
	}
	edits, took := edits(), 0
	for i := range md.Fields().Len() {
		field, m := md.Fields().Get(i), dynamicpb.NewMessage(md)
		for !m.Has(field) {
			random.fill(m)
		}
		m.Range(func(other protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			if other != field {
				m.Clear(other)
			}
			return true
		})
		tree, _ := takeApart(md, marshal(t, m))
		for _, level := range levels(&tree) {
			for i := range *level {
				for _, edit := range edits {
					before := slices.Clone(*level)
					if edit(level, i) && md.compare(t, putTogether(tree)) {
						took++
					}
					*level = before
				}
			}
		}
	}
	if took < 1000 {
		t.Errorf("the walk took only %d of the odd messages", took)
	}
}

// TestOtherTypes holds that whatever else a later contract has is left to the
// plain way, if it is there, and else does no harm.
func TestOtherTypes(t *testing.T) {
	text := fieldType{kind: descriptorpb.FieldDescriptorProto_TYPE_STRING}
	// A message that may hold itself is a matter of the walk until it does.
	itself := func(v protoreflect.Value) protoreflect.Value {
		if m, ok := v.Interface().(protoreflect.Message); ok && m.Descriptor().Name() == "Recursive" {
			m.Mutable(m.Descriptor().Fields().Get(0))
		}
		return v
	}
	set := func(m protoreflect.Message, field protoreflect.FieldDescriptor) {
		switch {
		case field.IsMap():
			entries := m.Mutable(field).Map()
			entries.Set(field.MapKey().Default().MapKey(), itself(entries.NewValue()))
		case field.IsList():
			m.Mutable(field).List().Append(itself(m.Mutable(field).List().NewElement()))
		case field.Message() != nil:
			itself(m.Mutable(field))
		default:
			m.Set(field, field.Default())
		}
	}
	check := func(name string, d definition) {
		t.Run(name, func(t *testing.T) {
			d.single(text)
			md := d.build(t)
			other, last := md.Fields().Get(0), md.Fields().Get(1)
			m := dynamicpb.NewMessage(md)
			m.Set(last, protoreflect.ValueOfString("x"))
			if !md.compare(t, marshal(t, m)) {
				t.Error("the walk did not take a message without it")
			}
			m.Clear(last) // a oneof would come after it on the wire
			set(m, other)
			if md.compare(t, marshal(t, m)) {
				t.Errorf("the walk took %v", m)
			}
		})
	}
	for _, of := range otherTypes {
		for form, add := range map[string]func(definition, fieldType){
			"optional": definition.optional, "repeated": definition.repeated, "mapped": definition.mapped,
		} {
			d := define("Event")
			add(d, of)
			check(fmt.Sprint(form, of.kind, of.of), d)
		}
	}
	for _, of := range knownTypes {
		d := define("Event")
		d.oneof(of)
		check(fmt.Sprint("oneof", of.kind, of.of), d)
	}
	for _, key := range []fieldType{
		{kind: descriptorpb.FieldDescriptorProto_TYPE_INT32}, {kind: descriptorpb.FieldDescriptorProto_TYPE_BOOL}, {kind: descriptorpb.FieldDescriptorProto_TYPE_UINT64},
	} {
		d := define("Event")
		d.mappedFrom(key, text)
		check(fmt.Sprint("key", key.kind), d)
	}
}

// TestNumbersOutOfOrder declares fields in another order than that of their
// numbers. JSON has them in the one, the wire in the other.
func TestNumbersOutOfOrder(t *testing.T) {
	d := define("Event")
	for range 3 {
		d.single(fieldType{kind: descriptorpb.FieldDescriptorProto_TYPE_STRING})
	}
	d.Field[0].Number, d.Field[2].Number = proto.Int32(50), proto.Int32(2)
	md := d.build(t)
	for i := range 3 {
		m := dynamicpb.NewMessage(md)
		m.Set(md.Fields().Get(i), protoreflect.ValueOfString("x"))
		if !md.compare(t, marshal(t, m)) {
			t.Errorf("the walk did not take field %d alone", i)
		}
	}
	m := dynamicpb.NewMessage(md)
	newRandom(9).fill(m)
	m.Set(md.Fields().Get(0), protoreflect.ValueOfString("x"))
	m.Set(md.Fields().Get(1), protoreflect.ValueOfString("y"))
	if md.compare(t, marshal(t, m)) {
		t.Error("the walk took fields out of order")
	}
}

// TestOtherSyntax leaves to the plain way what an older syntax of contracts may
// mean.
func TestOtherSyntax(t *testing.T) {
	for syntax, want := range map[string]bool{"proto2": false, "proto3": true} {
		d := define("Event")
		d.single(fieldType{kind: descriptorpb.FieldDescriptorProto_TYPE_STRING})
		file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
			Name: proto.String("older.proto"), Syntax: &syntax, MessageType: []*descriptorpb.DescriptorProto{d.DescriptorProto},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		md := file.Messages().Get(0)
		older := contract{md, payload.Walk(md)}
		if took := older.compare(t, field(nil, 1, []byte("x"))); took != want {
			t.Errorf("%s: the walk took it: %v", syntax, took)
		}
	}
}

// TestPackedIsKnown holds that the plain way does not take numbers for a field
// of a newer sender because of how they are packed.
func TestPackedIsKnown(t *testing.T) {
	d := define("Event")
	d.repeated(fieldType{kind: descriptorpb.FieldDescriptorProto_TYPE_INT64})
	d.single(fieldType{kind: descriptorpb.FieldDescriptorProto_TYPE_INT64})
	md := d.build(t)
	for _, row := range []struct {
		field   int
		packed  bool
		unknown bool
	}{{0, true, false}, {0, false, false}, {1, false, false}, {1, true, true}} {
		number := md.Fields().Get(row.field).Number()
		wire := protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), 7)
		if row.packed {
			wire = field(nil, number, []byte{7, 8})
		}
		if unknown, v := payload.Inspect(md, wire); unknown != row.unknown || v != nil {
			t.Errorf("field %d, packed %v: unknown is %v and the violation %v", row.field, row.packed, unknown, v)
		}
	}
}
