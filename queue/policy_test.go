// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"strings"
	"testing"
)

func TestModes(t *testing.T) {
	order := []Mode{All, Limited, Local, Off}
	for i, m := range order {
		if got, err := ParseMode(m.String()); err != nil || got != m {
			t.Errorf("ParseMode(%q) = %v, %v", m, got, err)
		}
		for j, n := range order {
			if got, want := Strictest(m, n), order[max(i, j)]; got != want {
				t.Errorf("Strictest(%v, %v) = %v, want %v", m, n, got, want)
			}
		}
	}
	for _, name := range []string{"", "ALL", "none", " all"} {
		m, err := ParseMode(name)
		if err == nil || m != Off {
			t.Errorf("ParseMode(%q) = %v, %v; an error must come with the strictest mode", name, m, err)
			continue
		}
		for _, m := range order {
			if !strings.Contains(err.Error(), m.String()) {
				t.Errorf("%q does not name mode %s", err, m)
			}
		}
	}
	if got := Mode(9).String(); got != "Mode(9)" {
		t.Errorf("an unknown mode is called %q", got)
	}
}

func TestPolicyAllows(t *testing.T) {
	for _, test := range []struct {
		policy  Policy
		feature string
		want    bool
	}{
		{Policy{}, "search", true},
		{Policy{Mode: All, Features: []string{"cody"}}, "search", true},
		{Policy{Mode: Local}, "search", false},
		{Policy{Mode: Off}, "search", false},
		{Policy{Mode: Off, Features: []string{"search"}, Vendor: true}, "search", false},
		{Policy{Mode: 9}, "search", false},
		{Policy{Mode: -1}, "search", false},

		{Policy{Mode: Limited}, "cody", true},
		{Policy{Mode: Limited}, "cody.completion", true},
		{Policy{Mode: Limited}, "codyx", false},
		{Policy{Mode: Limited}, "cody-chat", false},
		{Policy{Mode: Limited}, "Cody", false},
		{Policy{Mode: Limited}, "search.cody", false},
		{Policy{Mode: Limited}, "", false},

		{Policy{Mode: Limited, Features: []string{"search", "blob.codeintel"}}, "cody", false},
		{Policy{Mode: Limited, Features: []string{"search", "blob.codeintel"}}, "search.results", true},
		{Policy{Mode: Limited, Features: []string{"search", "blob.codeintel"}}, "blob", false},
		{Policy{Mode: Limited, Features: []string{"search", "blob.codeintel"}}, "blob.codeintel", true},
		{Policy{Mode: Limited, Features: []string{""}}, "", false},
		{Policy{Mode: Limited, Features: []string{""}}, ".search", false},
	} {
		if got := test.policy.Allows(test.feature); got != test.want {
			t.Errorf("%+v allows %q: %v, want %v", test.policy, test.feature, got, test.want)
		}
	}
}
