// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/internal/observe"
)

func health(o observe.HealthOptions) (*observe.Health, http.Handler) {
	h := observe.NewHealth(o)
	mux := http.NewServeMux()
	h.Handle(mux)
	return h, mux
}

func get(h http.Handler, path string, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	for _, a := range authorization {
		r.Header.Add("Authorization", a)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func check(t *testing.T, w *httptest.ResponseRecorder, code int, body string) {
	t.Helper()
	if w.Code != code || w.Body.String() != body {
		t.Errorf("got %d %q, want %d %q", w.Code, w.Body, code, body)
	}
}

func TestProbesOfAReadyProcess(t *testing.T) {
	_, h := health(observe.HealthOptions{
		Ready:   func(context.Context) error { return nil },
		Version: "v1.2.3", Build: map[string]string{"version": "v1.2.3"},
	})
	check(t, get(h, "/livez"), 200, "ok\n")
	check(t, get(h, "/readyz"), 200, "ok\n")
	check(t, get(h, "/version"), 200, `{"version":"v1.2.3"}`+"\n")
	check(t, get(h, "/-/version"), 200, "v1.2.3\n")
	check(t, get(h, "/-/healthz?any=thing"), 200, "healthz: ok\n")
}

func TestProbesOfAProcessWhoseTopicIsGone(t *testing.T) {
	_, h := health(observe.HealthOptions{
		Ready: func(context.Context) error { return errors.New("topic: the disk is full\ndead letters: so is theirs") },
	})
	check(t, get(h, "/livez"), 200, "ok\n")
	check(t, get(h, "/readyz"), 503, "topic: the disk is full dead letters: so is theirs\n")
	check(t, get(h, "/-/healthz"), 500, "healthz: topic: the disk is full dead letters: so is theirs\n")
}

func TestAStoppingProcessIsAliveAndNotReady(t *testing.T) {
	health, h := health(observe.HealthOptions{Ready: func(context.Context) error { return nil }})
	check(t, get(h, "/readyz"), 200, "ok\n")
	health.Stop()
	check(t, get(h, "/readyz"), 503, "stopping\n")
	check(t, get(h, "/livez"), 200, "ok\n")
}

func TestDiagnosticsSecret(t *testing.T) {
	_, h := health(observe.HealthOptions{
		Ready: func(context.Context) error { return nil }, DiagnosticsSecret: "s3cret",
	})
	for _, c := range []struct {
		header string
		code   int
	}{
		{"", 401},
		{"s3cret", 400},
		{"Basic s3cret", 400},
		{"Bearers s3cret", 400},
		{"Bearer ", 401},
		{"Bearer s3cre", 401},
		{"Bearer s3cret2", 401},
		{"Bearer S3CRET", 401},
		{"Bearer s3cret", 200},
		{"bearer s3cret", 200},
	} {
		var headers []string
		if c.header != "" {
			headers = []string{c.header}
		}
		w := get(h, "/-/healthz", headers...)
		if w.Code != c.code {
			t.Errorf("Authorization %q: got %d, want %d", c.header, w.Code, c.code)
		}
		if strings.Contains(w.Body.String(), "s3cret") {
			t.Errorf("Authorization %q: the answer holds the secret", c.header)
		}
	}
	check(t, get(h, "/-/version"), 200, "\n")
}

func TestAFloodOfProbesAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		_, h := health(observe.HealthOptions{Ready: func(context.Context) error {
			asked.Add(1)
			time.Sleep(100 * time.Millisecond)
			return nil
		}})
		for second := range int64(3) {
			var flood sync.WaitGroup
			for range 100 {
				flood.Go(func() { check(t, get(h, "/readyz"), 200, "ok\n") })
			}
			flood.Wait()
			check(t, get(h, "/readyz"), 200, "ok\n")
			if n := asked.Load(); n != second+1 {
				t.Errorf("second %d: 101 probes asked %d times in all", second, n)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestNobodyWaitsForATopicThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var asked atomic.Int64
		_, h := health(observe.HealthOptions{Ready: func(context.Context) error {
			asked.Add(1)
			<-release // deaf to its context
			return nil
		}})
		for range 3 {
			start := time.Now()
			if w := get(h, "/readyz"); w.Code != 503 || time.Since(start) != 2*time.Second {
				t.Errorf("got %d after %v, want 503 after 2s", w.Code, time.Since(start))
			}
			check(t, get(h, "/livez"), 200, "ok\n")
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("a hanging topic was asked %d times", n)
		}
		close(release)
		synctest.Wait()
		check(t, get(h, "/readyz"), 200, "ok\n")
	})
}

func TestOneProbeThatGivesUpSpoilsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hl, h := health(observe.HealthOptions{Ready: func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
				return nil
			}
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := hl.Check(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the probe's own deadline", err)
		}
		check(t, get(h, "/readyz"), 200, "ok\n")
	})
}
