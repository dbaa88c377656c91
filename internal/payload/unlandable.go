// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// AppendUnlandable appends the dead letter of a message that was published and
// can never land, because of v, to dst. It works for any message at all, and
// the same message yields the same dead letter: there is no clock in it, and
// attributes may come in any order.
func AppendUnlandable(dst []byte, key string, data []byte, attributes []Label, v *limits.Violation) ([]byte, Labels) {
	metadata, known := readOrigin(data)
	labels := Labels{Key: usableKey(key), Attributes: []Label{{"deadletter.reason", v.Reason}}}
	for _, a := range slices.SortedFunc(slices.Values(attributes), compareLabels) {
		if usable(a) && len(labels.Attributes) < limits.Attributes &&
			!slices.ContainsFunc(labels.Attributes, func(l Label) bool { return l.Key == a.Key }) {
			labels.Attributes = append(labels.Attributes, a)
			if _, ok := known[a.Key]; !ok {
				known[a.Key] = a.Value
			}
		}
	}
	known["deadletter.reason"] = v.Reason
	labels.EventID = known["event.id"]

	dst = append(dst, `{"data":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, data)
	dst = append(dst, `","key":`...)
	dst = appendString(dst, strings.ToValidUTF8(key, "\ufffd"))
	dst = appendViolation(dst, v)
	if at, err := time.Parse(time.RFC3339Nano, known["receivedAt"]); err == nil && at.UTC().Year() >= 1 && at.UTC().Year() <= 9999 {
		dst = append(dst, `,"receivedAt":"`...)
		dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, '"')
	}
	if metadata != nil {
		dst = append(dst, `,"metadata":`...)
		dst = append(dst, metadata...)
	}
	dst = append(dst, `,"labels":{`...)
	for i, name := range slices.Sorted(maps.Keys(known)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, name)
		dst = append(dst, ':')
		dst = appendString(dst, known[name])
	}
	return append(dst, "}}"...), labels
}

// readOrigin returns the metadata and the labels of a payload, as far as they
// can be read. metadata is nil if they cannot be.
func readOrigin(data []byte) (metadata json.RawMessage, labels map[string]string) {
	var in struct {
		Metadata json.RawMessage
		Labels   map[string]string
	}
	// A value of a wrong type leaves the others readable.
	var wrongType *json.UnmarshalTypeError
	if err := json.Unmarshal(data, &in); err != nil && !errors.As(err, &wrongType) {
		return nil, map[string]string{}
	}
	if in.Labels == nil {
		in.Labels = map[string]string{}
	}
	if _, err := decodeOrigin(in.Metadata, in.Labels); err != nil {
		in.Metadata = nil
	}
	return in.Metadata, in.Labels
}

// usable reports whether a can be an attribute in any topic. Google's own names
// are on messages that are received, and refused on those that are published.
func usable(a Label) bool {
	return a.Key != "" && !strings.HasPrefix(a.Key, "goog") && len(a.Key) <= limits.AttributeKeyBytes && utf8.ValidString(a.Key) &&
		len(a.Value) <= limits.AttributeValueBytes && utf8.ValidString(a.Value)
}

// usableKey returns key, or as much of it as any topic takes.
func usableKey(key string) string {
	key = strings.ToValidUTF8(key, "\ufffd")
	if len(key) > limits.KeyBytes {
		key = strings.ToValidUTF8(key[:limits.KeyBytes], "")
	}
	return key
}

func compareLabels(a, b Label) int {
	if c := strings.Compare(a.Key, b.Key); c != 0 {
		return c
	}
	return strings.Compare(a.Value, b.Value)
}
