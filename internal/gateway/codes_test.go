// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// TestTexts holds what senders read when there is little to say.
func TestTexts(t *testing.T) {
	v := verdict{outcome: deadLettered, reason: limits.ReasonUndecodable, message: "is broken"}
	if got, want := v.unaryError(0).Error(), "invalid_argument: undecodable: event is broken"; got != want {
		t.Errorf("an event as a whole: %q, want %q", got, want)
	}
	v.field = "feature"
	if got, want := v.unaryError(0).Error(), "invalid_argument: undecodable: event.feature is broken"; got != want {
		t.Errorf("a field: %q, want %q", got, want)
	}
	_, err := decodeMetadata(field(2, []byte{0xff}))
	if want := "invalid_argument: metadata cannot be decoded: it is not a whole message, or a text in it is not valid UTF-8"; err == nil || err.Error() != want {
		t.Errorf("metadata: %v, want %q", err, want)
	}
}
