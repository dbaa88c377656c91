// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/intake"
)

const (
	page      = "https://app.example.com"
	port      = "http://localhost:3000"
	extension = "chrome-extension://dgjhfomjieaadpoljlnidmbgkdffpack"
	firefox   = "moz-extension://0f3b9a4e-4a5c-4b8e-9d26-7a3b1f6c2d10"
)

// TestOrigins sends as browsers and programs do, from wherever a page may be.
func TestOrigins(t *testing.T) {
	const self = "http://example.com" // httptest's
	for _, row := range []struct {
		name, origin, site string
		taken, shared      bool // recorded; and the page may read the response
	}{
		{"program", "", "", true, false},
		{"page", page, "cross-site", true, true},
		{"page in an old browser", page, "", true, true},
		{"page of the same site", page, "same-site", true, true},
		{"page with a port", port, "cross-site", true, true},
		{"extension for Chrome", extension, "cross-site", true, true},
		{"extension for Chrome with the user's leave", extension, "none", true, true},
		{"extension for Firefox", firefox, "", true, true},
		{"own page", self, "same-origin", true, false},
		{"own page in an old browser", self, "", true, false},
		{"own page, no origin sent", "", "same-origin", true, false},
		{"typed by a user", "", "none", true, false},

		{"other page", "https://evil.example.net", "cross-site", false, false},
		{"other page in an old browser", "https://evil.example.net", "", false, false},
		{"other page that hides its origin", "", "cross-site", false, false},
		{"other page of the same site, which hides its origin", "", "same-site", false, false},
		{"sandboxed frame", "null", "cross-site", false, false},
		{"file or sandboxed frame in an old browser", "null", "", false, false},
		{"sandboxed frame of our own", "null", "same-origin", false, false},
		{"other scheme", "http://app.example.com", "cross-site", false, false},
		{"other port", "https://app.example.com:8443", "cross-site", false, false},
		{"port left out", "http://localhost", "cross-site", false, false},
		{"subdomain", "https://x.app.example.com", "cross-site", false, false},
		{"parent", "https://example.com", "cross-site", false, false},
		{"same beginning", "https://app.example.com.evil.net", "cross-site", false, false},
		{"same end", "https://evilapp.example.com", "cross-site", false, false},
		{"capitals", "https://APP.example.com", "cross-site", false, false},
		{"slash", page + "/", "cross-site", false, false},
		{"two in one", page + " https://evil.example.net", "cross-site", false, false},
		{"user in it", "https://app.example.com@evil.example.net", "cross-site", false, false},
		{"other extension", "chrome-extension://aaaabbbbccccddddeeeeffffgggghhhh", "none", false, false},
		{"wildcard", "*", "cross-site", false, false},
	} {
		for _, sent := range []struct {
			path, contentType, body string
			open                    func(testing.TB, intake.Options) *door
		}{
			{"/.api/graphql", "application/json", body(`[` + simple + `]`), open},
			{"/.api/graphql", "text/plain", body(`[` + simple + `]`), open},
			{"/.api/graphql", "", body(`[` + simple + `]`), open},
			{procedure, "application/json", one, openConnect},
			{procedure, "application/proto", binary(t, one), openConnect},
		} {
			t.Run(row.name+" "+sent.path+" "+sent.contentType, func(t *testing.T) {
				d := sent.open(t, intake.Options{AllowedOrigins: []string{page, port, extension, firefox}})
				r := httptest.NewRequest(http.MethodPost, sent.path, strings.NewReader(sent.body))
				set := func(r *http.Request, key, value string) {
					if value != "" {
						r.Header.Set(key, value)
					}
				}
				set(r, "Content-Type", sent.contentType)
				set(r, "Origin", row.origin)
				set(r, "Sec-Fetch-Site", row.site)
				got := d.do(t, r)
				status, events := http.StatusForbidden, 0
				if row.taken {
					status, events = http.StatusOK, 1
				}
				if got.Status != status || len(d.events.All()) != events {
					t.Errorf("%d, %d events: %s", got.Status, len(d.events.All()), got.Text)
				}
				checkCORS(t, got, row.origin, row.shared)

				preflight := httptest.NewRequest(http.MethodOptions, sent.path, nil)
				set(preflight, "Origin", row.origin)
				set(preflight, "Access-Control-Request-Method", "POST")
				set(preflight, "Access-Control-Request-Headers", "content-type")
				got = d.do(t, preflight)
				status = http.StatusForbidden
				if row.shared {
					status = http.StatusNoContent
				}
				if got.Status != status || (got.Header.Get("Access-Control-Max-Age") != "") != row.shared || (got.Header.Get("Access-Control-Allow-Methods") == "POST") != row.shared {
					t.Errorf("preflight: %d %v", got.Status, got.Header)
				}
				for _, h := range []string{"content-type", "authorization", "x-requested-with", "x-sourcegraph-interaction-id", "x-sourcegraph-client", "x-sourcegraph-actor-anonymous-uid", "x-sourcegraph-should-trace", "idempotency-key", "traceparent", "connect-protocol-version", "connect-timeout-ms", "x-grpc-web", "x-user-agent", "grpc-timeout", "content-encoding"} {
					if allowed := got.Header.Get("Access-Control-Allow-Headers"); strings.Contains(allowed, h) != row.shared {
						t.Errorf("preflight allows %q", allowed)
					}
				}
				checkCORS(t, got, row.origin, row.shared)
			})
		}
	}
}

func checkCORS(t *testing.T, got *response, origin string, shared bool) {
	t.Helper()
	want, credentials := "", ""
	if shared {
		want, credentials = origin, "true"
	}
	if got.Header.Get("Access-Control-Allow-Origin") != want || got.Header.Get("Access-Control-Allow-Credentials") != credentials || got.Header.Get("Vary") != "Origin" {
		t.Errorf("headers %v", got.Header)
	}
}

// TestForeignTypes refuses pages of other origins whatever type they say that
// they send, and in the words of every protocol.
func TestForeignTypes(t *testing.T) {
	for contentType, want := range map[string]struct {
		status int
		grpc   string // status of gRPC-Web, in a header that pages may read
	}{
		"":                                  {403, ""},
		"text/plain":                        {403, ""},
		"application/x-www-form-urlencoded": {403, ""},
		"multipart/form-data; boundary=x":   {403, ""},
		"application/json":                  {403, ""},
		"application/proto":                 {403, ""},
		"application/connect+json":          {200, ""},
		"application/grpc-web+proto":        {200, "7"},
		"application/grpc-web-text":         {403, ""},
	} {
		d := openConnect(t, intake.Options{AllowedOrigins: []string{page}})
		r := connectRequest(contentType, one)
		r.Header.Set("Origin", "https://evil.example.net")
		got := d.do(t, r)
		if got.Status != want.status || got.Header.Get("Grpc-Status") != want.grpc || len(d.events.All()) > 0 {
			t.Errorf("%s: %d %v %s", contentType, got.Status, got.Header, got.Text)
		}
		if want.status == 403 && !strings.Contains(got.Text, `"permission_denied"`) {
			t.Errorf("%s: %s", contentType, got.Text)
		}
		if !strings.Contains(got.Header.Get("Access-Control-Expose-Headers"), "grpc-status") || got.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", contentType, got.Header)
		}
	}
}

// TestTwoOrigins refuses what no browser sends.
func TestTwoOrigins(t *testing.T) {
	d := open(t, intake.Options{AllowedOrigins: []string{page}})
	r := request(body(`[` + simple + `]`))
	r.Header["Origin"] = []string{page, "https://evil.example.net"}
	if got := d.do(t, r); got.Status != http.StatusForbidden {
		t.Errorf("%d %s", got.Status, got.Text)
	}
}

// TestNoOrigins allows no other origin unless told to.
func TestNoOrigins(t *testing.T) {
	d := open(t, intake.Options{})
	r := request(body(`[` + simple + `]`))
	r.Header.Set("Origin", page)
	if got := d.do(t, r); got.Status != http.StatusForbidden {
		t.Errorf("%d %s", got.Status, got.Text)
	}
}

func TestCheckOrigin(t *testing.T) {
	for origin, want := range map[string]string{
		page: "", port: "", extension: "", firefox: "", "http://[::1]:8080": "", "https://xn--bcher-kva.example": "",
		"":                                "is not like https://example.com",
		"null":                            "is not like https://example.com",
		"example.com":                     "is not like https://example.com",
		"//example.com":                   "is not like https://example.com",
		"https://":                        "is not like https://example.com",
		"*":                               "wildcard",
		"https://*.example.com":           "wildcard",
		"https://example.com/":            `use "https://example.com"`,
		"https://example.com/path?q#f":    `use "https://example.com"`,
		"https://user@example.com":        `use "https://example.com"`,
		"HTTPS://Example.com":             `use "https://example.com"`,
		"https://example.com:443":         `use "https://example.com"`,
		"https://example.com:":            `use "https://example.com"`,
		"http://example.com:80":           `use "http://example.com"`,
		"https://b\u00fccher.example":     "ASCII",
		"https://example.com https://x.y": "is not",
	} {
		err := intake.CheckOrigin(origin)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", origin, err, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a handler was made with a wildcard")
		}
	}()
	intake.GraphQL(telemetry.New(telemetry.Options{}), intake.Options{AllowedOrigins: []string{"*"}})
}
