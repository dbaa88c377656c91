// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"strings"
)

// Mode says which events leave an instance. Modes are ordered: each lets no
// more out than the one before it.
type Mode int

const (
	// All exports every event.
	All Mode = iota
	// Limited exports the events of Policy.Features.
	Limited
	// Local exports nothing. Events are still recorded for the instance's own
	// administrators.
	Local
	// Off exports nothing, and is for instances that record nothing either.
	Off
)

// modes has the name of each Mode.
var modes = [...]string{All: "all", Limited: "limited", Local: "local", Off: "off"}

// String returns the name that ParseMode takes.
func (m Mode) String() string {
	if m < All || m > Off {
		return fmt.Sprintf("Mode(%d)", int(m))
	}
	return modes[m]
}

// ParseMode returns the mode with a name: "all", "limited", "local" or "off".
func ParseMode(name string) (Mode, error) {
	for m, n := range modes {
		if n == name {
			return Mode(m), nil
		}
	}
	return Off, fmt.Errorf("mode %q is not known; use one of %s", name, strings.Join(modes[:], ", "))
}

// Strictest returns the mode that lets less out.
func Strictest(a, b Mode) Mode { return max(a, b) }

// Policy says which events leave an instance, and which of their fields. The
// zero Policy exports every event, without anything private.
type Policy struct {
	Mode Mode
	// Features are what Limited exports: each stands for the feature of that
	// name and for those below it, so that "search" includes "search.results".
	// Empty means "cody".
	Features []string
	// Allow has the private metadata that may leave. Nil means none.
	Allow *AllowList
	// Vendor is for an instance that the vendor itself operates: nothing is
	// redacted, neither private metadata nor marketing data.
	Vendor bool
}

// Allows reports whether events of a feature may leave at all.
func (p Policy) Allows(feature string) bool {
	switch p.Mode {
	case All:
		return true
	case Limited:
		if len(p.Features) == 0 {
			return within(feature, "cody")
		}
		for _, f := range p.Features {
			if within(feature, f) {
				return true
			}
		}
	}
	return false
}

// within reports whether feature is parent or below it.
func within(feature, parent string) bool {
	rest, ok := strings.CutPrefix(feature, parent)
	return ok && parent != "" && (rest == "" || rest[0] == '.')
}
