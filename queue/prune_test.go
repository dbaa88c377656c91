// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"database/sql/driver"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/queue"
)

func TestPrune(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{Retention: time.Hour, MaxAge: 2 * time.Hour, MaxBytes: 1500})
		es := events(0, 10)
		b.add(q, es...)
		l := b.lease(q)
		b.done(l, ids(b.claim(l, 2)))
		b.clock.advance(30 * time.Minute)
		b.done(l, ids(b.claim(l, 2)))
		b.clock.advance(30*time.Minute + time.Second)
		prune := func(want queue.Pruned) {
			t.Helper()
			if got, err := q.Prune(t.Context()); err != nil || got != want {
				t.Errorf("Prune = %+v, %v; want %+v", got, err, want)
			}
		}
		// Two are exported for more than an hour; of the six that are pending,
		// 1,500 bytes is the room for five.
		prune(queue.Pruned{Exported: 2, Expired: 1})
		b.expect(q, queue.Stats{Recorded: 10, Exported: 4, Expired: 1, Pending: 5})
		prune(queue.Pruned{})
		b.clock.advance(time.Hour + 6*time.Second) // beyond two hours for events 5 and 6
		prune(queue.Pruned{Exported: 2, Expired: 2})
		b.expect(q, queue.Stats{Recorded: 10, Exported: 4, Expired: 3, Pending: 3})
		l.Rewind()
		if got := ids(b.claim(l, 10)); !slices.Equal(got, eventIDs(es[7:])) {
			t.Errorf("left are %v, want %v", got, eventIDs(es[7:]))
		}
	})
}

// steps notes how many rows each transaction changes.
type steps struct {
	mu      sync.Mutex
	rows    []int64
	changes int64
}

func (s *steps) before(string, []driver.NamedValue) {}

func (s *steps) after(statement string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if statement == "COMMIT" {
		s.rows = append(s.rows, s.changes)
		s.changes = 0
	} else if strings.HasPrefix(statement, "DELETE FROM telemetry_events_export_queue") {
		s.changes += n
	}
}

// Nobody who records events waits for more than a small step of the cleanup.
func TestPruneInSmallSteps(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &steps{}
			b := tappedBed(t, name, s)
			q := b.open(queue.Options{Retention: time.Hour})
			l := b.lease(q)
			const n = 3500
			for range n / 500 {
				b.add(q, events(0, 500)...)
				b.done(l, ids(b.claim(l, 500)))
				l.Rewind()
			}
			b.clock.advance(2 * time.Hour)
			s.rows = nil
			if p, err := q.Prune(t.Context()); err != nil || p.Exported != n {
				t.Fatalf("Prune = %+v, %v", p, err)
			}
			var all int64
			for _, rows := range s.rows {
				all += rows
				if rows > 1000 {
					t.Errorf("a transaction deleted %d rows", rows)
				}
			}
			if all != n {
				t.Errorf("%d rows were deleted, want %d", all, n)
			}
		})
	}
}

// between calls f after the first commit that deleted events.
type between struct {
	deleted bool
	f       func()
}

func (*between) before(string, []driver.NamedValue) {}

func (s *between) after(statement string, n int64) {
	switch {
	case strings.HasPrefix(statement, "DELETE FROM telemetry_events_export_queue"):
		s.deleted = true
	case statement == "COMMIT" && s.deleted && s.f != nil:
		f := s.f
		s.f = nil
		f()
	}
}

// No event expires for the sake of room that others have made meanwhile.
func TestPruneLeavesWhatFits(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &between{}
			b := tappedBed(t, name, s)
			q := b.open(queue.Options{})
			for n := range 6 {
				b.add(q, events(500*n, 500)...)
			}
			l := b.lease(q)
			s.f = func() { b.done(l, ids(b.claim(l, 1000))) }
			half := b.open(queue.Options{MaxBytes: b.stats(q).Bytes / 2})
			if p, err := half.Prune(t.Context()); err != nil || p.Expired != 1000 {
				t.Errorf("Prune = %+v, %v, want only what it took before others exported", p, err)
			}
			b.expect(q, queue.Stats{Recorded: 3000, Exported: 1000, Expired: 1000, Pending: 1000})
		})
	}
}
