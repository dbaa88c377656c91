// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	telemetryintakev1 "github.com/telemetrygateway/telemetry/gen/telemetryintake/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// batch is a RecordEventsRequest whose events are not decoded yet.
type batch struct {
	client *telemetrygatewayv1.EventSource_Client // nil if there is none
	key    string
	events [][]byte
	decode func([]byte) (*telemetryintakev1.Event, *limits.Violation)
}

// batch takes a request apart, unless it has more values than are decoded for
// one. Errors quote none of it.
func (f *frame) batch() (*batch, *connect.Error) {
	left := limits.IntakeValues
	if f.json {
		countJSON(f.data, &left)
	} else {
		countWire(requestDescriptor, f.data, &left)
	}
	if left < 0 {
		return nil, exhausted("events", fmt.Sprintf("the request has more than %d values", limits.IntakeValues))
	}
	if f.json {
		return readJSON(f.data)
	}
	return readWire(f.data)
}

// setClient takes over the client. Its texts stand in every event, so they are
// short.
func (b *batch) setClient(c *telemetryintakev1.Client) *connect.Error {
	switch {
	case c.GetName() == "":
		return invalid("client.name", "the client has no name")
	case len(c.GetName())+len(c.GetVersion()) > limits.IntakeClientBytes:
		return invalid("client", fmt.Sprintf("the client's name and version are longer than %d bytes", limits.IntakeClientBytes))
	}
	b.client = &telemetrygatewayv1.EventSource_Client{Name: c.GetName()}
	if c.GetVersion() != "" {
		b.client.Version = &c.Version
	}
	return nil
}

// Binary.

var (
	requestDescriptor = (*telemetryintakev1.RecordEventsRequest)(nil).ProtoReflect().Descriptor()
	eventDescriptor   = (*telemetryintakev1.Event)(nil).ProtoReflect().Descriptor()

	// Fields of newer clients are not for us to keep.
	wireOptions = proto.UnmarshalOptions{DiscardUnknown: true}
	jsonOptions = protojson.UnmarshalOptions{DiscardUnknown: true}
)

// countWire takes the number of texts and messages in wire from left. Other
// values cost no memory of their own.
func countWire(md protoreflect.MessageDescriptor, wire []byte, left *int) {
	for len(wire) > 0 && *left >= 0 {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return // decoding it will fail
		}
		wire = wire[n:]
		if n = protowire.ConsumeFieldValue(number, kind, wire); n < 0 {
			return
		}
		if kind == protowire.BytesType {
			*left--
			if field := md.Fields().ByNumber(number); field != nil && field.Message() != nil {
				inner, _ := protowire.ConsumeBytes(wire)
				countWire(field.Message(), inner, left)
			}
		}
		wire = wire[n:]
	}
}

func readWire(wire []byte) (*batch, *connect.Error) {
	var (
		b      = &batch{decode: eventFromWire}
		client *telemetryintakev1.Client
		broken = invalid("", "the request is not a telemetryintake.v1.RecordEventsRequest")
	)
	for len(wire) > 0 {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return nil, broken
		}
		value := wire[n:]
		if n = protowire.ConsumeFieldValue(number, kind, value); n < 0 {
			return nil, broken
		}
		wire = value[n:]
		if kind != protowire.BytesType {
			continue
		}
		value, _ = protowire.ConsumeBytes(value)
		switch number {
		case 1:
			if client == nil {
				client = &telemetryintakev1.Client{}
			}
			if err := (proto.UnmarshalOptions{DiscardUnknown: true, Merge: true}).Unmarshal(value, client); err != nil {
				return nil, invalid("client", "the client is not a telemetryintake.v1.Client")
			}
		case 2:
			b.events = append(b.events, value)
		case 3:
			b.key = string(value)
		}
	}
	if client != nil {
		if err := b.setClient(client); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func eventFromWire(wire []byte) (*telemetryintakev1.Event, *limits.Violation) {
	e := &telemetryintakev1.Event{}
	if wireOptions.Unmarshal(wire, e) == nil {
		return e, nil
	}
	if field := notUTF8(eventDescriptor, wire, ""); field != "" {
		return nil, &limits.Violation{Reason: limits.ReasonInvalidUTF8, Field: field, Message: "is not valid UTF-8"}
	}
	return nil, &limits.Violation{Reason: limits.ReasonUndecodable, Message: "is not a telemetryintake.v1.Event"}
}

// notUTF8 returns the path of the first text in wire that is not UTF-8, which
// ends as those of limits.Violation do, or "".
func notUTF8(md protoreflect.MessageDescriptor, wire []byte, path string) string {
	for len(wire) > 0 {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return ""
		}
		value := wire[n:]
		if n = protowire.ConsumeFieldValue(number, kind, value); n < 0 {
			return ""
		}
		wire = value[n:]
		field := md.Fields().ByNumber(number)
		if field == nil || kind != protowire.BytesType {
			continue
		}
		value, _ = protowire.ConsumeBytes(value)
		at := path
		if md.ParentFile() == eventDescriptor.ParentFile() && !md.IsMapEntry() {
			at = join(path, field)
		}
		switch {
		case field.Kind() == protoreflect.StringKind && !utf8.Valid(value):
			return at
		case field.Message() != nil:
			if found := notUTF8(field.Message(), value, at); found != "" {
				return found
			}
		}
	}
	return ""
}

func join(path string, field protoreflect.FieldDescriptor) string {
	if path == "" {
		return string(field.Name())
	}
	return path + "." + string(field.Name())
}

// JSON.

// countJSON takes about the number of values in data from left.
func countJSON(data []byte, left *int) {
	quoted := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case !quoted && (c == '{' || c == '[' || c == ','):
			*left--
		}
	}
}

func readJSON(data []byte) (*batch, *connect.Error) {
	if !utf8.Valid(data) {
		return nil, invalid("", "the request is not valid UTF-8")
	}
	fields, ok := fieldsOnce(data)
	if !ok {
		return nil, invalid("", "the request is not a telemetryintake.v1.RecordEventsRequest in JSON")
	}
	b := &batch{decode: eventFromJSON}
	if raw := fields["client"]; raw != nil && string(raw) != "null" {
		var client telemetryintakev1.Client
		if jsonOptions.Unmarshal(raw, &client) != nil {
			return nil, invalid("client", "the client is not a telemetryintake.v1.Client in JSON")
		}
		if err := b.setClient(&client); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"idempotency_key", "idempotencyKey"} {
		if raw := fields[name]; raw != nil && json.Unmarshal(raw, &b.key) != nil {
			return nil, invalid("idempotency_key", "the idempotency key is not a text")
		}
	}
	var events []json.RawMessage
	if raw := fields["events"]; raw != nil && json.Unmarshal(raw, &events) != nil {
		return nil, invalid("events", "the events are not a list")
	}
	b.events = make([][]byte, len(events))
	for i, raw := range events {
		b.events[i] = raw
	}
	return b, nil
}

// fieldsOnce returns the fields of an object, or of null, none of which may be
// there twice: the events of one list would be lost, and nobody would hear of it.
func fieldsOnce(data []byte) (map[string]json.RawMessage, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return nil, false
	}
	seen := 0
	d := json.NewDecoder(bytes.NewReader(data))
	_, err := d.Token()
	for ; err == nil && d.More(); seen++ {
		var value json.RawMessage
		if _, err = d.Token(); err == nil {
			err = d.Decode(&value)
		}
	}
	return fields, err == nil && seen == len(fields)
}

func eventFromJSON(data []byte) (*telemetryintakev1.Event, *limits.Violation) {
	e := &telemetryintakev1.Event{}
	if jsonOptions.Unmarshal(data, e) == nil {
		return e, nil
	}
	// Browsers write half an emoji, such as of a text that was cut, in a way
	// that protojson refuses. As everywhere else it becomes U+FFFD.
	var whole any
	if json.Unmarshal(data, &whole) == nil {
		if again, err := json.Marshal(whole); err == nil {
			data = again
		}
	}
	e = &telemetryintakev1.Event{}
	if jsonOptions.Unmarshal(data, e) == nil {
		return e, nil
	}
	v := &limits.Violation{Reason: limits.ReasonUndecodable, Message: "is not a telemetryintake.v1.Event in JSON"}
	switch v.Field = misshapen(e.ProtoReflect(), data, ""); v.Field {
	case "":
	case "timestamp":
		v.Reason, v.Message = limits.ReasonTimestampInvalid, notTime
	case "parameters.metadata":
		v.Reason, v.Message = reasonMetadata, notNumber
	default:
		v.Message = "does not have the form that it has in telemetryintake.v1.Event"
	}
	return nil, v
}

// misshapen returns the path of the first field in data, by the message's order,
// that does not decode by itself, or "" if there is none.
func misshapen(m protoreflect.Message, data []byte, path string) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return path
	}
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		for _, name := range []string{field.JSONName(), field.TextName()} {
			raw, there := fields[name]
			if !there {
				continue
			}
			alone, err := json.Marshal(map[string]json.RawMessage{name: raw})
			if err == nil && jsonOptions.Unmarshal(alone, m.New().Interface()) == nil {
				continue
			}
			at := join(path, field)
			if inner := field.Message(); inner != nil && !field.IsMap() && inner.ParentFile() == m.Descriptor().ParentFile() {
				return misshapen(m.NewField(field).Message(), raw, at)
			}
			return at
		}
	}
	return path
}
