// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// mergePatch applies an RFC 7396 merge patch of m's JSON to m itself. What the
// patch does not name stays as it is, also what JSON has no form for: a NaN,
// a timestamp out of range, a field that this version does not know.
func mergePatch(m protoreflect.Message, patch json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(patch, &fields); err != nil || fields == nil {
		return errors.New("want a JSON object")
	}
	for name, value := range fields {
		field := m.Descriptor().Fields().ByJSONName(name)
		if field == nil {
			return fmt.Errorf("there is no field %q", name)
		}
		if err := mergeField(m, field, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func mergeField(m protoreflect.Message, field protoreflect.FieldDescriptor, value json.RawMessage) error {
	if string(value) == "null" {
		m.Clear(field)
		return nil
	}
	if field.Message() != nil && !field.IsMap() {
		switch part := m.Mutable(field).Message(); part.Interface().(type) {
		case *structpb.Struct:
			var object structpb.Struct
			if err := protojson.Unmarshal(value, &object); err != nil {
				return errors.New("want a JSON object")
			}
			mergeStruct(part.Interface().(*structpb.Struct), &object)
			return nil
		default:
			if field.Message().FullName().Parent() != "google.protobuf" {
				return mergePatch(part, value)
			}
		}
	}
	if field.IsMap() {
		var entries map[string]json.RawMessage
		if err := json.Unmarshal(value, &entries); err != nil || entries == nil {
			return errors.New("want a JSON object")
		}
		for key, entry := range entries {
			if string(entry) == "null" {
				m.Mutable(field).Map().Clear(protoreflect.ValueOfString(key).MapKey())
				delete(entries, key)
			}
		}
		value, _ = json.Marshal(entries)
	}
	// protojson sets single fields only as part of their message.
	part := m.New()
	if err := protojson.Unmarshal(fmt.Appendf(nil, `{%q:%s}`, field.JSONName(), value), part.Interface()); err != nil {
		return fmt.Errorf("is not a value of this field: %s", strings.ReplaceAll(err.Error(), "\u00a0", " "))
	}
	if field.IsMap() {
		part.Get(field).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			m.Mutable(field).Map().Set(k, v)
			return true
		})
		return nil
	}
	m.Set(field, part.Get(field))
	return nil
}

// mergeStruct merges patch into s, in which a null removes what it names.
func mergeStruct(s, patch *structpb.Struct) {
	if s.Fields == nil {
		s.Fields = map[string]*structpb.Value{}
	}
	for name, value := range patch.GetFields() {
		switch kind := value.GetKind().(type) {
		case *structpb.Value_NullValue:
			delete(s.Fields, name)
		case *structpb.Value_StructValue:
			object := s.Fields[name].GetStructValue()
			if object == nil {
				object = &structpb.Struct{}
			}
			mergeStruct(object, kind.StructValue)
			s.Fields[name] = structpb.NewStructValue(object)
		default:
			s.Fields[name] = value
		}
	}
}
