// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"slices"
	"strconv"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// A message is a message type as the walk needs it: what of the contract's
// descriptor decides how bytes become JSON.
type message struct {
	// fields are in the order in which protojson writes them, which is that of
	// their declaration. What the walk does not know how to write is not among
	// them.
	fields []field
}

type field struct {
	tag     uint64 // as on the wire: the number and the wire type
	name    string // `,"name":`
	kind    kind
	card    cardinality
	entry   byte              // the tag of an entry's value, if card is mapped
	sparse  bool              // the zero is left out, on the wire and in JSON
	message *message          // of a messageKind
	values  map[uint64]string // of an enumKind: `"NAME"` by what stands on the wire
	role    role
}

// kind is how a value is written.
type kind uint8

const (
	textKind kind = iota + 1
	bytesKind
	boolKind
	int32Kind
	int64Kind
	uint32Kind
	uint64Kind
	doubleKind
	enumKind
	messageKind
	timestampKind
	structKind
	listKind
	valueKind
)

type cardinality uint8

const (
	single cardinality = iota
	repeated
	packed
	mapped
)

// role is what a field is besides a part of the event.
type role uint8

const (
	noRole role = iota
	idRole
	featureRole
	actionRole
	timestampRole
	metadataRole
	privateRole
)

// structFields is Struct.fields, which is written without its name.
var structFields = field{tag: 1<<3 | uint64(protowire.BytesType), kind: valueKind, card: mapped, entry: 2<<3 | byte(protowire.BytesType)}

// eventMessage is the contract's event.
var eventMessage = sync.OnceValue(func() *message {
	return compile(telemetrygatewayv1.File_telemetrygateway_v1_telemetrygateway_proto.Messages().ByName("Event"))
})

// compile returns md as the walk needs it. Kinds of fields that the contract
// does not use, and those for which there is more to know than a value, such as
// the members of a oneof, are left to the plain way.
func compile(md protoreflect.MessageDescriptor) *message {
	return compileWithin(md, nil)
}

// compileWithin compiles md, which is inside of the messages outer. None that
// can hold itself is compiled, so that the walk ends however deep it is nested.
func compileWithin(md protoreflect.MessageDescriptor, outer []protoreflect.FullName) *message {
	if md.Syntax() != protoreflect.Proto3 || md.FullName().Parent() == googlePackage || slices.Contains(outer, md.FullName()) {
		return nil
	}
	outer = append(outer, md.FullName())
	m := &message{}
	for i := range md.Fields().Len() {
		if f, ok := compileField(md.Fields().Get(i), outer); ok {
			m.fields = append(m.fields, f)
		}
	}
	return m
}

const googlePackage = "google.protobuf"

func compileField(fd protoreflect.FieldDescriptor, outer []protoreflect.FullName) (f field, ok bool) {
	f.role = roleOf(fd.FullName())
	if oneof := fd.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() || fd.FullName() == legacyMetadata {
		return f, false
	}
	value := fd
	wire := wireType(fd.Kind())
	switch {
	case fd.IsMap() && fd.MapKey().Kind() == protoreflect.StringKind:
		value, f.card = fd.MapValue(), mapped
		f.entry = byte(protowire.EncodeTag(2, wireType(value.Kind())))
	case fd.IsMap():
		return f, false
	case fd.IsList() && fd.IsPacked():
		f.card, wire = packed, protowire.BytesType
	case fd.IsList():
		f.card = repeated
	default:
		f.sparse = !fd.HasPresence()
	}
	f.tag = protowire.EncodeTag(fd.Number(), wire)
	f.name = string(append(appendString([]byte{','}, fd.JSONName()), ':'))
	return f, f.compileValue(value, outer)
}

// compileValue sets what f has for its values' type. It reports whether they
// can be written.
func (f *field) compileValue(fd protoreflect.FieldDescriptor, outer []protoreflect.FullName) bool {
	switch fd.Kind() {
	case protoreflect.StringKind:
		f.kind = textKind
	case protoreflect.BytesKind:
		f.kind = bytesKind
	case protoreflect.BoolKind:
		f.kind = boolKind
	case protoreflect.Int32Kind:
		f.kind = int32Kind
	case protoreflect.Int64Kind:
		f.kind = int64Kind
	case protoreflect.Uint32Kind:
		f.kind = uint32Kind
	case protoreflect.Uint64Kind:
		f.kind = uint64Kind
	case protoreflect.DoubleKind:
		f.kind = doubleKind
	case protoreflect.EnumKind:
		f.kind = enumKind
		f.values = compileEnum(fd.Enum())
		return f.values != nil
	case protoreflect.MessageKind:
		switch fd.Message().FullName() {
		case "google.protobuf.Timestamp":
			f.kind = timestampKind
		case "google.protobuf.Struct":
			f.kind = structKind
		case "google.protobuf.ListValue":
			f.kind = listKind
		case "google.protobuf.Value":
			f.kind = valueKind
		default:
			f.kind = messageKind
			f.message = compileWithin(fd.Message(), outer)
			return f.message != nil
		}
	default:
		return false
	}
	return true
}

// compileEnum returns the names of ed's values, the first one where several
// have the same number, or nil for Google's NullValue, which is written null.
func compileEnum(ed protoreflect.EnumDescriptor) map[uint64]string {
	if ed.FullName().Parent() == googlePackage {
		return nil
	}
	values := make(map[uint64]string, ed.Values().Len())
	for i := range ed.Values().Len() {
		number := ed.Values().Get(i).Number()
		values[uint64(number)] = strconv.Quote(string(ed.Values().ByNumber(number).Name()))
	}
	return values
}

// legacyMetadata has to be merged with metadata, key by key.
const legacyMetadata = "telemetrygateway.v1.EventParameters.legacy_metadata"

func roleOf(name protoreflect.FullName) role {
	switch name {
	case "telemetrygateway.v1.Event.id":
		return idRole
	case "telemetrygateway.v1.Event.feature":
		return featureRole
	case "telemetrygateway.v1.Event.action":
		return actionRole
	case "telemetrygateway.v1.Event.timestamp":
		return timestampRole
	case "telemetrygateway.v1.EventParameters.metadata":
		return metadataRole
	case "telemetrygateway.v1.EventParameters.private_metadata":
		return privateRole
	}
	return noRole
}
