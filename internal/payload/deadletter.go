// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"encoding/base64"
	"time"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

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
	dst = append(dst, `","reason":`...)
	dst = appendString(dst, v.Reason)
	dst = append(dst, `,"field":`...)
	dst = appendString(dst, v.Field)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, v.Message)
	dst = append(dst, `,"receivedAt":"`...)
	dst = receivedAt.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `",`...)
	dst = append(dst, e.metadata...)
	dst = append(dst, `,"labels":`...)
	dst = e.appendLabels(dst, labels.Attributes, receivedAt)
	return append(dst, '}'), labels
}
