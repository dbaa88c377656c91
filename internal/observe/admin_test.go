// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/observe"
)

func admin() http.Handler {
	return observe.Admin(observe.NewMetrics("v1.2.3", "c0ffee").Handler(), observe.NewHealth(observe.HealthOptions{
		Ready: func(context.Context) error { return nil }, Build: map[string]string{"version": "v1.2.3"},
	}))
}

// Every link of the admin pages leads somewhere. The recordings take as long
// as their links say, so they have a test of their own.
func TestAdminLinksWork(t *testing.T) {
	h := admin()
	for _, page := range []string{"/", "/debug/pprof/"} {
		w := get(h, page)
		if w.Code != 200 {
			t.Fatalf("%s: %d", page, w.Code)
		}
		links := regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1)
		if len(links) < 5 {
			t.Errorf("%s: %d links", page, len(links))
		}
		for _, l := range links {
			if strings.Contains(l[1], "seconds=") {
				continue
			}
			if w := get(h, page+l[1]); w.Code != 200 || w.Body.Len() == 0 {
				t.Errorf("%s%s: %d with %d bytes", page, l[1], w.Code, w.Body.Len())
			}
		}
	}
}

func TestRecordings(t *testing.T) {
	h := admin()
	gzip := []byte{0x1f, 0x8b}
	if w := get(h, "/debug/pprof/heap?gc=1"); !bytes.HasPrefix(w.Body.Bytes(), gzip) {
		t.Error("heap is not in the format of go tool pprof")
	}
	if w := get(h, "/debug/pprof/profile?seconds=0.01"); !bytes.HasPrefix(w.Body.Bytes(), gzip) {
		t.Error("profile is not in the format of go tool pprof")
	}
	if w := get(h, "/debug/pprof/trace?seconds=0.01"); !bytes.HasPrefix(w.Body.Bytes(), []byte("go 1.")) {
		t.Error("trace is not in the format of go tool trace")
	}
	for path, code := range map[string]int{
		"/debug/pprof/nothing":             404,
		"/debug/pprof/profile?seconds=NaN": 400,
		"/debug/pprof/profile?seconds=0":   400,
		"/debug/pprof/trace?seconds=1e9":   400,
		"/elsewhere":                       404,
	} {
		if w := get(h, path); w.Code != code {
			t.Errorf("%s: got %d, want %d", path, w.Code, code)
		}
	}
}

// Whoever serves the default mux by mistake must not serve profiles with it.
func TestTheDefaultMuxStaysEmpty(t *testing.T) {
	for _, path := range []string{"/debug/pprof/", "/metrics", "/"} {
		r := httptest.NewRequest("GET", path, nil)
		if _, pattern := http.DefaultServeMux.Handler(r); pattern != "" {
			t.Errorf("linking this package makes the default mux serve %s", pattern)
		}
	}
}
