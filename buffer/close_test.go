// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package buffer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// takeSome accepts the events of a call and asks for time before the next one
// is made.
func takeSome(wait time.Duration) interceptor {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		body, _ := io.ReadAll(r.Body)
		var request telemetrygatewayv1.RecordEventBatchRequest
		if err := proto.Unmarshal(body, &request); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer := &telemetrygatewayv1.RecordEventBatchResponse{RetryAfter: durationpb.New(wait)}
		for _, e := range request.Events {
			answer.SucceededEvents = append(answer.SucceededEvents, e.GetId())
		}
		b, _ := proto.Marshal(answer)
		w.Header().Set("Content-Type", "application/proto")
		_, _ = w.Write(b)
	}
}

// A gateway that takes what it gets and asks to wait with the rest is a reason
// as well, and not none.
func TestUnsentForWaiting(t *testing.T) {
	s := serve(t)
	s.intercept(takeSome(time.Hour))
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer(t, s.url, Options{})
		mustAdd(t, b, numbered(0, callEvents+5)...)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var unsent *UnsentError
		if err := b.Close(ctx); !errors.As(err, &unsent) || len(unsent.Events) != 5 || unsent.Cause == nil || !strings.Contains(err.Error(), "1h0m0s") {
			t.Errorf("error %v, want one that says how long to wait", err)
		}
		wantStats(t, b, Stats{Added: callEvents + 5, Accepted: callEvents, Unsent: 5})
	})
}

// However many close it at once, while others add, each event that Add took is
// sent or given back, once.
func TestCloseAndAddAtOnce(t *testing.T) {
	s := serve(t)
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if s.calls.Load()%2 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		pass.ServeHTTP(w, r)
	})
	for round := range 4 {
		var added [4][]*telemetrygatewayv1.Event
		var back [3][]*telemetrygatewayv1.Event
		synctest.Test(t, func(t *testing.T) {
			b := newBuffer(t, s.url, Options{Interval: time.Millisecond})
			stop := running(t, b)
			var all sync.WaitGroup
			some := make(chan struct{}, len(added))
			for g := range added {
				all.Go(func() {
					for n := range 500 {
						e := newEvent((round*len(added)+g)*500 + n)
						switch err := b.Add(t.Context(), e); {
						case errors.Is(err, ErrClosed):
							return
						case err != nil:
							t.Error(err)
						}
						if added[g] = append(added[g], e); n == 50 {
							some <- struct{}{}
						}
					}
				})
			}
			for range added {
				<-some
			}
			for i := range back {
				all.Go(func() {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if i == 0 && round%2 == 0 {
						cancel() // is not patient
					}
					err := b.Close(ctx)
					if unsent := (*UnsentError)(nil); errors.As(err, &unsent) {
						back[i] = unsent.Events
					} else if err != nil && !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					wantSum(t, b.Stats())
				})
			}
			all.Wait()
			stop()
			got := b.Stats()
			wantSum(t, got)
			took, unsent := len(slices.Concat(added[:]...)), len(slices.Concat(back[:]...))
			if got.Added != int64(took) || got.Unsent != int64(unsent) || got.Pending != 0 || got.Accepted != got.Added-got.Unsent {
				t.Errorf("%d taken, %d given back, stats are %+v", took, unsent, got)
			}
		})
		times := map[string]int{}
		for _, id := range ids(slices.Concat(back[:]...)) {
			if times[id]++; times[id] > 1 {
				t.Errorf("%s is given back twice", id)
			}
		}
		for _, id := range s.received(t) {
			times[id]++
		}
		s.got = nil
		for _, id := range ids(slices.Concat(added[:]...)) {
			if times[id] == 0 {
				t.Errorf("%s is lost", id)
			}
		}
	}
}

// One who waits for less long than others to close it learns so in time, and
// the others are not held to that.
func TestImpatientClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bufferAs(t, "http://127.0.0.1:1", client.Service("pings", "", silent{}), Options{})
		mustAdd(t, b, newEvent(1))
		began := time.Now()
		closed := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			closed <- b.Close(ctx)
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("the impatient one after %s: %v", time.Since(began), err)
		}
		var unsent *UnsentError
		if err := <-closed; !errors.As(err, &unsent) || len(unsent.Events) != 1 || time.Since(began) != 30*time.Second {
			t.Errorf("the other one after %s: %v", time.Since(began), err)
		}
		wantStats(t, b, Stats{Added: 1, Unsent: 1})
	})
}
