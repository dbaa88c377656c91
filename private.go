// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// unconvertible is the key that says why private metadata is missing.
const unconvertible = "telemetry.error"

// privateMetadata returns nil for none.
func privateMetadata(private PrivateMetadata) (*structpb.Struct, *limits.Violation) {
	if len(private) == 0 {
		return nil, nil
	}
	c := converter{room: limits.RecordedEventBytes}
	s := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(private))}
	for key, v := range private {
		c.take(len(key))
		s.Fields[string(key)] = c.value(v, 1)
	}
	switch {
	case c.fault != nil:
		return nil, c.fault
	case c.refused != nil:
		// The type says what is wrong in the source. The value stays out of it.
		why := fmt.Sprintf("a value of type %v cannot be recorded", c.refused)
		return &structpb.Struct{Fields: map[string]*structpb.Value{unconvertible: structpb.NewStringValue(why)}}, nil
	}
	return s, nil
}

// converter makes protobuf values of Go values. It stops at the limits, so that
// a map that contains itself, or a huge value, costs no more than a large event.
type converter struct {
	room    int               // bytes left
	fault   *limits.Violation // the limit that was exceeded
	refused reflect.Type      // the first type that has no form
}

// take takes n bytes of content and what a value costs at least.
func (c *converter) take(n int) {
	const least = 4 // tags and lengths of a value and of its place in a list
	c.room -= least + n
	if c.room < 0 && c.fault == nil {
		c.fault = tooLarge("parameters.private_metadata")
	}
}

func (c *converter) text(s string) *structpb.Value {
	c.take(len(s))
	return structpb.NewStringValue(s)
}

// value converts v, which stands in a map or list at the depth given.
func (c *converter) value(v any, depth int) *structpb.Value {
	switch v := v.(type) {
	case nil:
		return structpb.NewNullValue()
	case string:
		return c.text(v)
	case bool:
		return structpb.NewBoolValue(v)
	case int:
		return structpb.NewNumberValue(float64(v))
	case float64:
		return structpb.NewNumberValue(v)
	case json.Number:
		n, err := v.Float64()
		if err != nil {
			return c.refuse(reflect.ValueOf(v))
		}
		return structpb.NewNumberValue(n)
	}
	return c.reflected(reflect.ValueOf(v), depth)
}

func (c *converter) reflected(v reflect.Value, depth int) *structpb.Value {
	// A pointer may point to itself, so it is not followed for ever.
	for hops := 0; ; hops++ {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
			if v.IsNil() {
				return structpb.NewNullValue()
			}
		}
		if t, ok := v.Interface().(encoding.TextMarshaler); ok {
			text, err := t.MarshalText()
			if err != nil {
				return c.refuse(v)
			}
			return c.text(string(text))
		}
		if v.Kind() != reflect.Pointer && v.Kind() != reflect.Interface {
			break
		}
		if hops > limits.Depth {
			return c.tooDeep()
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		return c.text(v.String())
	case reflect.Bool:
		return structpb.NewBoolValue(v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return structpb.NewNumberValue(float64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return structpb.NewNumberValue(float64(v.Uint()))
	case reflect.Float32, reflect.Float64:
		return structpb.NewNumberValue(v.Float())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return c.bytes(v.Bytes())
		}
		return c.list(v, depth+1)
	case reflect.Array:
		return c.list(v, depth+1)
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String {
			return c.object(v, depth+1)
		}
	}
	return c.refuse(v)
}

func (c *converter) bytes(b []byte) *structpb.Value {
	encoded := base64.StdEncoding.EncodedLen(len(b))
	c.take(encoded)
	if c.fault != nil {
		return nil
	}
	return structpb.NewStringValue(base64.StdEncoding.EncodeToString(b))
}

func (c *converter) list(v reflect.Value, depth int) *structpb.Value {
	if depth > limits.Depth {
		return c.tooDeep()
	}
	l := &structpb.ListValue{}
	for i := range v.Len() {
		if c.fault != nil {
			break
		}
		c.take(0)
		l.Values = append(l.Values, c.value(v.Index(i).Interface(), depth))
	}
	return structpb.NewListValue(l)
}

func (c *converter) object(v reflect.Value, depth int) *structpb.Value {
	if depth > limits.Depth {
		return c.tooDeep()
	}
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for entries := v.MapRange(); c.fault == nil && entries.Next(); {
		key := entries.Key().String()
		c.take(len(key))
		s.Fields[key] = c.value(entries.Value().Interface(), depth)
	}
	return structpb.NewStructValue(s)
}

func (c *converter) tooDeep() *structpb.Value {
	if c.fault == nil {
		c.fault = &limits.Violation{
			Reason:  limits.ReasonTooDeep,
			Field:   "parameters.private_metadata",
			Message: fmt.Sprintf("is nested more than %d deep", limits.Depth),
		}
	}
	return nil
}

func (c *converter) refuse(v reflect.Value) *structpb.Value {
	if c.refused == nil {
		c.refused = v.Type()
	}
	return nil
}
