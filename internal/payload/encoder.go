// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Encoder encodes the events of one stream. It may be used by one goroutine at
// a time.
type Encoder struct {
	identity string
	sender   []Label // the attributes that say who sent
	metadata []byte  // `"metadata":{…}`, the same for all events
	trust    []byte  // the labels after receivedAt, the same for all events

	event telemetrygatewayv1.Event // empty between calls, kept for its memory
}

// NewEncoder returns an encoder of events that s sends with metadata md. It
// renders what all of them share. It returns an error if md names another kind
// of sender than s, if a text is not valid UTF-8, or if something is longer
// than the identity check lets through.
func NewEncoder(md *telemetrygatewayv1.RecordEventsRequestMetadata, s Sender, f KeyForm) (*Encoder, error) {
	if _, err := ParseKeyForm(string(f)); err != nil {
		return nil, err
	}
	if err := checkSender(s); err != nil {
		return nil, err
	}
	metadata, err := renderMetadata(md, s.License, f)
	if err != nil {
		return nil, fmt.Errorf("render metadata: %w", err)
	}
	if len(metadata) > limits.MetadataBytes {
		return nil, fmt.Errorf("metadata has %d bytes of JSON, more than %d", len(metadata), limits.MetadataBytes)
	}
	e := &Encoder{
		identity: s.Identity,
		sender:   senderAttributes(s),
		metadata: append([]byte(`"metadata":`), metadata...),
		trust:    appendString([]byte(`,"publisher.trust":`), s.Trust),
	}
	if s.License != nil {
		e.trust = appendString(append(e.trust, `,"license.status":`...), s.License.Status)
	}
	return e, nil
}

// checkSender returns an error if s cannot be put into keys and attributes.
func checkSender(s Sender) error {
	texts := []string{s.Source, s.ID, s.Identity, s.Trust}
	if l := s.License; l != nil {
		texts = append(texts, l.ID, l.KeyID, l.Fingerprint, l.Status, l.SalesforceSubscriptionID, l.SalesforceOpportunityID)
		texts = append(texts, l.Tags...)
	}
	switch {
	case slices.ContainsFunc(texts, func(t string) bool { return !utf8.ValidString(t) }):
		return errors.New("a text about the sender is not valid UTF-8")
	case s.Source == "" || s.Identity == "" || s.Trust == "":
		return errors.New("the sender has no source, identity or trust")
	case len(s.Source) > limits.SenderIDBytes || len(s.ID) > limits.SenderIDBytes:
		return fmt.Errorf("the sender's source or ID is longer than %d bytes", limits.SenderIDBytes)
	case len(s.Identity) > limits.IdentityBytes:
		return fmt.Errorf("the sender's identity is longer than %d bytes", limits.IdentityBytes)
	}
	return nil
}

// renderMetadata returns md as protojson, with the licence key in the form f
// and the licence beside it.
func renderMetadata(md *telemetrygatewayv1.RecordEventsRequestMetadata, l *License, f KeyForm) ([]byte, error) {
	if md.GetIdentifier().GetIdentifier() == nil {
		return nil, errors.New("it names no sender")
	}
	licensed := md.GetIdentifier().GetLicensedInstance()
	if (licensed != nil) != (l != nil) {
		return nil, errors.New("a licensed instance has a licence, and nobody else has")
	}
	data, err := protojson.Marshal(md)
	if err != nil {
		return nil, err
	}
	// Going through a map keeps every field of the message, also ones that are
	// added later, and sorts them.
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	if l != nil {
		instance := fields["identifier"].(map[string]any)["licensedInstance"].(map[string]any)
		delete(instance, "licenseKey")
		if f == KeyFull {
			// Senders may wrap the key; without the white space it is always
			// the same text.
			instance["licenseKey"] = strings.Join(strings.Fields(licensed.GetLicenseKey()), "")
		}
		if f != KeyNone && l.Fingerprint != "" {
			instance["licenseKeyFingerprint"] = l.Fingerprint
		}
		license := *l
		license.CreatedAt, license.ExpiresAt = l.CreatedAt.UTC(), l.ExpiresAt.UTC()
		instance["license"] = license
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(fields); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// Append appends the payload of one event, given as its wire bytes, to dst.
// If the event breaks a rule Append returns which, dst as it was, and of the
// labels only the event ID as far as it can be read: only a dead letter can be
// made of such an event. Append keeps neither dst nor event.
func (e *Encoder) Append(dst, event []byte, receivedAt time.Time) ([]byte, Labels, *limits.Violation) {
	defer proto.Reset(&e.event) // lets go of it: streams are long
	start := len(dst)
	out, labels, v := e.encode(dst, event, receivedAt)
	if v == nil && messageSize(len(out)-start, labels) > limits.MessageBytes {
		v = &limits.Violation{
			Reason:  limits.ReasonTooLarge,
			Message: fmt.Sprintf("is larger than %d bytes with labels and escapes", limits.MessageBytes),
		}
	}
	if v != nil {
		return dst, Labels{EventID: eventID(event)}, v
	}
	return out, labels, nil
}

// encode is Append without the check of the size. This is the plain way: decode
// everything, then let protojson render it.
func (e *Encoder) encode(dst, event []byte, receivedAt time.Time) ([]byte, Labels, *limits.Violation) {
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
