// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"strings"
	"testing"
)

func TestScopeIsGranted(t *testing.T) {
	const required = "telemetry_gateway::events::write"
	for _, row := range []struct {
		required string
		granted  string // between commas
		want     bool
	}{
		{required, required, true},
		{required, "openid,profile," + required, true},
		{required, "", false},
		{required, "telemetry_gateway::events::publish", false}, // a name that documents used, and no action
		{required, "telemetry_gateway::events::read", false},
		{required, "telemetry_gateway::events::delete", false},
		{required, "telemetry_gateway::event::write", false},
		{required, "telemetry_gateway::eventsx::write", false},
		{required, "telemetry_gateway::events.::write", false},
		{required, "telemetry_gateway::.::write", false},
		{required, "telemetry_gateway::::write", false},
		{required, "telemetry::events::write", false},
		{required, "telemetry_gatewayx::events::write", false},
		{required, "xtelemetry_gateway::events::write", false},
		{required, "telemetry_gateway::events::write::more", false},
		{required, "telemetry_gateway::events", false},
		{required, "telemetry_gateway::events::*", false},
		{required, "*", false},
		{required, "telemetry_gateway:events:write", false},
		{required, "Telemetry_Gateway::Events::Write", false},
		{required, " " + required, false},
		{required, required + "\n", false},
		{required, required + " " + required, false}, // whoever splits scopes does it elsewhere
		{required, "::,::::,\x00\xff," + required, true},

		// A permission grants those below it, and not the other way round.
		{"a::events.page::write", "a::events::write", true},
		{"a::events.page.view::write", "a::events::write", true},
		{"a::events.page.view::write", "a::events.page::write", true},
		{"a::events.page::write", "a::events.page::write", true},
		{"a::events.page::write", "a::events.pag::write", false},
		{"a::events.page::write", "a::event::write", false},
		{"a::events.page::write", "a::events.page.view::write", false},
		{"a::events.page::write", "a::events.other::write", false},
		{"a::eventspage::write", "a::events::write", false},
		{"a::events::write", "a::events.page::write", false},
		{"a::events.page::write", "a::events::read", false},
		{"a::events.page::write", "b::events::write", false},
		{"a::events.page::write", "a::page::write", false},

		{"a::events.page::write", "a::events", false},
		{"a::events.page::write", "events::write", false},
		{"a::events.page::write", "events", false},
		{"a::.page::write", "a::.::write", false},
		{"a::.page::write", "a::::write", false},

		// A scope without parts equals itself alone.
		{"telemetry.write", "telemetry.write", true},
		{"telemetry.write", "telemetry", false},
		{"telemetry.write", "telemetry.write.more", false},
		{"telemetry.write", required, false},
		{required, "telemetry.write", false},
		{"https://example.com/write", "https://example.com/write", true},
	} {
		s, err := ParseScope(row.required)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.GrantedBy(strings.Split(row.granted, ",")); got != row.want {
			t.Errorf("%q grants %q: %v, want %v", row.granted, row.required, got, row.want)
		}
	}
}

func TestParseScope(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	for scope, ok := range map[string]bool{
		DefaultScope:                             true,
		long(30) + "::" + long(215) + "::delete": true,
		long(31) + "::" + long(215) + "::delete": false,
		long(30) + "::" + long(216) + "::delete": false,
		"telemetry_gateway::events::publish":     false,
		"telemetry_gateway::events::writ":        false,
		"telemetry_gateway::events":              false,
		"a1::b::read":                            false,
		"a-b::b::read":                           false,
		"::":                                     false,
		"":                                       false,
		"two scopes":                             false,
		"a\nb":                                   false,
		`quo"te`:                                 false,
		`back\slash`:                             false,
		"ä":                                      false,
		long(256):                                true,
		long(257):                                false,
		"api://gateway/.default":                 true,
		"telemetry_gateway:events:write":         true, // not like the default, but it can be meant
	} {
		if _, err := ParseScope(scope); (err == nil) != ok {
			t.Errorf("ParseScope(%q): %v", scope, err)
		}
	}
}

func FuzzScope(f *testing.F) {
	f.Add(DefaultScope, DefaultScope)
	f.Add("a::events.page::write", "a::events::write")
	f.Add("a::events::write", "a::events.page::write")
	f.Add("a::eventspage::write", "a::events::write")
	f.Add("telemetry.write", "telemetry.write")
	f.Add("a::b::read", "::")
	f.Fuzz(func(t *testing.T, required, granted string) {
		s, err := ParseScope(required)
		if err != nil {
			return
		}
		// A scope that grants has the same parts around a permission that ends
		// where a name does.
		want := required == granted
		if service, rest, ok := strings.Cut(required, "::"); ok && !want {
			permission, action, _ := strings.Cut(rest, "::")
			for at, r := range permission {
				if r == '.' && at > 0 && granted == service+"::"+permission[:at]+"::"+action {
					want = true
				}
			}
		}
		if got := s.GrantedBy([]string{granted}); got != want {
			t.Errorf("%q grants %q: %v, want %v", granted, required, got, want)
		}
		if !s.GrantedBy([]string{granted, required}) {
			t.Errorf("%q is not granted by itself beside %q", required, granted)
		}
	})
}
