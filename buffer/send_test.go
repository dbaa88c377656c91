// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package buffer

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/client"
)

// A gateway that is down for a long time costs time, and nothing else as long
// as there is room. Then everything arrives, once.
func TestGatewayDown(t *testing.T) {
	s := serve(t)
	s.intercept(status(http.StatusServiceUnavailable))
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		var attempts atomic.Int64
		began := time.Now()
		last := began
		b := newBuffer(t, s.url, Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), OnResult: func(client.Result, error) {
			n := attempts.Add(1)
			if gap := time.Since(last); gap > maxPause {
				t.Errorf("attempt %d came after %s", n, gap)
			}
			last = time.Now()
			if n == 200 {
				s.intercept(pass)
				if took := time.Since(began); took < 200*maxPause/4 {
					t.Errorf("200 attempts within %s: it does not wait longer and longer", took)
				}
			}
		}})
		stop := running(t, b)
		for n := 0; n < 3000; n += 100 {
			mustAdd(t, b, numbered(n, n+100)...)
		}
		for b.Stats().Pending > 0 {
			time.Sleep(time.Second)
			if n := attempts.Load(); n > 230 {
				t.Fatalf("not sent after %d attempts: %+v", n, b.Stats())
			}
		}
		stop()
		wantStats(t, b, Stats{Added: 3000, Accepted: 3000})
		if b.Stats().Failures != 0 {
			t.Errorf("%d failures", b.Stats().Failures)
		}
	})
	wantReceived(t, s, numbered(0, 3000))
	text := log.String()
	if strings.Count(text, "level=ERROR") != 1 || strings.Count(text, "works again") != 1 || strings.Contains(text, "event-0") {
		t.Errorf("the log is\n%.2000s", text)
	}
}

// How long the gateway asks to wait is waited, whatever is added meanwhile.
func TestRetryAfter(t *testing.T) {
	s := serve(t)
	s.intercept(retryAfter("600"))
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer(t, s.url, Options{})
		stop := running(t, b)
		mustAdd(t, b, newEvent(0))
		for range 5 {
			time.Sleep(2*time.Minute - time.Second)
			mustAdd(t, b, numbered(1, 1+callEvents)...)
			if n := s.calls.Load(); n > 1 {
				t.Errorf("%d calls within ten minutes", n)
			}
		}
		s.intercept(pass)
		time.Sleep(2 * time.Minute)
		wantStats(t, b, Stats{Added: 1 + 5*callEvents, Accepted: 1 + 5*callEvents})
		stop()
	})
}

// Events that the gateway refuses for ever, or takes only as dead letters, or
// that cannot be sent at all, hold up none of the others.
func TestPoison(t *testing.T) {
	s := serve(t)
	s.refusing(func(id string) bool { return id == "event-000001" || id == "event-001500" })
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer(t, s.url, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		stop := running(t, b)
		events := numbered(0, 3000)
		events[0].Feature = "Secret feature"
		events[2].Action = strings.Repeat("x", client.DefaultMaxMessageBytes)
		mustAdd(t, b, events...)
		time.Sleep(10 * time.Minute)
		wantStats(t, b, Stats{Added: 3000, Accepted: 2996, DeadLettered: 1, Unsendable: 1, Pending: 2})
		if b.Stats().Failures == 0 {
			t.Error("nothing is told of what the gateway refuses")
		}
		if calls := s.calls.Load(); calls > 100 {
			t.Errorf("%d calls in ten minutes", calls)
		}
		mustAdd(t, b, numbered(3000, 3010)...)
		time.Sleep(2 * time.Minute)
		wantStats(t, b, Stats{Added: 3010, Accepted: 3006, DeadLettered: 1, Unsendable: 1, Pending: 2})
		s.refusing(func(string) bool { return false })
		time.Sleep(2 * time.Minute)
		wantStats(t, b, Stats{Added: 3010, Accepted: 3008, DeadLettered: 1, Unsendable: 1})
		stop()
	})
	text := log.String()
	for _, want := range []string{"first_reason=feature_invalid", "first_reason=too_large", "works again"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not say %s", want)
		}
	}
	if strings.Contains(text, "Secret") || strings.Contains(text, "xxx") {
		t.Error("the log quotes an event")
	}
}

// An event at which something on the way breaks the whole call is found and set
// aside, and all others arrive.
func TestEventThatBreaksCalls(t *testing.T) {
	s := serve(t)
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte("event-000123")) {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		pass.ServeHTTP(w, r)
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer(t, s.url, Options{})
		stop := running(t, b)
		mustAdd(t, b, numbered(0, 3000)...)
		time.Sleep(time.Hour)
		wantStats(t, b, Stats{Added: 3000, Accepted: 2999, Pending: 1})
		stop()
	})
	wantReceived(t, s, slices.Delete(numbered(0, 3000), 123, 124))
}

// A gateway of which every other call fails is still sent many events at once.
func TestEveryOtherCallFails(t *testing.T) {
	s := serve(t)
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if s.calls.Load()%2 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		pass.ServeHTTP(w, r)
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer(t, s.url, Options{})
		stop := running(t, b)
		mustAdd(t, b, numbered(0, 5000)...)
		time.Sleep(time.Minute)
		wantStats(t, b, Stats{Added: 5000, Accepted: 5000})
		stop()
	})
	if n := s.calls.Load(); n > 200 {
		t.Errorf("%d calls", n)
	}
	wantReceived(t, s, numbered(0, 5000))
}

// A call that hangs is given up, and what it had is sent again.
func TestCallThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		results := make(chan error, 1)
		b := bufferAs(t, "http://127.0.0.1:1", client.Service("pings", "", silent{}), Options{OnResult: func(_ client.Result, err error) { results <- err }})
		stop := running(t, b)
		began := time.Now()
		mustAdd(t, b, newEvent(1))
		for range 3 {
			if err := <-results; err == nil || !strings.Contains(err.Error(), "longer than 1m0s") {
				t.Errorf("error %v", err)
			}
		}
		if waited := time.Since(began); waited < 3*callTimeout || waited > 3*callTimeout+3*maxPause {
			t.Errorf("three calls took %s", waited)
		}
		stop()
	})
}
