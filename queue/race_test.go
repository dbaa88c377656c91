// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/queue"
)

// Whoever adds, exports, lets expire, filters and replays at the same time never
// waits in a circle, and each event is counted once.
func TestSumsUnderRaces(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		const rounds, most = 12, 50
		strict := queue.Policy{Mode: queue.Limited, Features: []string{"search"}}
		q := b.open(queue.Options{MaxBytes: 20_000, Retention: time.Nanosecond})
		other := b.open(queue.Options{Policy: strict})
		var workers sync.WaitGroup
		repeat := func(f func(n int) error) {
			workers.Go(func() {
				for n := range rounds {
					if err := f(n); err != nil && !errors.As(err, new(*queue.LeasedError)) && !errors.Is(err, queue.ErrFenced) {
						t.Error(err)
					}
				}
			})
		}
		for worker := range 2 {
			repeat(func(n int) error {
				es := events((worker*rounds+n)*most, most)
				for i, e := range es {
					if i%5 == 0 {
						e.Feature = "cody.chat"
					}
				}
				return q.Add(t.Context(), es...)
			})
			repeat(func(int) error {
				l, err := q.Lease(t.Context(), "racer", time.Nanosecond) // and the next may have it
				if err != nil {
					return err
				}
				rows, err := l.Claim(t.Context(), most, 1<<20)
				if err != nil || len(rows) < 2 {
					return err
				}
				half := ids(rows)[:len(rows)/2]
				err = l.Done(t.Context(), half, []queue.Dead{{ID: rows[len(rows)-1].ID, Reason: "test"}})
				b.clock.advance(time.Second)
				return err
			})
		}
		repeat(func(int) error { _, err := q.Prune(t.Context()); return err })
		repeat(func(int) error {
			other.SetPolicy(strict) // anew, so that it is applied
			_, err := other.ApplyPolicy(t.Context())
			return err
		})
		repeat(func(int) error {
			page, err := q.List(t.Context(), queue.DeadLettered, most, "")
			for _, i := range page.Items {
				if _, err := q.Replay(t.Context(), i.ID); err != nil {
					return err
				}
			}
			return err
		})
		workers.Wait()
		if s := b.stats(q); s.Recorded != 2*rounds*most || s.Recorded == s.Pending {
			t.Errorf("%+v after %d events", s, 2*rounds*most)
		}
		b.stats(other)
	})
}
