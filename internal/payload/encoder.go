// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Encoder encodes the events of one stream. It may be used by one goroutine at
// a time.
//
// It has two ways that make the same bytes. The fast way, a walk over the
// event's wire bytes, takes what senders usually write. The plain way, which
// decodes the event and leaves the JSON to protojson, takes everything else, and
// it alone says what is wrong with an event.
type Encoder struct {
	identity string
	sender   []Label // the attributes that say who sent
	metadata []byte  // `"metadata":{…}`, the same for all events
	trust    []byte  // the labels after receivedAt, the same for all events

	labels     []byte // `,"labels":{…,"event.id":`, the same for all events
	receivedAt time.Time
	ending     []byte // everything after the event's own labels, for receivedAt
	walk       walk
	arena      *Arena

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
	trust := appendString([]byte(`,"publisher.trust":`), s.Trust)
	if s.License != nil {
		trust = appendString(append(trust, `,"license.status":`...), s.License.Status)
	}
	return newEncoder(s.Identity, senderAttributes(s), metadata, trust), nil
}

func newEncoder(identity string, sender []Label, metadata, trust []byte) *Encoder {
	e := &Encoder{
		identity: identity,
		sender:   sender,
		metadata: append([]byte(`"metadata":`), metadata...),
		trust:    trust,
		labels:   []byte(`,"labels":{`),
	}
	for _, l := range sender {
		e.labels = appendLabel(e.labels, l)
	}
	e.labels = append(e.labels, `"event.id":`...)
	return e
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
	out, labels, v := e.encode(dst, event, receivedAt)
	if v == nil && messageSize(len(out)-len(dst), labels) > limits.MessageBytes {
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

// encode is Append without the check of the size.
func (e *Encoder) encode(dst, event []byte, receivedAt time.Time) ([]byte, Labels, *limits.Violation) {
	if out, labels, ok := e.encodeFast(dst, event, receivedAt); ok {
		return out, labels, nil
	}
	return e.encodePlain(dst, event, receivedAt)
}

// encodeFast encodes an event in the fast way, if that can.
func (e *Encoder) encodeFast(dst, event []byte, receivedAt time.Time) ([]byte, Labels, bool) {
	w := &e.walk
	defer w.end() // lets go of the event: streams are long
	dst = append(dst, '{')
	dst = append(dst, e.metadata...)
	dst = append(dst, `,"event":`...)
	dst, ok := w.event(dst, text(event))
	if !ok {
		return nil, Labels{}, false
	}
	labels := e.labelsOf(w)

	dst = append(dst, e.labels...)
	dst = append(dst, dst[w.idFrom:w.idTo]...)
	// Features and actions need no escapes.
	dst = append(dst, `,"event.feature":"`...)
	dst = append(dst, w.feature...)
	dst = append(dst, `","event.action":"`...)
	dst = append(dst, w.action...)
	dst = append(dst, `",`...)
	for _, l := range labels.Attributes[len(e.sender)+3:] {
		dst = appendLabel(dst, l)
	}
	if receivedAt != e.receivedAt || e.ending == nil {
		e.receivedAt = receivedAt
		e.ending = append(e.appendEnd(e.ending[:0], receivedAt), '}')
	}
	return append(dst, e.ending...), labels, true
}
