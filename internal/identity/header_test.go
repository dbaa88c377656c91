// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"regexp"
	"strings"
	"testing"
)

const headerToken = "CANARY.a-b_c~d+e/f=="

var headerRows = []struct {
	name   string
	values []string
	token  string // empty if there is none
	text   string // in the refusal
}{
	{"as it should be", []string{"Bearer " + headerToken}, headerToken, ""},
	{"lower case", []string{"bearer " + headerToken}, headerToken, ""},
	{"upper case", []string{"BEARER " + headerToken}, headerToken, ""},
	{"odd case", []string{"bEaReR " + headerToken}, headerToken, ""},
	{"several spaces", []string{"Bearer   " + headerToken}, headerToken, ""},
	{"a tab", []string{"Bearer\t" + headerToken}, headerToken, ""},
	{"blanks around", []string{" \tBearer \t " + headerToken + "\t "}, headerToken, ""},
	{"the name of the scheme as token", []string{"Bearer Bearer"}, "Bearer", ""},
	{"a token of a megabyte, which is not read here", []string{"Bearer " + strings.Repeat("x", 1<<20)}, strings.Repeat("x", 1<<20), ""},

	{"missing", nil, "", "has no authorization header"},
	{"empty", []string{""}, "", "header is empty"},
	{"blank", []string{" \t "}, "", "header is empty"},
	{"twice", []string{"Bearer " + headerToken, "Bearer " + headerToken}, "", "2 authorization headers"},
	{"twice, once empty", []string{"Bearer " + headerToken, ""}, "", "2 authorization headers"},
	{"a thousand times", make([]string, 1000), "", "1000 authorization headers"},
	{"joined by a comma", []string{"Bearer " + headerToken + ", Bearer " + headerToken}, "", "more than one access token"},
	{"joined by a comma alone", []string{"Bearer " + headerToken + "," + headerToken}, "", "more than one access token"},
	{"a comma at the end", []string{"Bearer " + headerToken + ","}, "", "more than one access token"},
	{"a comma in front", []string{", Bearer " + headerToken}, "", "not of the scheme Bearer"},
	{"another scheme joined by a comma", []string{"Basic " + headerToken + ", Bearer " + headerToken}, "", "not of the scheme Bearer"},
	{"two tokens", []string{"Bearer " + headerToken + " " + headerToken}, "", "more than one access token"},
	{"parameters", []string{`Bearer token="` + headerToken + `", x=y`}, "", "more than one access token"},
	{"the scheme alone", []string{"Bearer"}, "", "no access token after Bearer"},
	{"the scheme and blanks", []string{"Bearer  \t"}, "", "no access token after Bearer"},
	{"no scheme", []string{headerToken}, "", "not of the scheme Bearer"},
	{"no space", []string{"Bearer" + headerToken}, "", "not of the scheme Bearer"},
	{"a colon", []string{"Bearer: " + headerToken}, "", "not of the scheme Bearer"},
	{"a line break", []string{"Bearer\n" + headerToken}, "", "not of the scheme Bearer"},
	{"a no-break space", []string{"Bearer\u00a0" + headerToken}, "", "not of the scheme Bearer"},
	{"quotes", []string{`"Bearer ` + headerToken + `"`}, "", "not of the scheme Bearer"},
	{"Basic", []string{"Basic " + headerToken}, "", "not of the scheme Bearer"},
	{"DPoP", []string{"DPoP " + headerToken}, "", "not of the scheme Bearer"},
	{"token", []string{"token " + headerToken}, "", "not of the scheme Bearer"},
	{"a longer name", []string{"Bearers " + headerToken}, "", "not of the scheme Bearer"},
	{"a letter that looks like one", []string{"Веarer " + headerToken}, "", "not of the scheme Bearer"},
	{"invalid UTF-8", []string{"\xff " + headerToken}, "", "not of the scheme Bearer"},
	{"a megabyte of scheme", []string{strings.Repeat("x", 1<<20) + " " + headerToken}, "", "not of the scheme Bearer"},
	{"a megabyte of blanks", []string{strings.Repeat(" ", 1<<20)}, "", "header is empty"},
}

func TestHeaderForms(t *testing.T) {
	for _, row := range headerRows {
		token, refusal := bearer(row.values)
		if row.text == "" {
			if refusal != nil || token != row.token {
				t.Errorf("%s: token is %.50q, want %.50q (refused: %v)", row.name, token, row.token, refusal)
			}
			continue
		}
		if refusal == nil || token != "" {
			t.Errorf("%s: has the token %.50q", row.name, token)
			continue
		}
		if refusal.Reason != Unauthenticated || !strings.Contains(refusal.Message, row.text) {
			t.Errorf("%s: refused for %s, %q; want %q", row.name, refusal.Reason, refusal.Message, row.text)
		}
		if strings.Contains(refusal.Message, "CANARY") || len(refusal.Message) > 200 {
			t.Errorf("%s: the refusal repeats the header: %q", row.name, refusal.Message)
		}
	}
}

// headerForm says the same as bearer does, in another way.
var headerForm = regexp.MustCompile(`^[ \t]*(?:[Bb][Ee][Aa][Rr][Ee][Rr])[ \t]+([^ \t,]+)[ \t]*$`)

func FuzzHeader(f *testing.F) {
	texts := map[string]bool{} // of refusals, which are the same whatever the header holds
	for _, row := range headerRows {
		for _, v := range row.values {
			if len(v) < 1<<10 {
				f.Add(v)
			}
		}
		if _, refusal := bearer(row.values); refusal != nil {
			texts[refusal.Message] = true
		}
	}
	f.Fuzz(func(t *testing.T, value string) {
		token, refusal := bearer([]string{value})
		var want string
		if m := headerForm.FindStringSubmatch(value); m != nil {
			want = m[1]
		}
		if token != want || (refusal == nil) != (want != "") {
			t.Errorf("token is %q, refused for %v; want %q", token, refusal, want)
		}
		if refusal != nil && (!texts[refusal.Message] || refusal.Reason != Unauthenticated) {
			t.Errorf("refused for %s: %q", refusal.Reason, refusal.Message)
		}
	})
}
