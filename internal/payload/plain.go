// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"encoding/base64"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// encodePlain encodes an event in the plain way: it decodes everything, then lets
// protojson render it. Its labels have memory of their own.
func (e *Encoder) encodePlain(dst, event []byte, receivedAt time.Time) ([]byte, Labels, *limits.Violation) {
	defer proto.Reset(&e.event) // lets go of it: streams are long
	unknown, v := inspect(event)
	if v != nil {
		return nil, Labels{}, v
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(event, &e.event); err != nil {
		return nil, Labels{}, malformed()
	}
	mergeLegacyMetadata(e.event.GetParameters())
	if v := limits.CheckEvent(&e.event); v != nil {
		return nil, Labels{}, v
	}
	labels := Labels{EventID: e.event.GetId(), Key: e.key(e.event.GetId()), Attributes: e.attributes(&e.event)}

	dst = append(dst, '{')
	dst = append(dst, e.metadata...)
	dst = append(dst, `,"event":`...)
	start := len(dst)
	dst, err := protojson.MarshalOptions{}.MarshalAppend(dst, &e.event)
	if err != nil {
		return nil, Labels{}, &limits.Violation{Reason: limits.ReasonUndecodable, Message: "has no form in JSON"}
	}
	dst = dst[:start+compact(dst[start:])]
	dst = append(dst, `,"labels":`...)
	dst = e.appendLabels(dst, labels.Attributes, receivedAt)
	if unknown {
		dst = append(dst, `,"wire":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, event)
		dst = append(dst, '"')
	}
	return append(dst, '}'), labels, nil
}

// mergeLegacyMetadata moves what senders of long ago wrote into the map of
// today. A key that is in both keeps its value of today.
func mergeLegacyMetadata(p *telemetrygatewayv1.EventParameters) {
	if len(p.GetLegacyMetadata()) == 0 {
		return
	}
	if p.Metadata == nil {
		p.Metadata = make(map[string]float64, len(p.LegacyMetadata))
	}
	for key, n := range p.LegacyMetadata {
		if _, ok := p.Metadata[key]; !ok {
			p.Metadata[key] = float64(n)
		}
	}
	p.LegacyMetadata = nil
}

// compact removes the spaces that protojson puts at random between values, so
// that nobody relies on its bytes, and returns how long the text is without.
func compact(text []byte) int {
	n, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == ' ' && !inString:
			continue
		case c == '\\': // the next byte does not end the string
			text[n] = c
			n++
			i++
		case c == '"':
			inString = !inString
		}
		text[n] = text[i]
		n++
	}
	return n
}
