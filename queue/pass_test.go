// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/queue"
)

// A pass ends at the end of the queue, also while events are added all the time.
func TestPassEnds(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		b.add(q, events(0, 10)...)
		l := b.lease(q)
		for _, want := range []int{4, 4, 2, 0, 0} {
			rows := b.claim(l, 4)
			if len(rows) != want {
				t.Errorf("claimed %d events, want %d", len(rows), want)
			}
			b.done(l, ids(rows))
			if want < 4 {
				b.add(q, event(20+int(b.stats(q).Recorded)))
			}
		}
		l.Rewind()
		if rows := b.claim(l, 4); len(rows) != 3 {
			t.Errorf("the next pass has %d events, want those that were added", len(rows))
		}
	})
}

// An application's transaction may last for hours. The events in it are then
// older than others that have left already, and leave all the same.
func TestLateCommit(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		if b.dialect == database.SQLite {
			return // nobody else writes meanwhile
		}
		q := b.open(queue.Options{})
		tx, err := b.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		late := events(0, 2)
		if err := q.Tx(tx).Add(t.Context(), late...); err != nil {
			t.Fatal(err)
		}
		others := events(2, 4)
		b.add(q, others...)
		l := b.lease(q)
		if rows := b.claim(l, 3); !slices.Equal(ids(rows), eventIDs(others[:3])) {
			t.Errorf("claimed %v", ids(rows))
		} else {
			b.done(l, ids(rows))
		}
		if _, err := q.Prune(t.Context()); err != nil { // of the ledger, say
			t.Error(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		b.expect(q, queue.Stats{Recorded: 6, Exported: 3, Pending: 3})
		b.done(l, ids(b.claim(l, 3)))
		l.Rewind()
		if rows := b.claim(l, 3); !slices.Equal(ids(rows), eventIDs(late)) {
			t.Errorf("the next pass has %v, want what was committed late", ids(rows))
		}
	})
}

// A holder died, and then the clock was set back: nobody waits until the lease
// would end.
func TestClockSetBack(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		dead := b.lease(q)
		b.clock.advance(-time.Second)
		if _, err := q.Lease(t.Context(), "next", time.Minute); err != nil {
			t.Errorf("Lease = %v, which nobody could have asked for", err)
		}
		if err := dead.Done(t.Context(), nil, nil); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("Done = %v", err)
		}
		if _, err := q.Lease(t.Context(), "third", queue.MaxLease+1); err == nil {
			t.Error("a lease can be asked for that is void")
		}
	})
}

// Processes whose clocks differ agree on who has the lease, as they go by the
// server's. This one's is a day ahead.
func TestLeasesGoByTheServersClock(t *testing.T) {
	db := open(t, "pgx", newDatabase(t)+",pg_catalog")
	_, err := db.Exec(`CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() + interval ''1 day'''`)
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(t.Context(), db, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := q.Lease(t.Context(), "first", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var leased *queue.LeasedError
		if _, err := q.Lease(t.Context(), "second", time.Minute); !errors.As(err, &leased) || time.Until(leased.Until) < 23*time.Hour {
			t.Errorf("Lease = %v, want that the first has it by the server's clock", err)
		}
		if err := l.Done(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Lease(t.Context(), "second", time.Minute); err != nil {
		t.Errorf("Lease after Release = %v", err)
	}
}

// An application may give the queue its only connection. While it uses that
// itself, Add waits and then says so; nothing hangs, and nothing is broken.
func TestOneConnection(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		b.db.SetMaxOpenConns(1)
		q, hurried := b.open(queue.Options{}), b.open(queue.Options{AddTimeout: 50 * time.Millisecond})
		b.add(q, events(0, 3)...)
		rows, err := b.db.Query("SELECT id FROM telemetry_events_export_queue")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			if err := hurried.Add(t.Context(), event(3)); err == nil {
				t.Error("Add has found a connection")
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		b.add(q, event(4))
		b.expect(q, queue.Stats{Recorded: 4, Pending: 4})
	})
}
