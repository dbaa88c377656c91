// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"regexp"
	"strings"
)

// DefaultScope is what a token must allow to send events, unless the operator
// says otherwise.
const DefaultScope = "telemetry_gateway::events::write"

// Scope is what a token must grant.
type Scope struct {
	text string
	// The parts of a scope that has some: service::, permission and ::action.
	service, permission, action string
}

var (
	scopeForm = regexp.MustCompile(`^([a-z_]{1,30}::)([a-z_.]{1,215})(::(?:read|write|delete))$`)
	// plainScopeForm is what RFC 6749 allows in a scope.
	plainScopeForm = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]{1,256}$`)
)

// ParseScope reads a scope of the form service::permission::action. A scope
// without "::", for providers that cannot have it, is one that only equals
// itself.
func ParseScope(s string) (Scope, error) {
	if m := scopeForm.FindStringSubmatch(s); m != nil {
		return Scope{text: s, service: m[1], permission: m[2], action: m[3]}, nil
	}
	if plainScopeForm.MatchString(s) && !strings.Contains(s, "::") {
		return Scope{text: s}, nil
	}
	return Scope{}, fmt.Errorf("scope %.300q is not of the form service::permission::action, where action is read, write or delete, as in %s", s, DefaultScope)
}

func (s Scope) String() string { return s.text }

// GrantedBy says whether one of a token's scopes grants s. A permission grants
// those below it as well: "events" grants "events.page", and not the other way
// round. What else is among the scopes, however malformed, is other services'
// business.
func (s Scope) GrantedBy(scopes []string) bool {
	for _, granted := range scopes {
		if granted == s.text {
			return true
		}
		granted, ours := strings.CutPrefix(granted, s.service)
		granted, does := strings.CutSuffix(granted, s.action)
		// What is left is a permission if it begins ours, up to a boundary.
		if ours && does && granted != "" && len(granted) < len(s.permission) &&
			strings.HasPrefix(s.permission, granted) && s.permission[len(granted)] == '.' {
			return true
		}
	}
	return false
}
