// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package payload turns an event and its sender into the labelled JSON that is
// published, and back. docs/payload.md describes the format field by field.
//
// An event is encoded from its own wire bytes, and nothing of one event
// reaches another: what one event holds can never change what becomes of its
// neighbours. Every input yields a payload or a violation with a reason.
package payload

import (
	"fmt"
	"time"
)

// Sender is who sent an event, as far as the payload shows it.
type Sender struct {
	// Source is the kind of sender, "licensed_instance" or
	// "unlicensed_instance", or the ID of a managed service.
	Source string
	// ID is the instance or service ID. It may be empty.
	ID string
	// Identity is what event IDs are unique within: at most
	// limits.IdentityBytes. It begins the key of each message.
	Identity string
	// Trust is "licensed", "unlicensed" or "service".
	Trust string
	// License is set for licensed instances, and only for them.
	License *License
}

// License is what the payload shows of a licence. Fields that are zero are
// left out.
type License struct {
	ID                       string    `json:"id,omitempty"`
	KeyID                    string    `json:"keyId,omitempty"`
	Version                  int       `json:"version,omitempty"`
	Tags                     []string  `json:"tags,omitempty"`
	Users                    uint      `json:"users,omitempty"`
	CreatedAt                time.Time `json:"createdAt,omitzero"`
	ExpiresAt                time.Time `json:"expiresAt,omitzero"`
	Status                   string    `json:"status,omitempty"`
	SalesforceSubscriptionID string    `json:"salesforceSubscriptionId,omitempty"`
	SalesforceOpportunityID  string    `json:"salesforceOpportunityId,omitempty"`

	// Fingerprint identifies the key without being of use to a thief: a hash of
	// the bytes that were signed. It stands beside the licence in the payload.
	Fingerprint string `json:"-"`
}

// KeyForm says what of a licence key the payload shows.
type KeyForm string

// The forms of a licence key.
const (
	// KeyFingerprint shows the fingerprint. It is the default.
	KeyFingerprint KeyForm = "fingerprint"
	// KeyFull shows the key itself, as the original service does, and the
	// fingerprint.
	KeyFull KeyForm = "full"
	// KeyNone shows neither.
	KeyNone KeyForm = "none"
)

// ParseKeyForm returns the form called s.
func ParseKeyForm(s string) (KeyForm, error) {
	switch f := KeyForm(s); f {
	case KeyFingerprint, KeyFull, KeyNone:
		return f, nil
	}
	return "", fmt.Errorf("unknown form of licence key %q: use %s, %s or %s", s, KeyFingerprint, KeyFull, KeyNone)
}
