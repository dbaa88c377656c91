// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package buffer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

var _ telemetry.Store = (*Buffer)(nil)

// Events wait for company, but not longer than the interval, and not when there
// is enough of it.
func TestWhenItSends(t *testing.T) {
	s := serve(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer(t, s.url, Options{Interval: 3 * time.Second})
		stop := running(t, b)
		synctest.Wait()
		mustAdd(t, b, newEvent(0))
		time.Sleep(2 * time.Second)
		mustAdd(t, b, numbered(1, 10)...)
		time.Sleep(time.Second - time.Millisecond)
		synctest.Wait()
		wantStats(t, b, Stats{Added: 10, Pending: 10})
		time.Sleep(time.Second)
		wantStats(t, b, Stats{Added: 10, Accepted: 10})
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d calls, want one", n)
		}

		began := time.Now()
		mustAdd(t, b, newEvent(10))
		synctest.Wait() // it waits for company
		mustAdd(t, b, numbered(11, 10+callEvents)...)
		for b.Stats().Pending > 0 {
			time.Sleep(time.Millisecond)
		}
		if waited := time.Since(began); waited > 100*time.Millisecond {
			t.Errorf("a whole call's worth of events waited for %s", waited)
		}
		stop()
		wantStats(t, b, Stats{Added: 10 + callEvents, Accepted: 10 + callEvents})
	})
	wantReceived(t, s, numbered(0, 10+callEvents))
}

// What does not fit is turned away as a whole, is counted, and fits again later.
func TestFull(t *testing.T) {
	s := serve(t)
	b := newBuffer(t, s.url, Options{MaxEvents: 10})
	mustAdd(t, b, numbered(0, 8)...)
	if err := b.Add(t.Context(), numbered(8, 11)...); !errors.Is(err, ErrFull) {
		t.Errorf("error %v, want %v", err, ErrFull)
	}
	mustAdd(t, b, numbered(8, 10)...)
	if err := b.Add(t.Context(), newEvent(10)); !errors.Is(err, ErrFull) {
		t.Errorf("error %v, want %v", err, ErrFull)
	}
	if err := b.Add(t.Context(), numbered(0, 11)...); err == nil || errors.Is(err, ErrFull) {
		t.Errorf("more than ever fits: error %v", err)
	}
	mustAdd(t, b)
	wantStats(t, b, Stats{Added: 10, Pending: 10, Refused: 4})
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
	wantStats(t, b, Stats{Added: 10, Accepted: 10, Refused: 4})

	b = newBuffer(t, s.url, Options{MaxBytes: 1000})
	large := newEvent(1)
	large.Action = strings.Repeat("x", 900)
	mustAdd(t, b, large)
	if err := b.Add(t.Context(), numbered(2, 5)...); !errors.Is(err, ErrFull) {
		t.Errorf("error %v, want %v", err, ErrFull)
	}
	large.Action += strings.Repeat("x", 100)
	if err := b.Add(t.Context(), large); err == nil || errors.Is(err, ErrFull) || strings.Contains(err.Error(), "xxx") {
		t.Errorf("larger than ever fits: error %v", err)
	}
	broken := newEvent(2)
	broken.Feature = "s3cret\xff"
	if err := b.Add(t.Context(), newEvent(1), broken); err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "event 1") {
		t.Errorf("an event that is not text: error %v", err)
	}
	wantStats(t, b, Stats{Added: 1, Pending: 1, Refused: 3})
}

// What is added may be changed afterwards, as other stores may want.
func TestAddCopies(t *testing.T) {
	s := serve(t)
	b := newBuffer(t, s.url, Options{})
	e := newEvent(1)
	mustAdd(t, b, e)
	e.Id = "another"
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
	wantReceived(t, s, numbered(1, 2))
}

func TestClosed(t *testing.T) {
	s := serve(t)
	b := newBuffer(t, s.url, Options{})
	mustAdd(t, b, numbered(0, 3)...)
	for range 2 {
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := b.Add(t.Context(), newEvent(3)); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want %v", err, ErrClosed)
	}
	if err := b.Run(t.Context()); err != nil {
		t.Error(err)
	}
	wantStats(t, b, Stats{Added: 3, Accepted: 3})
	wantReceived(t, s, numbered(0, 3))
}

func TestRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer(t, "http://127.0.0.1:1", Options{})
		stop := running(t, b)
		synctest.Wait()
		if err := b.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("error %v", err)
		}
		stop()
		running(t, b)() // but again
	})
}

// Run ends when Close is called, and Close sends what is left at once.
func TestCloseEndsRun(t *testing.T) {
	s := serve(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer(t, s.url, Options{Interval: time.Hour})
		ended := make(chan error, 1)
		go func() { ended <- b.Run(t.Context()) }()
		synctest.Wait()
		mustAdd(t, b, numbered(0, 2500)...)
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		wantStats(t, b, Stats{Added: 2500, Accepted: 2500})
	})
	wantReceived(t, s, numbered(0, 2500))
}

// What cannot be sent before the context ends comes back, with the reason.
func TestUnsent(t *testing.T) {
	s := serve(t)
	for name, tt := range map[string]struct {
		gateway interceptor
		text    string
	}{
		"down":           {status(http.StatusServiceUnavailable), "503"},
		"never answers":  {silence, "deadline exceeded"},
		"asks for hours": {retryAfter("7200"), "too many"},
	} {
		s.intercept(tt.gateway)
		b := newBuffer(t, s.url, Options{})
		stop := running(t, b)
		mustAdd(t, b, numbered(0, 5)...)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := b.Close(ctx)
		cancel()
		stop()
		var unsent *UnsentError
		if !errors.As(err, &unsent) || !strings.Contains(err.Error(), "5 events") || !strings.Contains(err.Error(), tt.text) {
			t.Fatalf("%s: error %v, want one with %q", name, err, tt.text)
		}
		if got := slices.Sorted(slices.Values(ids(unsent.Events))); !slices.Equal(got, ids(numbered(0, 5))) {
			t.Errorf("%s: unsent are %v", name, got)
		}
		wantStats(t, b, Stats{Added: 5, Unsent: 5})
		if err := b.Close(t.Context()); err != nil {
			t.Errorf("%s: what was given back is given back again: %v", name, err)
		}
	}
	// What cannot be waited for is not.
	synctest.Test(t, func(t *testing.T) {
		s.intercept(retryAfter("60"))
		b := newBuffer(t, s.url, Options{})
		mustAdd(t, b, numbered(0, 5)...)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := b.Close(ctx); err == nil || time.Since(began) > time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
	// A context that has ended already is enough to learn what there is.
	b := newBuffer(t, s.url, Options{})
	mustAdd(t, b, numbered(0, 5)...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	wantStats(t, b, Stats{Added: 5, Unsent: 5})
}

// silence takes a call and never answers it.
func silence(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body) // only then is it known when the caller hangs up
	<-r.Context().Done()
}

func retryAfter(seconds string) interceptor {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Retry-After", seconds)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"code": "resource_exhausted", "message": "too many"}`)
	}
}

// Close interrupts a call of Run's that would outlast its context, and the call
// of an impatient caller does not cost the others their events.
func TestCloseInterruptsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bufferAs(t, "http://127.0.0.1:1", client.Service("pings", "", silent{}), Options{})
		ended := make(chan error, 1)
		go func() { ended <- b.Run(t.Context()) }()
		mustAdd(t, b, newEvent(1))
		time.Sleep(2 * time.Second) // it sends
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var unsent *UnsentError
		if err := b.Close(ctx); !errors.As(err, &unsent) || len(unsent.Events) != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if waited := time.Since(began); waited != 10*time.Second {
			t.Errorf("closed after %s", waited)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// silent is a source of tokens that does not answer. A call that waits for it
// stands for one that hangs anywhere.
type silent struct{}

func (silent) Token(ctx context.Context) (string, error) {
	<-ctx.Done()
	return "", context.Cause(ctx)
}

// When Run is told to stop, the call under way has a little longer.
func TestRunStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bufferAs(t, "http://127.0.0.1:1", client.Service("pings", "", silent{}), Options{})
		stop := running(t, b)
		mustAdd(t, b, newEvent(1))
		time.Sleep(2 * time.Second)
		began := time.Now()
		stop()
		if waited := time.Since(began); waited != grace {
			t.Errorf("stopped after %s, want %s", waited, grace)
		}
		wantStats(t, b, Stats{Added: 1, Pending: 1})
	})
}

// Sums add up at any moment, whatever happens at the same time, and in the end
// every event is where the numbers say.
func TestSums(t *testing.T) {
	s := serve(t)
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if s.calls.Load()%3 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		pass.ServeHTTP(w, r)
	})
	s.refusing(func(id string) bool { return strings.HasSuffix(id, "7") && s.calls.Load()%2 == 0 })
	var events []*telemetrygatewayv1.Event
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer(t, s.url, Options{MaxEvents: 500, Interval: time.Millisecond})
		stop := running(t, b)
		var all sync.WaitGroup
		var added [8][]*telemetrygatewayv1.Event
		for g := range added {
			all.Go(func() {
				for n := range 100 {
					e := numbered(g*1000+n*5, g*1000+n*5+5)
					if n%10 == 0 {
						e[0].Feature = "Not allowed" // becomes a dead letter
					}
					switch err := b.Add(t.Context(), e...); {
					case err == nil:
						added[g] = append(added[g], e...)
					case !errors.Is(err, ErrFull):
						t.Error(err)
					}
					wantSum(t, b.Stats())
				}
			})
		}
		all.Wait()
		err := b.Close(t.Context())
		stop()
		if err != nil {
			t.Fatal(err)
		}
		events = slices.Concat(added[:]...)
		dead := int64(0)
		events = slices.DeleteFunc(events, func(e *telemetrygatewayv1.Event) bool {
			if e.GetFeature() == "Not allowed" {
				dead++
				return true
			}
			return false
		})
		wantStats(t, b, Stats{Added: int64(len(events)) + dead, Accepted: int64(len(events)), DeadLettered: dead, Refused: 4000 - int64(len(events)) - dead})
	})
	wantReceived(t, s, events)
}
