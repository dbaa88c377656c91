// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/queue"
)

func TestLease(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q, other := b.open(queue.Options{}), b.open(queue.Options{})
		b.add(q, events(0, 4)...)
		first, err := q.Lease(t.Context(), "first", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		claimed := b.claim(first, 2)

		// Until it expires nobody else gets it, not even by the same name.
		b.clock.advance(59 * time.Second)
		for _, name := range []string{"first", "second"} {
			_, err = other.Lease(t.Context(), name, time.Minute)
			var leased *queue.LeasedError
			if !errors.As(err, &leased) || leased.Holder != "first" || !leased.Until.Equal(start.Add(time.Minute)) {
				t.Fatalf("Lease = %v, want that first has it", err)
			}
		}
		// Claim and Done renew it.
		b.claim(first, 1)
		b.clock.advance(59 * time.Second)
		b.done(first, nil)
		b.clock.advance(59 * time.Second)
		if _, err := other.Lease(t.Context(), "second", time.Minute); err == nil {
			t.Fatal("a renewed lease was taken")
		}

		b.clock.advance(time.Second)
		second, err := other.Lease(t.Context(), "second", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		// The first has been asleep: nothing that it says counts.
		if err := first.Done(t.Context(), ids(claimed), []queue.Dead{{ID: claimed[0].ID, Reason: "x"}}); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("Done of the old holder = %v", err)
		}
		if _, err := first.Claim(t.Context(), 1, 1000); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("Claim of the old holder = %v", err)
		}
		if err := first.Release(t.Context()); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("Release of the old holder = %v", err)
		}
		b.expect(q, queue.Stats{Recorded: 4, Pending: 4})
		if rows := b.claim(second, 10); len(rows) != 4 {
			t.Errorf("the new holder claims %d events, want all", len(rows))
		}

		if err := second.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		third, err := q.Lease(t.Context(), "third", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Done(t.Context(), ids(claimed), nil); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("Done after Release = %v", err)
		}
		b.done(third, ids(claimed))
		b.expect(q, queue.Stats{Recorded: 4, Exported: 2, Pending: 2})
	})
}

// Exporters that fight for the queue, and go on with leases that have expired,
// mark each event once.
func TestTwoExporters(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		es := events(0, 200)
		b.add(q, es...)
		var mu sync.Mutex
		done := map[string]int{}
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() {
				for {
					l, err := q.Lease(t.Context(), fmt.Sprint(n), time.Second)
					var leased *queue.LeasedError
					if errors.As(err, &leased) {
						b.clock.advance(time.Second) // it will have expired
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					rows, err := l.Claim(t.Context(), 20, 1<<20)
					if errors.Is(err, queue.ErrFenced) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if len(rows) == 0 {
						return
					}
					switch err := l.Done(t.Context(), ids(rows), nil); {
					case err == nil:
						mu.Lock()
						for _, r := range rows {
							done[r.ID]++
						}
						mu.Unlock()
					case !errors.Is(err, queue.ErrFenced):
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for id, n := range done {
			if n != 1 {
				t.Errorf("%s was marked %d times", id, n)
			}
		}
		if got := slices.Collect(maps.Keys(done)); len(got) != len(es) {
			t.Errorf("%d of %d events are done", len(got), len(es))
		}
		b.expect(q, queue.Stats{Recorded: 200, Exported: 200})
	})
}
