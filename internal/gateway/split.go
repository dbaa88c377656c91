// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Numbers of the fields that split reads. A test holds them against the
// contract's descriptor.
const (
	streamMetadataField = 1 // RecordEventsRequest.metadata
	streamEventsField   = 2 // RecordEventsRequest.events
	payloadEventsField  = 1 // RecordEventsRequest.EventsPayload.events
	callMetadataField   = 1 // RecordEventBatchRequest.metadata, RecordEventRequest.metadata
	callEventsField     = 2 // RecordEventBatchRequest.events, RecordEventRequest.event
)

// arm is which payload a stream's message carries.
type arm int

const (
	noArm arm = iota
	metadataArm
	eventsArm
	unknownArm
)

// request is a message taken apart, with each event's bytes untouched.
type request struct {
	arm      arm
	metadata []byte
	events   [][]byte
	unknown  protowire.Number // of a field that is not in the contract
}

var errNotProto = errors.New("the message is not in protobuf wire format")

// splitStream takes a RecordEventsRequest apart, reusing r's memory. Parts
// refer to wire.
func (r *request) splitStream(wire []byte) error {
	*r = request{events: r.events[:0]}
	err := eachField(wire, func(n protowire.Number, t protowire.Type, value []byte) error {
		switch {
		case n == streamMetadataField && t == protowire.BytesType:
			// The last arm wins; the same arm again is merged.
			r.arm, r.events = metadataArm, r.events[:0]
			r.metadata = merge(r.metadata, value)
		case n == streamEventsField && t == protowire.BytesType:
			r.arm, r.metadata = eventsArm, nil
			return r.splitEvents(value, payloadEventsField)
		default:
			r.unknown = n
		}
		return nil
	})
	if r.arm == noArm && r.unknown != 0 {
		r.arm = unknownArm
	}
	return err
}

// splitCall takes a RecordEventBatchRequest or a RecordEventRequest apart.
func (r *request) splitCall(wire []byte) error {
	*r = request{events: r.events[:0]}
	err := eachField(wire, func(n protowire.Number, t protowire.Type, value []byte) error {
		if n == callMetadataField && t == protowire.BytesType {
			r.metadata = merge(r.metadata, value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.splitEvents(wire, callEventsField)
}

func (r *request) splitEvents(wire []byte, field protowire.Number) error {
	return eachField(wire, func(n protowire.Number, t protowire.Type, value []byte) error {
		if n != field || t != protowire.BytesType {
			return nil
		}
		if len(r.events) == limits.EventsPerMessage {
			return fmt.Errorf("the message has more than %d events; send fewer in a message", limits.EventsPerMessage)
		}
		r.events = append(r.events, value)
		return nil
	})
}

// merge joins the occurrences of a message field, which in wire format is to
// put them one behind the other. It never writes into a.
func merge(a, b []byte) []byte {
	if len(a) == 0 {
		// Present even if empty.
		return b[:len(b):len(b)]
	}
	return append(a[:len(a):len(a)], b...)
}

// eachField calls f with each field of a message; value is only set for those
// with a length.
func eachField(wire []byte, f func(n protowire.Number, t protowire.Type, value []byte) error) error {
	for len(wire) > 0 {
		n, t, tag := protowire.ConsumeTag(wire)
		if tag < 0 {
			return errNotProto
		}
		size := protowire.ConsumeFieldValue(n, t, wire[tag:])
		if size < 0 {
			return errNotProto
		}
		var value []byte
		if t == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(wire[tag:])
		}
		if err := f(n, t, value); err != nil {
			return err
		}
		wire = wire[tag+size:]
	}
	return nil
}
