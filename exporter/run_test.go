// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/internal/database/cluster"
	"github.com/telemetrygateway/telemetry/queue"
)

// A gateway that is down for a thousand passes costs nothing but time: then all
// events arrive, the oldest first.
func TestGatewayDownForAThousandPasses(t *testing.T) {
	s := serve(t)
	address, up := unreliable(t, strings.TrimPrefix(s.url, "http://"))
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		add(t, q, 0, 250)
		ctx, cancel := context.WithCancel(t.Context())
		passes, last := 0, time.Now()
		e := newExporter(t, q, "http://"+address, Options{
			Batch: 100, LeaseFor: queue.MaxLease, CleanupInterval: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			OnPass: func(p Pass) {
				passes++
				if gap := p.Started.Sub(last); gap > maxPause {
					t.Errorf("pass %d began after a pause of %s, want at most %s", passes, gap, maxPause)
				}
				last = p.Started
				switch {
				case p.ok():
					cancel()
				case passes == 1000:
					up.Store(true)
				case passes > 1020:
					t.Errorf("it is up, and the pass still is %+v", p)
					cancel()
				}
			},
		})
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
		if passes < 1001 {
			t.Errorf("it ended after %d passes", passes)
		}
		wantStats(t, q, queue.Stats{Recorded: 250, Exported: 250})
	})
	wantEvents(t, s.received(t), 0, 250)
	if n := strings.Count(log.String(), "level=ERROR"); n > 6 {
		t.Errorf("the log has %d errors, want one for each text:\n%s", n, &log)
	}
	if !strings.Contains(log.String(), "export works again") {
		t.Errorf("the log does not say that it works again:\n%s", &log)
	}
}

// unreliable listens for an address that breaks every connection until it is
// up. It runs outside of any test's fake clock.
func unreliable(t testing.TB, to string) (address string, up *atomic.Bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	up = new(atomic.Bool)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if !up.Load() {
				c.Close()
				continue
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{c, b}, {b, c}} {
				go func() {
					defer pair[0].Close()
					defer pair[1].Close()
					_, _ = io.Copy(pair[0], pair[1])
				}()
			}
		}
	}()
	return l.Addr().String(), up
}

// A gateway that asks to wait is left alone for that long, and not forgotten.
func TestRetryAfterIsObeyed(t *testing.T) {
	s := serve(t)
	s.refusing(func(string) bool { return true })
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		// A connection that stayed open would hold the fake clock.
		w.Header().Set("Connection", "close")
		pass.ServeHTTP(w, r)
	})
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		add(t, q, 0, 100)
		ctx, cancel := context.WithCancel(t.Context())
		passes, earliest, latest := 0, time.Now(), time.Now().Add(startWithin)
		e := newExporter(t, q, s.url, Options{
			Client: client.Options{Protocol: client.Connect},
			OnPass: func(p Pass) {
				if passes++; p.Started.Before(earliest) || p.Started.After(latest) {
					t.Errorf("pass %d began at %s, want from %s to %s", passes, p.Started, earliest, latest)
				}
				if p.ok() {
					cancel()
					return
				}
				if p.RetryAfter != 10*time.Second {
					t.Errorf("pass is %+v, want one that the gateway asked to wait after", p)
				}
				earliest = p.Started.Add(p.RetryAfter)
				latest = earliest.Add(p.Duration + maxPause)
				if passes == 30 {
					s.refusing(nil)
				}
			},
		})
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
		wantStats(t, q, queue.Stats{Recorded: 100, Exported: 100})
	})
	if got := s.received(t); len(got) != 100 {
		t.Errorf("%d events arrived, want 100", len(got))
	}
}

// Passes come at the interval, more or less, and cleanups at theirs, also when
// nothing may be sent.
func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t, sqlite(t), queue.Options{Policy: queue.Policy{Mode: queue.Local}})
		ctx, cancel := context.WithCancel(t.Context())
		last, gaps, prunes := time.Now(), map[time.Duration]bool{}, 0
		e := newExporter(t, q, "", Options{
			Interval: 10 * time.Minute, CleanupInterval: time.Minute,
			OnPrune: func(_ queue.Pruned, _ time.Duration, err error) {
				if prunes++; err != nil {
					t.Error(err)
				}
			},
			OnPass: func(p Pass) {
				gap := p.Started.Sub(last)
				if len(gaps) == 0 && gap > startWithin || len(gaps) > 0 && (gap < 9*time.Minute || gap > 11*time.Minute) {
					t.Errorf("pass %d began after %s", len(gaps), gap)
				}
				last = p.Started
				if gaps[gap] = true; len(gaps) == 20 {
					cancel()
				}
			},
		})
		began := time.Now()
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
		minutes := int(time.Since(began) / time.Minute)
		if prunes < minutes*8/10 || prunes > minutes*12/10 {
			t.Errorf("%d cleanups in %d minutes", prunes, minutes)
		}
	})
}

func TestPause(t *testing.T) {
	for _, tt := range []struct {
		failures             int
		interval, retryAfter time.Duration
		least, most          time.Duration
	}{
		{1, time.Hour, 0, 0, time.Second},
		{2, time.Hour, 0, 0, 2 * time.Second},
		{9, time.Hour, 0, 0, 256 * time.Second},
		{10, time.Hour, 0, 0, 5 * time.Minute},
		{1 << 40, time.Hour, 0, 0, 5 * time.Minute},
		{1 << 40, time.Minute, 0, 0, time.Minute},
		{1, time.Millisecond, 0, 0, time.Millisecond},
		{1, time.Hour, time.Minute, time.Minute, time.Minute + time.Second},
		{10, time.Hour, 3 * time.Hour, 3 * time.Hour, 3*time.Hour + 5*time.Minute},
		{1, time.Hour, 1 << 62, maxRetryAfter, maxRetryAfter + time.Second},
		{1, time.Hour, -1, 0, time.Second},
	} {
		low, high := time.Duration(1<<62), time.Duration(0)
		for range 1000 {
			p := pause(tt.failures, tt.interval, tt.retryAfter)
			low, high = min(low, p), max(high, p)
		}
		// All of the range is used: of a thousand, one is in the lowest tenth and
		// one in the highest.
		if tenth := (tt.most - tt.least) / 10; low < tt.least || high > tt.most || low > tt.least+tenth || high < tt.most-tenth {
			t.Errorf("after %d failures with interval %s and retry after %s: from %s to %s, want from %s to %s",
				tt.failures, tt.interval, tt.retryAfter, low, high, tt.least, tt.most)
		}
	}
}

func TestNext(t *testing.T) {
	q := newQueue(t)
	e := newExporter(t, q, "", Options{})
	for _, tt := range []struct {
		name     string
		pass     Pass
		failures int // before
		most     time.Duration
		want     int // failures after
	}{
		{"ok", Pass{Leased: true, Complete: true, Accepted: 5}, 7, DefaultInterval * 11 / 10, 0},
		{"another has the queue", Pass{}, 7, MaxLeaseFor * 11 / 10, 0},
		{"not reached", Pass{Leased: true, Err: errSilent}, 3, 8 * time.Second, 4},
		{"broke later", Pass{Leased: true, Err: errSilent, Accepted: 5}, 3, time.Second, 1},
		{"some fail", Pass{Leased: true, Complete: true, Accepted: 5, Failed: 5}, 3, 8 * time.Second, 4},
		{"asked to wait", Pass{Leased: true, Accepted: 5, Failed: 5, RetryAfter: time.Minute}, 3, 61 * time.Second, 1},
	} {
		for range 100 {
			wait, failures := e.next(tt.pass, tt.failures)
			if failures != tt.want || wait > tt.most || wait < tt.pass.RetryAfter {
				t.Errorf("%s: %d failures, wait %s; want %d and at most %s", tt.name, failures, wait, tt.want, tt.most)
			}
		}
	}
}

// When told to stop, Run finishes and marks the batch in flight, begins no
// other, and leaves the queue to others.
func TestStops(t *testing.T) {
	for _, db := range databases {
		t.Run(db.name, func(t *testing.T) {
			q := openQueue(t, db.open(t), queue.Options{})
			add(t, q, 0, 1000)
			s := serve(t)
			ctx, stop := context.WithCancel(t.Context())
			calls := 0
			s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
				if calls++; calls == 2 {
					stop()
				}
				pass.ServeHTTP(w, r)
			})
			e := newExporter(t, q, s.url, Options{Batch: 100, Interval: time.Second})
			if err := e.Run(ctx); err != nil {
				t.Error(err)
			}
			wantEvents(t, s.received(t), 0, 200)
			wantStats(t, q, queue.Stats{Recorded: 1000, Exported: 200, Pending: 800})
			if p := e.Status().Last; p.Err != nil || p.Complete {
				t.Errorf("the last pass is %+v", p)
			}
			if _, err := q.Lease(t.Context(), "another", time.Minute); err != nil {
				t.Errorf("the queue is not free: %v", err)
			}
			// Told before it began, it does nothing.
			if err := e.Run(ctx); err != nil || calls != 2 {
				t.Errorf("Run with an ended context: %v, %d calls", err, calls)
			}
		})
	}
}

// A batch that takes longer than the grace is cut off, and stays queued.
func TestStopsWithinGrace(t *testing.T) {
	q := newQueue(t)
	add(t, q, 0, 10)
	s := serve(t)
	ctx, stop := context.WithCancel(t.Context())
	s.intercept(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		stop()
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	e := newExporter(t, q, s.url, Options{Interval: time.Second, Grace: time.Millisecond})
	if err := e.Run(ctx); err != nil {
		t.Error(err)
	}
	if p := e.Status().Last; p.Kind != client.Canceled {
		t.Errorf("the last pass is %+v", p)
	}
	wantStats(t, q, queue.Stats{Recorded: 10, Pending: 10})
}

// A database that goes away, even in the middle of a write, is waited for.
func TestDatabaseRestarts(t *testing.T) {
	c, err := cluster.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := c.CreateDatabase("instance"); err != nil {
		t.Fatal(err)
	}
	q := openQueue(t, openDB(t, "pgx", c.URL("instance")), queue.Options{AddTimeout: time.Minute})
	s := serve(t)
	ctx, stop := context.WithCancel(t.Context())
	var restarts atomic.Int32
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		pass.ServeHTTP(w, r)
		// Between the acknowledgement and its mark, or the next call's claim.
		if n := restarts.Add(1); n <= 2 {
			if err := c.Restart([]string{"fast", "immediate"}[n-1]); err != nil {
				t.Error(err)
			}
		}
	})
	add(t, q, 0, 500)
	e := newExporter(t, q, s.url, Options{Batch: 100, Interval: time.Second, OnPass: func(p Pass) {
		if stats, err := q.Stats(ctx); err == nil && stats.Exported == 500 {
			stop()
		}
	}})
	if err := e.Run(ctx); err != nil {
		t.Error(err)
	}
	got := map[string]bool{}
	for _, id := range s.received(t) {
		got[id] = true
	}
	for n := range 500 {
		if !got[fmt.Sprintf("event-%06d", n)] {
			t.Errorf("event %d is missing", n)
		}
	}
	wantStats(t, q, queue.Stats{Recorded: 500, Exported: 500})
}

// When there is no end to what is queued, passes end all the same, so that what
// they do is told; and nothing waits or is sent twice for that.
func TestPassesEnd(t *testing.T) {
	q := newQueue(t)
	add(t, q, 0, 1000)
	s := serve(t)
	e := newExporter(t, q, s.url, Options{Batch: 100})
	for n := 1; ; n++ {
		p := e.pass(t.Context(), 1)
		if p.Err != nil || p.Accepted != 100 || n > 10 {
			t.Fatalf("pass %d is %+v", n, p)
		}
		if p.Complete {
			break
		}
		if wait, failures := e.next(p, 3); !p.More || wait != 0 || failures != 0 {
			t.Fatalf("pass is %+v, and the next after %s with %d failures", p, wait, failures)
		}
		if e.Status().LastSuccess.IsZero() {
			t.Error("nobody is told that export works")
		}
	}
	wantEvents(t, s.received(t), 0, 1000)
	wantStats(t, q, queue.Stats{Recorded: 1000, Exported: 1000})
}
