// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// dateTime is the scalar DateTime. What a client sends in its place is judged
// with the event it belongs to, so that one wrong time does not reject all
// events of the call.
type dateTime struct {
	time.Time
	invalid bool
}

func (dateTime) ImplementsGraphQLType(name string) bool { return name == "DateTime" }

func (d *dateTime) UnmarshalGraphQL(input any) error {
	text, _ := input.(string)
	t, err := time.Parse(time.RFC3339, text)
	d.Time, d.invalid = t, err != nil
	return nil
}

func (d dateTime) MarshalJSON() ([]byte, error) {
	return json.Marshal(d.UTC().Format(time.RFC3339Nano))
}

// jsonValue is the scalar JSONValue: what a client's JSON decodes to, or an event
// that administrators see.
type jsonValue struct{ value any }

func (jsonValue) ImplementsGraphQLType(name string) bool { return name == "JSONValue" }

func (j *jsonValue) UnmarshalGraphQL(input any) error {
	j.value = input
	return nil
}

func (j jsonValue) MarshalJSON() ([]byte, error) {
	if m, ok := j.value.(proto.Message); ok {
		return protojson.Marshal(m)
	}
	return json.Marshal(j.value)
}

// null stands for a JSON null where the schema takes none. See readVariables.
type null struct{}

// readVariables changes decoded JSON into what the schema's types take, and
// takes the number of its values from left. Numbers become float64, infinite if
// they are beyond its range: that breaks a rule of their event alone. For the
// same reason a null that is the value of metadata is covered up, because the
// schema would refuse the whole call for it.
func readVariables(v any, left *int) any {
	*left--
	switch v := v.(type) {
	case json.Number:
		return number(v)
	case []any:
		for i := range v {
			v[i] = readVariables(v[i], left)
		}
	case map[string]any:
		for key := range v {
			v[key] = readVariables(v[key], left)
			if key == "value" && v[key] == nil {
				v[key] = null{}
			}
		}
	}
	return v
}

func number(n json.Number) float64 {
	f, _ := strconv.ParseFloat(string(n), 64) // out of range is ±Inf
	return f
}

// privateMetadata returns v as an object: nil for null, and what is no object
// as the field "value" of one.
func privateMetadata(v any) (*structpb.Struct, error) {
	converted, err := structValue(v)
	if err != nil {
		return nil, err
	}
	switch kind := converted.GetKind().(type) {
	case *structpb.Value_NullValue:
		return nil, nil
	case *structpb.Value_StructValue:
		return kind.StructValue, nil
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{"value": converted}}, nil
}

// structValue converts what JSON and GraphQL literals decode to. Unlike
// structpb.NewValue it leaves invalid UTF-8 to the check of the event.
func structValue(v any) (*structpb.Value, error) {
	switch v := v.(type) {
	case nil, null:
		return structpb.NewNullValue(), nil
	case bool:
		return structpb.NewBoolValue(v), nil
	case string:
		return structpb.NewStringValue(v), nil
	case []any:
		list := &structpb.ListValue{Values: make([]*structpb.Value, len(v))}
		for i := range v {
			item, err := structValue(v[i])
			if err != nil {
				return nil, err
			}
			list.Values[i] = item
		}
		return structpb.NewListValue(list), nil
	case map[string]any:
		object := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(v))}
		for key := range v {
			field, err := structValue(v[key])
			if err != nil {
				return nil, err
			}
			object.Fields[key] = field
		}
		return structpb.NewStructValue(object), nil
	}
	n, ok := numeric(v)
	if !ok {
		return nil, fmt.Errorf("intake: JSON decoded to %T", v)
	}
	return structpb.NewNumberValue(n), nil
}

// numeric returns v as a number if it is one: of JSON, or a literal in the
// query.
func numeric(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int32:
		return float64(v), true
	case int64:
		return float64(v), true
	}
	return 0, false
}
