// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/telemetrygateway/telemetry"
)

// visit has a request pass through v and returns who it is taken to be from.
func visit(v visitors, r *http.Request) (actor telemetry.Actor, country, trace string, answer *http.Response) {
	v.tracer = noop.NewTracerProvider().Tracer("")
	w := httptest.NewRecorder()
	v.wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		actor, country, trace = telemetry.ActorFrom(r.Context()), telemetry.InteractionFrom(r.Context()).CountryCode, traceID(r.Context())
	})).ServeHTTP(w, r)
	return actor, country, trace, w.Result()
}

// headers returns a request with headers such as "Name: value".
func headers(hs ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://code.example.com/.api/graphql", nil)
	for _, h := range hs {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func TestAnonymousIDs(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"header", []string{"X-Sourcegraph-Actor-Anonymous-UID: abc"}, "abc"},
		{"cookie", []string{"Cookie: sourcegraphAnonymousUid=abc"}, "abc"},
		{"header before cookie", []string{"Cookie: sourcegraphAnonymousUid=def", "X-Sourcegraph-Actor-Anonymous-UID: abc"}, "abc"},
		{"as long as can be", []string{"X-Sourcegraph-Actor-Anonymous-UID: " + strings.Repeat("a", 128)}, strings.Repeat("a", 128)},
		{"too long", []string{"X-Sourcegraph-Actor-Anonymous-UID: " + strings.Repeat("a", 129)}, ""},
		{"not for a cookie", []string{"X-Sourcegraph-Actor-Anonymous-UID: a;b"}, ""},
		{"not ASCII", []string{"X-Sourcegraph-Actor-Anonymous-UID: ä"}, ""},
		{"bad header, good cookie", []string{"X-Sourcegraph-Actor-Anonymous-UID: a b", "Cookie: sourcegraphAnonymousUid=abc"}, "abc"},
		{"no browser", nil, ""},
		{"page of another site", []string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, ""},
		{"page of another site, old browser", []string{"Origin: https://evil.example"}, ""},
		{"page without an origin", []string{"Origin: null"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			actor, _, _, answer := visit(visitors{}, headers(c.headers...))
			if actor.AnonymousUserID != c.want {
				t.Errorf("got %q, want %q", actor.AnonymousUserID, c.want)
			}
			if cookies := answer.Cookies(); len(cookies) > 0 {
				t.Errorf("a cookie was set: %v", cookies)
			}
		})
	}
}

// A page of the same site that has no ID is given one, which the event has
// already.
func TestAPageOfTheSameSiteGetsACookie(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []string
		secure  bool
		tls     bool
	}{
		{name: "same origin", headers: []string{"Sec-Fetch-Site: same-origin"}},
		{name: "same site", headers: []string{"Sec-Fetch-Site: same-site", "Origin: https://app.example.com"}},
		{name: "old browser", headers: []string{"Origin: http://code.example.com"}},
		{name: "bad cookie", headers: []string{"Sec-Fetch-Site: same-origin", `Cookie: sourcegraphAnonymousUid="a b"`}},
		{name: "product on https", headers: []string{"Sec-Fetch-Site: same-origin"}, secure: true},
		{name: "request over https", headers: []string{"Sec-Fetch-Site: same-origin"}, tls: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := headers(c.headers...)
			if c.tls {
				r.TLS = new(tls.ConnectionState)
			}
			actor, _, _, answer := visit(visitors{secure: c.secure}, r)
			if _, err := uuid.Parse(actor.AnonymousUserID); err != nil {
				t.Fatalf("the actor is %+v", actor)
			}
			want := "sourcegraphAnonymousUid=" + actor.AnonymousUserID + "; Path=/; Max-Age=31536000"
			if c.secure || c.tls {
				want += "; Secure"
			}
			if got := answer.Header.Get("Set-Cookie"); got != want+"; SameSite=Lax" {
				t.Errorf("got cookie %q, want %q", got, want+"; SameSite=Lax")
			}
		})
	}
	if _, _, _, answer := visit(visitors{}, httptest.NewRequest(http.MethodOptions, "/", nil)); len(answer.Cookies()) > 0 {
		t.Error("a preflight request is answered with a cookie")
	}
}

// User and country are believed of a trusted proxy alone, and only if it
// replaces what the client sent.
func TestUserAndCountryComeFromTrustedProxies(t *testing.T) {
	v := visitors{
		userHeader: "X-User", countryHeader: "CF-IPCountry",
		proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
	}
	for _, c := range []struct {
		peer    string
		headers []string
		user    int64
		country string
	}{
		{"10.1.2.3:80", []string{"X-User: 7", "CF-IPCountry: de"}, 7, "DE"},
		{"[::ffff:10.1.2.3]:80", []string{"X-User: 7"}, 7, ""},
		{"[fd00::1%eth0]:80", []string{"X-User: 9223372036854775807"}, 1<<63 - 1, ""},
		{"11.1.2.3:80", []string{"X-User: 7", "CF-IPCountry: DE"}, 0, ""},
		{"11.1.2.3:80", []string{"X-User: 7", "X-Forwarded-For: 10.1.2.3"}, 0, ""},
		{"@", []string{"X-User: 7"}, 0, ""},
		{"10.1.2.3:80", []string{"X-User: 7", "X-User: 8", "CF-IPCountry: DE", "CF-IPCountry: FR"}, 0, ""},
		{"10.1.2.3:80", []string{"X-User: -7"}, 0, ""},
		{"10.1.2.3:80", []string{"X-User: seven"}, 0, ""},
		{"10.1.2.3:80", []string{"X-User: 9223372036854775808"}, 0, ""},
		{"10.1.2.3:80", []string{"CF-IPCountry: XX"}, 0, ""},
		{"10.1.2.3:80", []string{"CF-IPCountry: T1"}, 0, ""},
		{"10.1.2.3:80", []string{"CF-IPCountry: DEU"}, 0, ""},
		{"10.1.2.3:80", nil, 0, ""},
	} {
		r := headers(c.headers...)
		r.RemoteAddr = c.peer
		actor, country, _, _ := visit(v, r)
		if actor.UserID != c.user || country != c.country {
			t.Errorf("from %s with %q: got user %d in %q, want %d in %q", c.peer, c.headers, actor.UserID, country, c.user, c.country)
		}
	}
	r := headers("X-User: 7", "CF-IPCountry: DE")
	r.RemoteAddr = "10.1.2.3:80"
	if actor, country, _, _ := visit(visitors{proxies: v.proxies}, r); actor.UserID != 0 || country != "" {
		t.Errorf("headers that nobody named are believed: %+v, %q", actor, country)
	}
}

func TestTheTraceIsTheRequests(t *testing.T) {
	for header, want := range map[string]string{
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": "0af7651916cd43dd8448eb211c80319c",
		"traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01": "",
		"traceparent: 00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01":  "",
		"traceparent: <script>": "",
		"other: header":         "",
	} {
		if _, _, got, _ := visit(visitors{}, headers(header)); got != want {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
}
