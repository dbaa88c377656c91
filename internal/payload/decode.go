// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// Origin is what payloads and dead letters say about where an event came from.
type Origin struct {
	// Metadata is what the sender said about itself. It has a licence key only
	// with KeyFull.
	Metadata *telemetrygatewayv1.RecordEventsRequestMetadata
	// License is nil unless the sender was licensed.
	License *License
	// Labels are all labels of the event, receivedAt and trust among them.
	Labels map[string]string
}

// Message is a decoded payload.
type Message struct {
	Origin
	// Event has fields that the encoding gateway did not know among its unknown
	// fields. Its legacy metadata is merged.
	Event *telemetrygatewayv1.Event
}

// Decode decodes what Append made. Fields that this version does not know are
// ignored.
func Decode(data []byte) (*Message, error) {
	var in struct {
		Metadata json.RawMessage
		Event    json.RawMessage
		Labels   map[string]string
		Wire     []byte
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("decode payload: %w", err)
	}
	if in.Event == nil {
		return nil, errors.New("decode payload: it has no event")
	}
	origin, err := decodeOrigin(in.Metadata, in.Labels)
	if err != nil {
		return nil, fmt.Errorf("decode payload: %w", err)
	}
	m := &Message{Origin: origin, Event: &telemetrygatewayv1.Event{}}
	if in.Wire != nil {
		err = proto.Unmarshal(in.Wire, m.Event)
	} else {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(in.Event, m.Event)
	}
	if err != nil {
		return nil, fmt.Errorf("decode payload: decode event: %w", err)
	}
	mergeLegacyMetadata(m.Event.GetParameters())
	return m, nil
}

func decodeOrigin(metadata []byte, labels map[string]string) (Origin, error) {
	o := Origin{Metadata: &telemetrygatewayv1.RecordEventsRequestMetadata{}, Labels: labels}
	if metadata == nil || labels == nil {
		return o, errors.New("it has no metadata or no labels")
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(metadata, o.Metadata); err != nil {
		return o, fmt.Errorf("decode metadata: %w", err)
	}
	// What the contract's metadata has no field for.
	var extra struct {
		Identifier struct {
			LicensedInstance struct {
				LicenseKeyFingerprint string
				License               *License
			}
		}
	}
	if err := json.Unmarshal(metadata, &extra); err != nil {
		return o, fmt.Errorf("decode licence: %w", err)
	}
	if o.License = extra.Identifier.LicensedInstance.License; o.License != nil {
		o.License.Fingerprint = extra.Identifier.LicensedInstance.LicenseKeyFingerprint
	}
	return o, nil
}
