// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"net/url"
	"slices"
	"strings"
	"time"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Label is a key and a value. It has no name of its own, and neither has
// topic.Attribute, so that labels are attributes without being copied.
type Label = struct{ Key, Value string }

// Labels are what is known of an event besides its payload. Those that
// [Encoder.Append] returns may refer to the event's bytes, which must not change
// as long as they are in use, and to the encoder's [Arena].
type Labels struct {
	// EventID is empty when the event has none that can be read. It may be
	// longer than limits.EventIDBytes when the event was refused for that. It
	// is never in an arena.
	EventID string
	// Key names the message: the sender's identity, a slash, and the event ID
	// with everything but plain characters escaped. Without a usable ID it ends
	// with the slash.
	Key string
	// Attributes travel beside the message's data, within Pub/Sub's limits.
	Attributes []Label
}

// private is how keys of numeric metadata begin that tell that an event
// records private metadata of some kind.
const private = "recordsPrivateMetadata"

// senderLabels are the names of the attributes that say who sent, in order.
var senderLabels = [...]string{"publisher.source", "publisher.id", "license.id"}

// senderAttributes returns the attributes that say who sent.
func senderAttributes(s Sender) []Label {
	attributes := []Label{{"publisher.source", s.Source}}
	if s.ID != "" {
		attributes = append(attributes, Label{"publisher.id", s.ID})
	}
	// How long a licence's ID is was up to whoever issued it.
	if l := s.License; l != nil && l.ID != "" && len(l.ID) <= limits.AttributeValueBytes {
		attributes = append(attributes, Label{"license.id", l.ID})
	}
	return attributes
}

// attributes returns the attributes of an event that breaks no rule.
func (e *Encoder) attributes(event *telemetrygatewayv1.Event) []Label {
	attributes := make([]Label, 0, len(e.sender)+4)
	attributes = append(attributes, e.sender...)
	attributes = append(attributes,
		Label{"event.id", event.GetId()},
		Label{"event.feature", event.GetFeature()},
		Label{"event.action", event.GetAction()},
		// An empty struct counts: consumers of the original rely on it.
		Label{"event.hasPrivateMetadata", boolText(event.GetParameters().GetPrivateMetadata() != nil)},
	)
	var keys []string
	for key, n := range event.GetParameters().GetMetadata() {
		if n > 0 && recordsPrivate(key) {
			keys = append(keys, "event."+key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys[:min(len(keys), limits.Attributes-len(attributes))] {
		attributes = append(attributes, Label{key, boolText(true)})
	}
	return attributes
}

// recordsPrivate reports whether a positive number called key in the metadata
// makes an attribute.
func recordsPrivate(key string) bool {
	return strings.HasPrefix(key, private) && len(key) >= len(private)+2 && len("event.")+len(key) <= limits.AttributeKeyBytes
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// key returns the key of a message about the event called id.
func (e *Encoder) key(id string) string { return e.identity + "/" + url.PathEscape(id) }

// appendLabels appends the labels of a payload as a JSON object.
func (e *Encoder) appendLabels(dst []byte, attributes []Label, receivedAt time.Time) []byte {
	dst = append(dst, '{')
	for _, l := range attributes {
		dst = appendLabel(dst, l)
	}
	return e.appendEnd(dst, receivedAt)
}

// appendLabel appends l and a comma.
func appendLabel(dst []byte, l Label) []byte {
	dst = append(appendString(dst, l.Key), ':')
	return append(appendString(dst, l.Value), ',')
}

// appendEnd appends the labels that are not attributes.
func (e *Encoder) appendEnd(dst []byte, receivedAt time.Time) []byte {
	dst = append(dst, `"receivedAt":"`...)
	dst = receivedAt.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"')
	dst = append(dst, e.trust...)
	return append(dst, '}')
}

// messageSize returns what a message costs in a topic. The data and the key
// are counted like attributes.
func messageSize(data int, l Labels) int {
	size := data + len(l.Key) + 2*limits.AttributeOverhead
	for _, a := range l.Attributes {
		size += len(a.Key) + len(a.Value) + limits.AttributeOverhead
	}
	return size
}
