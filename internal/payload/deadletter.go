// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// DeadLetter is a decoded dead letter: the gateway's, of an event that was never
// published, or the pipeline's, of a message that was and cannot land.
type DeadLetter struct {
	// Origin of the pipeline's has what of it the message shows.
	Origin
	// ID names the dead letter: see DeadLetterID.
	ID [16]byte
	// Event is the event's wire bytes, just as the gateway received them. It is
	// nil in the pipeline's.
	Event []byte
	// Key and Data are those of the message that cannot land. Data is nil in the
	// gateway's, and never in the pipeline's.
	Key  string
	Data []byte
	// Violation is why the event was not published, or did not land.
	Violation limits.Violation
	// ReceivedAt is when the gateway received the event. It is zero if a message
	// that cannot land does not say.
	ReceivedAt time.Time

	metadata json.RawMessage // as it stands in the dead letter
}

// DeadLetterID returns the ID of the dead letter whose data is given: half of
// its SHA-256. The same dead letter delivered twice has the same ID.
func DeadLetterID(data []byte) [16]byte {
	sum := sha256.Sum256(data)
	return [16]byte(sum[:16])
}

// AppendDeadLetter appends the dead letter of an event that can never be
// published, because of v, to dst. It works for any bytes at all.
func (e *Encoder) AppendDeadLetter(dst, event []byte, receivedAt time.Time, v *limits.Violation) ([]byte, Labels) {
	labels := Labels{EventID: eventID(event)}
	labels.Attributes = append(labels.Attributes, Label{"deadletter.reason", v.Reason})
	labels.Attributes = append(labels.Attributes, e.sender...)
	if id := labels.EventID; id != "" && len(id) <= limits.EventIDBytes {
		labels.Key = e.key(id)
		labels.Attributes = append(labels.Attributes, Label{"event.id", id})
	} else {
		labels.Key = e.key("")
	}

	dst = append(dst, `{"event":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, event)
	dst = append(dst, '"')
	dst = appendViolation(dst, v)
	dst = append(dst, `,"receivedAt":"`...)
	dst = receivedAt.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `",`...)
	dst = append(dst, e.metadata...)
	dst = append(dst, `,"labels":`...)
	dst = e.appendLabels(dst, labels.Attributes, receivedAt)
	return append(dst, '}'), labels
}

func appendViolation(dst []byte, v *limits.Violation) []byte {
	dst = append(dst, `,"reason":`...)
	dst = appendString(dst, v.Reason)
	dst = append(dst, `,"field":`...)
	dst = appendString(dst, v.Field)
	dst = append(dst, `,"message":`...)
	return appendString(dst, v.Message)
}

// DecodeDeadLetter decodes what AppendDeadLetter or AppendUnlandable made.
// Fields that this version does not know are ignored.
func DecodeDeadLetter(data []byte) (*DeadLetter, error) {
	var in struct {
		Event, Data            []byte
		Key                    string
		Reason, Field, Message string
		ReceivedAt             time.Time
		Metadata               json.RawMessage
		Labels                 map[string]string
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("decode dead letter: %w", err)
	}
	if (in.Event == nil) == (in.Data == nil) || in.Reason == "" {
		return nil, errors.New("decode dead letter: it has no reason, or not either an event or the data of a message")
	}
	d := &DeadLetter{
		ID:         DeadLetterID(data),
		Event:      in.Event,
		Key:        in.Key,
		Data:       in.Data,
		Violation:  limits.Violation{Reason: in.Reason, Field: in.Field, Message: in.Message},
		ReceivedAt: in.ReceivedAt,
		metadata:   in.Metadata,
	}
	if in.Data != nil && in.Metadata == nil {
		in.Metadata = []byte(`{}`)
	}
	var err error
	if d.Origin, err = decodeOrigin(in.Metadata, in.Labels); err != nil {
		return nil, fmt.Errorf("decode dead letter: %w", err)
	}
	return d, nil
}

// DecodeEvent returns the event, with its legacy metadata merged, and of an
// event that cannot be decoded, beside the error, what could be read of it. It
// is an error if the payload in Data has fields of an event that this version
// does not know: they would be lost.
func (d *DeadLetter) DecodeEvent() (*telemetrygatewayv1.Event, error) {
	event := &telemetrygatewayv1.Event{}
	wire, text, err := d.readEvent()
	switch {
	case err != nil:
	case wire == nil && protojson.Unmarshal(text, event) != nil:
		err = errors.New("the payload's event cannot be decoded, or has fields that only a newer version knows")
	case wire != nil && proto.Unmarshal(wire, event) != nil:
		err = malformed()
	}
	mergeLegacyMetadata(event.GetParameters())
	return event, err
}

// readEvent returns the event's wire bytes or, from a payload without them, its
// JSON.
func (d *DeadLetter) readEvent() (wire []byte, text json.RawMessage, err error) {
	if d.Data == nil {
		return d.Event, nil, nil
	}
	var in struct {
		Event json.RawMessage
		Wire  []byte
	}
	if err := json.Unmarshal(d.Data, &in); err != nil || in.Event == nil {
		return nil, nil, errors.New("the message that could not land is no payload")
	}
	return in.Wire, in.Event, nil
}
