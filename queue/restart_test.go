// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"sync"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/internal/database/cluster"
	"github.com/telemetrygateway/telemetry/queue"
)

// TestPostgresRestarts restarts the server, in an orderly way and by a crash,
// while events are added. Nobody who adds notices, and nothing is lost, even if
// the sessions are not ones whose commits wait for the disk.
func TestPostgresRestarts(t *testing.T) {
	t.Parallel()
	for _, session := range []string{"on", "off"} {
		t.Run("synchronous_commit "+session, func(t *testing.T) {
			t.Parallel()
			restarts(t, session)
		})
	}
}

func restarts(t *testing.T, session string) {
	c, err := cluster.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() })
	b := &bed{TB: t, db: open(t, "pgx", c.URL("postgres")+"&synchronous_commit="+session), dialect: database.Postgres, clock: &clock{t: start}}
	q := b.open(queue.Options{AddTimeout: 2 * time.Minute})

	var mu sync.Mutex
	added := map[string]bool{}
	progress := make(chan struct{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				es := events(0, 5)
				if err := q.Add(t.Context(), es...); err != nil {
					t.Errorf("Add = %v", err)
				} else {
					mu.Lock()
					for _, id := range eventIDs(es) {
						added[id] = true
					}
					mu.Unlock()
				}
				select {
				case progress <- struct{}{}:
				case <-stop:
					return
				}
			}
		})
	}
	for _, mode := range []string{"fast", "immediate", "immediate"} {
		for range 10 {
			<-progress
		}
		restarted := make(chan error)
		go func() { restarted <- c.Restart(mode) }()
		for waiting := true; waiting; {
			select {
			case err := <-restarted:
				if err != nil {
					t.Fatal(err)
				}
				waiting = false
			case <-progress:
			}
		}
	}
	for range 10 {
		<-progress
	}
	close(stop)
	wg.Wait()

	s := b.stats(q)
	if s.Recorded < int64(len(added)) || s.Pending != s.Recorded {
		t.Errorf("%d events were added, but %+v", len(added), s)
	}
	rows, err := b.db.Query("SELECT id FROM telemetry_events_export_queue")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		delete(added, id)
	}
	if len(added) > 0 {
		t.Errorf("%d events that were added are missing", len(added))
	}
}
