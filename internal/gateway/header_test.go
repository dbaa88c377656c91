// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestAuthorizationHeader has a row for each form that the header can come in,
// as HTTP/1.1 and HTTP/2 deliver it.
func TestAuthorizationHeader(t *testing.T) {
	p := startProvider(t)
	s := start(t, p.introspection)
	token := p.token(t, "pings")
	const body = `{"metadata":{"identifier":{"managedService":{"serviceId":"pings"}}},
		"event":{"id":"a","timestamp":"2026-01-02T03:04:05Z","feature":"codeSearch","action":"executed"}}`
	const ok, unauthorized = http.StatusOK, http.StatusUnauthorized
	sent := 0
	for _, row := range []struct {
		name   string
		values []string
		status int
	}{
		{"right", []string{"Bearer " + token}, ok},
		{"lower case", []string{"bearer " + token}, ok},
		{"upper case", []string{"BEARER " + token}, ok},
		{"several spaces", []string{"Bearer   " + token}, ok},
		{"a tab", []string{"Bearer\t" + token}, ok},
		{"space around", []string{"  Bearer " + token + " \t"}, ok},
		{"missing", nil, unauthorized},
		{"empty", []string{""}, unauthorized},
		{"blank", []string{"  "}, unauthorized},
		{"scheme alone", []string{"Bearer"}, unauthorized},
		{"scheme and a space", []string{"Bearer "}, unauthorized},
		{"token alone", []string{token}, unauthorized},
		{"another scheme", []string{"Basic " + token}, unauthorized},
		{"a scheme that begins alike", []string{"BearerX " + token}, unauthorized},
		{"no space", []string{"Bearer" + token}, unauthorized},
		{"a colon", []string{"Bearer: " + token}, unauthorized},
		{"twice", []string{"Bearer " + token, "Bearer " + token}, unauthorized},
		{"twice, the first wrong", []string{"Bearer wrong", "Bearer " + token}, unauthorized},
		{"twice, one empty", []string{"Bearer " + token, ""}, unauthorized},
		{"joined by a comma", []string{"Bearer " + token + ", Bearer " + token}, unauthorized},
		{"tokens joined by a comma", []string{"Bearer " + token + "," + token}, unauthorized},
		{"two tokens", []string{"Bearer " + token + " " + token}, unauthorized},
		{"a quoted token", []string{`Bearer "` + token + `"`}, unauthorized},
		{"a letter outside ASCII", []string{"Bearer " + token + "é"}, unauthorized},
		{"a token of 17 KiB", []string{"Bearer " + strings.Repeat("a", 17<<10)}, unauthorized},
		{"1 MB", []string{"Bearer " + strings.Repeat("a", 1<<20)}, http.StatusRequestHeaderFieldsTooLarge},
	} {
		t.Run(row.name, func(t *testing.T) {
			for name, client := range map[string]*http.Client{"HTTP/1.1": http.DefaultClient, "HTTP/2.0": h2c(t)} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url()+eventPath, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": row.values}
				response, err := client.Do(r)
				if err != nil {
					// A client may notice by itself that the gateway would not take it.
					if row.status == http.StatusRequestHeaderFieldsTooLarge {
						continue
					}
					t.Fatalf("%s: %v", name, err)
				}
				// Of a request that is too large the gateway reads no more, so the
				// connection may be gone before its answer is read to the end.
				answer, err := io.ReadAll(response.Body)
				response.Body.Close()
				if response.StatusCode != row.status || response.Proto != name || err != nil && row.status == ok {
					t.Errorf("%s: %s with status %d, %s, %v; want %d", name, response.Proto, response.StatusCode, answer, err, row.status)
				}
				if challenge := response.Header.Get("WWW-Authenticate"); (challenge == "Bearer") != (row.status == unauthorized) {
					t.Errorf("%s: challenge %q", name, challenge)
				}
				if row.status == ok {
					sent++
				}
			}
		})
	}
	messages(t, s.topic, sent)
	if asked := p.asked.Load(); asked > 3 {
		t.Errorf("the provider was asked %d times, though only two tokens have the form of one", asked)
	}
}
