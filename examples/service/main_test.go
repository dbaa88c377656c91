// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/telemetrytest"
)

const (
	door   = "/telemetryintake.v1.TelemetryIntakeService/RecordEvents"
	copied = `{"client":{"name":"polls.web"},"events":[{"feature":"poll.link","action":"copied"}]}`
)

// open returns the whole service but its page, and what it records.
func open(t *testing.T) (http.Handler, *telemetrytest.Events) {
	_, events := telemetrytest.New(t)
	recorder := telemetry.New(telemetry.Options{}, consenting{events})
	page := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	return routes(config{publicURL: "https://polls.example.com"}, page, recorder, slog.New(slog.DiscardHandler)), events
}

// vote is a request that votes for the first answer of the only poll there is.
func vote(t *testing.T, service http.Handler) *http.Request {
	t.Helper()
	list := httptest.NewRecorder()
	service.ServeHTTP(list, httptest.NewRequest(http.MethodGet, "/api/polls", nil))
	if c := list.Header().Get("Cache-Control"); c != "no-store" {
		t.Errorf("Cache-Control %q for what is one visitor's own", c)
	}
	id := strings.Split(list.Body.String(), `"`)[3]
	return httptest.NewRequest(http.MethodPut, "/api/polls/"+id+"/vote", strings.NewReader(`{"answer":0}`))
}

func fromPage() *http.Request {
	r := httptest.NewRequest(http.MethodPost, door, strings.NewReader(copied))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// TestVisitor shows that page and backend record the same visitor, which no
// script can read nor another site use.
func TestVisitor(t *testing.T) {
	service, events := open(t)
	first := httptest.NewRecorder()
	service.ServeHTTP(first, httptest.NewRequest(http.MethodGet, "/", nil))
	cookie, err := http.ParseSetCookie(first.Header().Get("Set-Cookie"))
	if err != nil || !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteLaxMode {
		t.Fatalf("cookie %v %v", cookie, err)
	}
	for _, r := range []*http.Request{vote(t, service), fromPage()} {
		r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
		r.Header.Set("X-Visit", "0f3b9a4e-4a5c-4b8e-9d26-7a3b1f6c2d10")
		w := httptest.NewRecorder()
		service.ServeHTTP(w, r)
		if w.Code != http.StatusOK || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v %s", r.URL.Path, w.Code, w.Header(), w.Body)
		}
	}
	for _, e := range events.All() {
		if e.GetUser().GetAnonymousUserId() != cookie.Value || e.GetInteraction().GetInteractionId() != "0f3b9a4e-4a5c-4b8e-9d26-7a3b1f6c2d10" {
			t.Errorf("recorded %v", e)
		}
	}
	if n := len(events.All()); n != 2 {
		t.Errorf("%d events recorded", n)
	}
}

// TestConsent records nothing of those who said no, by whichever way, and serves
// them all the same.
func TestConsent(t *testing.T) {
	for name, value := range map[string]string{"DNT": "1", "Sec-GPC": "1", "Cookie": "telemetry=off"} {
		service, events := open(t)
		for _, r := range []*http.Request{vote(t, service), fromPage()} {
			r.Header.Set(name, value)
			w := httptest.NewRecorder()
			service.ServeHTTP(w, r)
			if w.Code != http.StatusOK || len(events.All()) > 0 {
				t.Errorf("%s, %s: %d, %d events recorded", name, r.URL.Path, w.Code, len(events.All()))
			}
		}
	}
}

// TestOtherSites makes a browser do something that another site's page wants.
func TestOtherSites(t *testing.T) {
	service, events := open(t)
	for _, r := range []*http.Request{
		vote(t, service),
		httptest.NewRequest(http.MethodPost, "/api/polls", strings.NewReader(`{"question":"?","answers":["a","b"]}`)),
		fromPage(),
	} {
		r.Header.Set("Origin", "https://evil.example.net")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		w := httptest.NewRecorder()
		service.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden || len(events.All()) > 0 {
			t.Errorf("%s: %d, %d events recorded", r.URL.Path, w.Code, len(events.All()))
		}
	}
}

// TestSite serves the page so that it can do nothing else than it does, and that
// a browser that has it need not load it again.
func TestSite(t *testing.T) {
	if _, err := site(fstest.MapFS{"index.html": {}}); err == nil || !strings.Contains(err.Error(), "make example") {
		t.Errorf("without its script: %v", err)
	}
	get := func(script, known string) *httptest.ResponseRecorder {
		service, err := site(fstest.MapFS{"index.html": {Data: []byte("page")}, "app.js": {Data: []byte(script)}})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/app.js", nil)
		r.Header.Set("If-None-Match", known)
		w := httptest.NewRecorder()
		service.ServeHTTP(w, r)
		return w
	}
	first := get("one", "")
	if p := first.Header().Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'; ") || strings.Contains(p, "unsafe") {
		t.Errorf("policy %q", p)
	}
	if c := first.Header().Get("Cache-Control"); c != "no-cache" {
		t.Errorf("Cache-Control %q", c)
	}
	for script, status := range map[string]int{"one": http.StatusNotModified, "two": http.StatusOK} {
		if w := get(script, first.Header().Get("ETag")); w.Code != status {
			t.Errorf("%s: %d", script, w.Code)
		}
	}
}
