// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

func TestAllowListExample(t *testing.T) {
	text, err := os.ReadFile("testdata/allow.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l, err := ParseAllowList(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Allowed{
		{"cody.completion", "*", []string{"languageId", "other providers"}, "Agreed with the works council on 2026-02-17."},
		{"search", "*", []string{"lang"}, "A name from a fixed list."},
		{"search", "executed", []string{"lang", "patternType"}, "Names from fixed lists, which say what people search for in general."},
	}
	if diff := cmp.Diff(want, l.All()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	l.All()[0].Keys[0] = "changed"
	for _, test := range []struct {
		feature, action string
		want            []string
	}{
		{"search", "executed", []string{"lang", "patternType"}},
		{"search", "clicked", []string{"lang"}},
		{"search", "*", []string{"lang"}},
		{"search.results", "executed", nil},
		{"cody.completion", "accepted", []string{"languageId", "other providers"}},
		{"cody", "accepted", nil},
		{"", "", nil},
	} {
		if got := l.keys(test.feature, test.action); !slices.Equal(got, test.want) {
			t.Errorf("%s/%s may send %q, want %q", test.feature, test.action, got, test.want)
		}
	}
}

// entry is an entry without a fault, which tests change.
const entry = `allow:
  - feature: search
    action: executed
    keys: [lang]
    reason: A name from a fixed list.
`

func TestParseAllowListRefuses(t *testing.T) {
	with := func(old, new string) string {
		if !strings.Contains(entry, old) {
			t.Fatalf("no %q in the entry", old)
		}
		return strings.Replace(entry, old, new, 1)
	}
	for _, test := range []struct{ name, text, want string }{
		{"no YAML", "allow: [", "line 1"},
		{"a list", "- a", "line 1: this is not an object; there must be one with: allow"},
		{"a text", "allow", "line 1: this is not an object; there must be one with: allow"},
		{"another field", "deny: []", `line 1: field "deny" is not known; it must be one of: allow`},
		{"another field besides", entry + "deny: []", `line 6: field "deny" is not known`},
		{"no field", "{}", "line 1: field allow is missing"},
		{"allow an object", "allow: {search: executed}", "line 1: this is not a list"},
		{"allow twice", entry + entry, "line 6: field allow is there twice"},
		{"two documents", entry + "---\n" + entry, "line 6: a second document begins"},
		{"a broken second document", entry + "---\n[", "line"},
		{"an entry that is a text", "allow:\n  - search", "line 2: this is not an object; there must be one with: action, feature, keys, reason"},
		{"a misspelt field", with("keys", "key"), `line 4: field "key" is not known`},
		{"a field twice", with("    action", "    feature: blob\n    action"), "line 3: field feature is there twice"},
		{"a field that is an object", with("keys: [lang]", "{keys: a}: [lang]"), "line 4"},
		{"no feature", with("- feature: search\n    action", "- action"), "line 2: field feature is missing"},
		{"no action", with("    action: executed\n", ""), "line 2: field action is missing"},
		{"no keys", with("    keys: [lang]\n", ""), "line 2: field keys is missing"},
		{"no reason", with("    reason: A name from a fixed list.\n", ""), "line 2: field reason is missing"},
		{"a blank reason", with("A name from a fixed list.", `" "`), "line 2: there is no reason"},
		{"empty keys", with("[lang]", "[]"), "line 2: there are no keys"},
		{"keys as one text", with("[lang]", "lang"), "line 4: this is not a list"},
		{"keys of null", with("[lang]", ""), "line 4: this is not a list"},
		{"an empty key", with("[lang]", `[""]`), `line 2: key "" is empty`},
		{"a key twice", with("[lang]", "[lang, lang]"), `line 2: key "lang" is listed twice`},
		{"a key that is a number", with("[lang]", "[1]"), "line 4: this is not a text; put it in quotes"},
		{"a key that is true", with("[lang]", "[lang, true]"), "line 4: this is not a text; put it in quotes"},
		{"a key that is an alias", with("search", "&x search") + "  - feature: *x\n", "line 6: this is not a text"},
		{"a feature that breaks the rule", with("search", "code_search"), `line 2: feature "code_search" is not 2 to 64 bytes`},
		{"all features", with("search", `"*"`), `line 2: feature "*" is not 2 to 64 bytes`},
		{"an action that breaks the rule", with("executed", "Executed"), `line 2: action "Executed" is neither "*" nor 2 to 64 bytes`},
		{"a pattern", with("executed", `"exec*"`), `line 2: action "exec*" is neither`},
		{"* without quotes", with("executed", "*"), "must be in quotes"},
		{"an event twice", entry + strings.TrimPrefix(entry, "allow:\n"), "line 6: feature search with action executed is listed twice"},
		{"huge", "#" + strings.Repeat("x", allowListBytes), "it has 1048577 bytes, more than 1048576"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := ParseAllowList([]byte(test.text))
			if err == nil || l != nil {
				t.Fatalf("got %+v, %v", l, err)
			}
			if !strings.Contains(err.Error(), "read allow list: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q does not say %q", err, test.want)
			}
		})
	}
}

// TestNothingAllowed: these are no mistakes.
func TestNothingAllowed(t *testing.T) {
	for _, text := range []string{"", "# nothing yet\n", "allow: []", "allow:\n#  - feature: search\n"} {
		if l, err := ParseAllowList([]byte(text)); err != nil || len(l.All()) != 0 {
			t.Errorf("%q allows %v, %v", text, l.All(), err)
		}
	}
	for _, value := range []string{"", " "} {
		if l, err := ParseAllowed(value); err != nil || len(l.All()) != 0 {
			t.Errorf("%q allows %v, %v", value, l.All(), err)
		}
	}
	var l *AllowList
	if l.keys("search", "executed") != nil || l.All() != nil || len(l.With(nil).All()) != 0 {
		t.Error("no list allows something")
	}
}

func TestParseAllowed(t *testing.T) {
	const reason = "given in SRC_TELEMETRY_SENSITIVEMETADATA_ADDITIONAL_ALLOWED_EVENT_TYPES"
	l, err := ParseAllowed("search::executed::patternType::lang, blob.codeintel :: * ::languageId")
	if err != nil {
		t.Fatal(err)
	}
	want := []Allowed{
		{"blob.codeintel", "*", []string{"languageId"}, reason},
		{"search", "executed", []string{"lang", "patternType"}, reason},
	}
	if diff := cmp.Diff(want, l.All()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for value, want := range map[string]string{
		"search":                     "entry 1 is not of the form feature::action::key",
		"search::executed":           "entry 1 is not of the form feature::action::key",
		"search:executed:lang":       "entry 1 is not of the form feature::action::key",
		"search::executed::lang,":    "entry 2 is not of the form feature::action::key",
		"search::executed::":         `entry 1: key "" is empty`,
		"search::executed::a::a":     `entry 1: key "a" is listed twice`,
		"se_arch::executed::a":       `entry 1: feature "se_arch" is not`,
		"search::1::a":               `entry 1: action "1" is neither`,
		"ab::ac::x,ab::ac::y":        "entry 2: feature ab with action ac is listed twice",
		"ab::ac::\xff":               "entry 1: key",
		strings.Repeat("x", 1<<20+1): "more than 1048576",
	} {
		l, err := ParseAllowed(value)
		if err == nil || l != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, %v; want %q", value, l, err, want)
		}
	}
}

func TestAllowListWith(t *testing.T) {
	file := &AllowList{byEvent: map[eventName]Allowed{
		{"search", "executed"}: {"search", "executed", []string{"lang", "repo"}, "file"},
		{"search", "*"}:        {"search", "*", []string{"lang"}, "file"},
	}}
	env := &AllowList{byEvent: map[eventName]Allowed{
		{"search", "executed"}: {"search", "executed", []string{"author", "lang"}, "env"},
		{"blob", "viewed"}:     {"blob", "viewed", []string{"lang"}, "env"},
	}}
	before := file.All()
	want := []Allowed{
		{"blob", "viewed", []string{"lang"}, "env"},
		{"search", "*", []string{"lang"}, "file"},
		{"search", "executed", []string{"author", "lang", "repo"}, "file; env"},
	}
	if diff := cmp.Diff(want, file.With(env).All()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, file.All()); diff != "" {
		t.Errorf("the list was changed:\n%s", diff)
	}
	var none *AllowList
	if diff := cmp.Diff(before, none.With(file).With(nil).All()); diff != "" {
		t.Errorf("with nothing more (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, file.With(file).All()); diff != "" {
		t.Errorf("with itself (-want +got):\n%s", diff)
	}
}

// FuzzParseAllowList: what is taken satisfies every rule, and says the same
// when it is written down and read again.
func FuzzParseAllowList(f *testing.F) {
	example, err := os.ReadFile("testdata/allow.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, text := range []string{
		entry, "", "allow:", "allow: [", "a: &a [*a]", "allow: &a\n- *a", "--- !!binary x", "<<: {allow: []}", "? - a\n: b",
		"{allow: [{feature: ab, action: '*', keys: [\"\\u0000\"], reason: x}]}", "allow: !!seq []", "%YAML 1.2\n---\nallow: []\n...\n", "\xff", "\xef\xbb\xbfallow: []",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseAllowList(text)
		if (l == nil) == (err == nil) {
			t.Fatalf("%v and %v", l, err)
		}
		if err != nil {
			return
		}
		checkAllowed(t, l)
		type fields struct {
			Feature, Action string
			Keys            []string
			Reason          string
		}
		var file struct{ Allow []fields }
		for _, a := range l.All() {
			file.Allow = append(file.Allow, fields(a))
		}
		again, err := yaml.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		l2, err := ParseAllowList(again)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, again)
		}
		if diff := cmp.Diff(l.All(), l2.All()); diff != "" {
			t.Errorf("written down and read again:\n%s", diff)
		}
	})
}

func FuzzParseAllowed(f *testing.F) {
	for _, value := range []string{
		"search::executed::patternType::lang, blob.codeintel :: * ::languageId", "", ",", "::", "::::", "ab::cd::e", "ab::cd::::", "ab::*:::e", "ab::cd::\xff",
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		l, err := ParseAllowed(value)
		if (l == nil) == (err == nil) {
			t.Fatalf("%v and %v", l, err)
		}
		if err == nil {
			checkAllowed(t, l)
		}
	})
}

func checkAllowed(t *testing.T, l *AllowList) {
	for _, a := range l.All() {
		if !limits.ValidName(a.Feature) || a.Action != "*" && !limits.ValidName(a.Action) || strings.TrimSpace(a.Reason) == "" {
			t.Errorf("entry %+v breaks a rule", a)
		}
		if len(a.Keys) == 0 || slices.Contains(a.Keys, "") || len(slices.Compact(slices.Clone(a.Keys))) != len(a.Keys) {
			t.Errorf("keys %q break a rule", a.Keys)
		}
		if action := a.Action; !slices.Equal(l.keys(a.Feature, action), a.Keys) {
			t.Errorf("of %+v these leave: %q", a, l.keys(a.Feature, action))
		}
	}
}
