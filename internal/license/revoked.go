// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package license

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// Revoked is a list of licences that count no more. The zero value is
// empty. It does not change after ParseRevoked.
type Revoked struct{ names map[string]bool }

var fingerprintForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ParseRevoked reads licence IDs and fingerprints, one a line. What follows a #
// is a comment. Errors name the line: a typing error must not leave a licence
// in force.
func ParseRevoked(data []byte) (*Revoked, error) {
	r := &Revoked{names: map[string]bool{}}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line, _, _ = bytes.Cut(line, []byte("#"))
		name := strings.ToLower(string(bytes.TrimSpace(line)))
		if name == "" {
			continue
		}
		if id, err := uuid.Parse(name); !fingerprintForm.MatchString(name) && (err != nil || id.String() != name) {
			return nil, fmt.Errorf("line %d: this is neither a licence ID nor a fingerprint (sha256:…); telemetry license inspect shows both", n)
		}
		r.names[name] = true
	}
	return r, nil
}

// Has reports whether the licence was revoked, by its ID or fingerprint.
func (r *Revoked) Has(l *License) bool {
	return r.names[l.fingerprint] || r.names[l.ID]
}

// Len is how many licences are revoked.
func (r *Revoked) Len() int { return len(r.names) }
