// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/strictyaml"
)

// allowListBytes is the largest allow list that is read, in either of its forms.
const allowListBytes = strictyaml.MaxBytes

// anyAction is the Allowed.Action that stands for every action of a feature.
const anyAction = "*"

// AllowList says which private metadata may leave an instance. It is not
// changed once it is made. A nil list allows nothing.
type AllowList struct {
	byEvent map[eventName]Allowed
}

type eventName struct{ feature, action string }

// Allowed is one entry of an AllowList: the private metadata that may leave
// with events of one feature and action.
type Allowed struct {
	Feature string
	// Action is "*" for all actions that have no entry of their own.
	Action string
	// Keys are those of the outermost object of private metadata.
	Keys []string
	// Reason is why they may leave, for whoever looks over the list.
	Reason string
}

// keys returns the keys that may leave with an event. An entry for exactly its
// action counts alone: what is allowed for all actions is not added to it, so
// that it can also allow less.
func (l *AllowList) keys(feature, action string) []string {
	if l == nil {
		return nil
	}
	if a, ok := l.byEvent[eventName{feature, action}]; ok {
		return a.Keys
	}
	return l.byEvent[eventName{feature, anyAction}].Keys
}

// All returns the entries, sorted by feature and action. They belong to the
// caller.
func (l *AllowList) All() []Allowed {
	if l == nil {
		return nil
	}
	all := slices.SortedFunc(maps.Values(l.byEvent), func(a, b Allowed) int {
		return cmp.Or(cmp.Compare(a.Feature, b.Feature), cmp.Compare(a.Action, b.Action))
	})
	for i := range all {
		all[i].Keys = slices.Clone(all[i].Keys)
	}
	return all
}

// With returns a list with the entries of both. Two for the same feature and
// action become one with the keys of both.
func (l *AllowList) With(other *AllowList) *AllowList {
	with := &AllowList{byEvent: map[eventName]Allowed{}}
	for _, a := range slices.Concat(l.All(), other.All()) {
		name := eventName{a.Feature, a.Action}
		if b, ok := with.byEvent[name]; ok {
			a.Keys = slices.Concat(b.Keys, a.Keys)
			slices.Sort(a.Keys)
			a.Keys = slices.Compact(a.Keys)
			if a.Reason != b.Reason {
				a.Reason = b.Reason + "; " + a.Reason
			}
		}
		with.byEvent[name] = a
	}
	return with
}

// add adds an entry that was read.
func (l *AllowList) add(a Allowed) error {
	name := eventName{a.Feature, a.Action}
	_, twice := l.byEvent[name]
	switch {
	case !limits.ValidName(a.Feature):
		return fmt.Errorf("feature %q is not %s", a.Feature, limits.NameRule)
	case a.Action != anyAction && !limits.ValidName(a.Action):
		return fmt.Errorf(`action %q is neither "*" nor %s`, a.Action, limits.NameRule)
	case twice:
		return fmt.Errorf("feature %s with action %s is listed twice; make one entry of the two", a.Feature, a.Action)
	case len(a.Keys) == 0:
		return errors.New("there are no keys; name the keys of private metadata that may leave")
	case strings.TrimSpace(a.Reason) == "":
		return errors.New("there is no reason; say why these keys may leave, for whoever looks over the list")
	}
	seen := map[string]bool{}
	for _, key := range a.Keys {
		switch {
		case key == "" || !utf8.ValidString(key):
			return fmt.Errorf("key %q is empty or not UTF-8", key)
		case seen[key]:
			return fmt.Errorf("key %q is listed twice", key)
		}
		seen[key] = true
	}
	slices.Sort(a.Keys)
	l.byEvent[name] = a
	return nil
}

// ParseAllowList reads an allow list from YAML:
//
//	allow:
//	  - feature: search
//	    action: executed        # or "*", in quotes, for every action
//	    keys: [lang]
//	    reason: Which languages people search in, from a fixed list.
//
// Every field of an entry is required, and anything else is an error, which
// names the line: a misspelt list must not allow other things than it seems to.
// A file with nothing but comments allows nothing.
func ParseAllowList(text []byte) (*AllowList, error) {
	l, err := parseYAML(text)
	if err != nil {
		return nil, fmt.Errorf("read allow list: %w", err)
	}
	return l, nil
}

func parseYAML(text []byte) (*AllowList, error) {
	l := &AllowList{byEvent: map[eventName]Allowed{}}
	entries, err := strictyaml.Only("allow", text)
	if err != nil {
		return nil, err
	}
	if entries == nil || entries.Tag == "!!null" { // all entries are commented out
		return l, nil
	}
	return l, strictyaml.List(entries, func(n *yaml.Node) error {
		var a Allowed
		if err := strictyaml.Object(n, nil, map[string]strictyaml.Read{
			"feature": strictyaml.Text(&a.Feature),
			"action":  strictyaml.Text(&a.Action),
			"reason":  strictyaml.Text(&a.Reason),
			"keys": func(n *yaml.Node) error {
				return strictyaml.List(n, func(n *yaml.Node) error {
					a.Keys = append(a.Keys, "")
					return strictyaml.Text(&a.Keys[len(a.Keys)-1])(n)
				})
			},
		}); err != nil {
			return err
		}
		if err := l.add(a); err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
		return nil
	})
}

// allowedByEnvironment is the name under which the original is given entries.
const allowedByEnvironment = "SRC_TELEMETRY_SENSITIVEMETADATA_ADDITIONAL_ALLOWED_EVENT_TYPES"

// ParseAllowed reads the value of the original's environment variable
// SRC_TELEMETRY_SENSITIVEMETADATA_ADDITIONAL_ALLOWED_EVENT_TYPES: entries
// feature::action::key1::key2…, separated by commas. Spaces around any of these
// do not count. An empty value allows nothing.
func ParseAllowed(value string) (*AllowList, error) {
	l := &AllowList{byEvent: map[eventName]Allowed{}}
	if strings.TrimSpace(value) == "" {
		return l, nil
	}
	if len(value) > allowListBytes {
		return nil, fmt.Errorf("read %s: it has %d bytes, more than %d", allowedByEnvironment, len(value), allowListBytes)
	}
	for i, entry := range strings.Split(value, ",") {
		parts := strings.Split(entry, "::")
		for j := range parts {
			parts[j] = strings.TrimSpace(parts[j])
		}
		if len(parts) < 3 {
			return nil, fmt.Errorf("read %s: entry %d is not of the form feature::action::key, with one or more keys", allowedByEnvironment, i+1)
		}
		if err := l.add(Allowed{Feature: parts[0], Action: parts[1], Keys: parts[2:], Reason: "given in " + allowedByEnvironment}); err != nil {
			return nil, fmt.Errorf("read %s: entry %d: %w", allowedByEnvironment, i+1, err)
		}
	}
	return l, nil
}
