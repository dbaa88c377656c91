// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Replay returns the message that the gateway would have published, from the
// same sender and received at the same time, with one label more: replay.of, the
// ID of the dead letter. key is the key of the dead letter's own message.
//
// patch, unless it is nil, changes the event first: it is an RFC 7396 merge
// patch of the event as a payload shows it. An event whose bytes cannot be
// decoded has nothing but its ID that a patch could be merged into, so that the
// patch has to be the whole event. The same dead letter with the same patch
// always yields the same bytes.
//
// An error that says which rule the event still breaks is a *limits.Violation.
func (d *DeadLetter) Replay(key string, patch []byte) ([]byte, Labels, error) {
	e, err := d.encoder(key)
	if err != nil {
		return nil, Labels{}, err
	}
	event, err := d.patched(patch)
	if err != nil {
		return nil, Labels{}, err
	}
	data, labels, v := e.Append(nil, event, d.ReceivedAt)
	if v != nil {
		return nil, Labels{}, v
	}
	return data, labels, nil
}

// encoder returns an encoder for the sender of the event.
func (d *DeadLetter) encoder(key string) (*Encoder, error) {
	if d.Data != nil {
		key = d.Key
	}
	identity := key[:max(strings.LastIndexByte(key, '/'), 0)]
	trust := d.Labels["publisher.trust"]
	if d.metadata == nil || d.ReceivedAt.IsZero() {
		return nil, errors.New("it does not say who sent the event, and when: the message that could not land is no payload")
	}
	err := checkSender(Sender{Source: d.Labels["publisher.source"], ID: d.Labels["publisher.id"], Identity: identity, Trust: trust})
	if err != nil {
		return nil, fmt.Errorf("it does not say who sent the event: %w", err)
	}
	var sender []Label
	for _, name := range senderLabels {
		if value, ok := d.Labels[name]; ok && len(value) <= limits.AttributeValueBytes {
			sender = append(sender, Label{name, value})
		}
	}
	// As it stands there: a newer gateway may know more of a sender.
	var metadata bytes.Buffer
	if err := json.Compact(&metadata, d.metadata); err != nil {
		return nil, fmt.Errorf("copy metadata: %w", err)
	}
	ending := appendString([]byte(`,"publisher.trust":`), trust)
	if status, ok := d.Labels["license.status"]; ok {
		ending = appendString(append(ending, `,"license.status":`...), status)
	}
	ending = appendString(append(ending, `,"replay.of":`...), hex.EncodeToString(d.ID[:]))
	return newEncoder(identity, sender, metadata.Bytes(), ending), nil
}

// patched returns the wire bytes of the event after the patch.
func (d *DeadLetter) patched(patch []byte) ([]byte, error) {
	if patch == nil {
		if wire, _, err := d.readEvent(); wire != nil || err != nil {
			return wire, err
		}
	}
	event, err := d.DecodeEvent()
	switch {
	case err != nil && (patch == nil || d.Data != nil):
		return nil, err
	case err != nil:
		event = &telemetrygatewayv1.Event{Id: eventID(d.Event)}
	}
	if patch != nil {
		if err := mergePatch(event.ProtoReflect(), patch); err != nil {
			return nil, fmt.Errorf("patch: %w", err)
		}
	}
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return wire, nil
}
