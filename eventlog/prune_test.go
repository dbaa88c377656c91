// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package eventlog_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/eventlog"
)

func prune(t *testing.T, log *eventlog.Log, want int64) {
	t.Helper()
	if n, err := log.Prune(t.Context()); n != want || err != nil {
		t.Errorf("pruned %d, %v; want %d", n, err, want)
	}
}

func TestRetention(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		log, db := open(t, url, eventlog.Options{Now: func() time.Time { return now }})
		add(t, log, events("old", 2500)...)
		now = now.Add(24 * time.Hour)
		add(t, log, events("new", 5)...)
		// The clock was wrong for a while, and was mended.
		now = now.AddDate(5, 0, 0)
		add(t, log, events("future", 1)...)
		now = now.AddDate(-5, 0, 0)
		add(t, log, events("last", 1)...)

		now = now.Add(89 * 24 * time.Hour)
		prune(t, log, 0)
		checkTotals(t, log, db, 2507, 0)
		now = now.Add(time.Microsecond)
		prune(t, log, 2500)
		if s := checkTotals(t, log, db, 2507, 2500); !s.Oldest.Equal(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("the oldest is of %v", s.Oldest)
		}
		now = now.Add(24 * time.Hour)
		prune(t, log, 6)
		if got := fmt.Sprint(list(t, log, 9, eventlog.Filter{})); got != "[future0]" {
			t.Errorf("left are %s", got)
		}
		now = now.AddDate(6, 0, 0)
		prune(t, log, 1)
		checkTotals(t, log, db, 2507, 2507)
		add(t, log, events("old", 1)...) // its ID is forgotten
		checkTotals(t, log, db, 2508, 2507)
	})
}

func TestMaxBytes(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, db := open(t, url, eventlog.Options{})
		add(t, log, events("x", 2500)...)
		bytes := checkTotals(t, log, db, 2500, 0).Bytes
		var size int64 // of the last event; some of the others are shorter
		if err := db.QueryRow("SELECT length(payload_pb) FROM telemetry_event_log WHERE id = 'x2499'").Scan(&size); err != nil {
			t.Fatal(err)
		}
		bound := func(most int64) *eventlog.Log {
			log, err := eventlog.Open(t.Context(), db, eventlog.Options{MaxBytes: most})
			if err != nil {
				t.Fatal(err)
			}
			return log
		}
		prune(t, bound(bytes), 0)
		prune(t, bound(bytes-1), 1)
		prune(t, bound(3*size), 2496)
		checkTotals(t, log, db, 2500, 2497)
		if got := fmt.Sprint(list(t, log, 9, eventlog.Filter{})); got != "[x2499 x2498 x2497]" {
			t.Errorf("left are %s", got)
		}
		prune(t, bound(1), 3)
		checkTotals(t, log, db, 2500, 2500)
	})
}

// TestPruneWhileAdding: two instances prune what others add to, and nothing is
// counted twice or not at all.
func TestPruneWhileAdding(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		long := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		old, _ := open(t, url, eventlog.Options{Now: func() time.Time { return long }})
		add(t, old, events("old", 3500)...)
		var adding, pruning sync.WaitGroup
		pruned := make([]int64, 2)
		for i := range pruned {
			log, _ := open(t, url, eventlog.Options{Now: func() time.Time { return long.AddDate(1, 0, 0) }})
			pruning.Go(func() {
				for range 3 {
					n, err := log.Prune(t.Context())
					if err != nil {
						t.Error(err)
					}
					pruned[i] += n
				}
			})
			for a := range 5 {
				adding.Go(func() {
					for k := range 10 {
						if err := log.Add(t.Context(), events(fmt.Sprintf("%d-%d-%d-", i, a, k), 3)...); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		adding.Wait()
		pruning.Wait()
		log, db := open(t, url, eventlog.Options{Now: func() time.Time { return long.AddDate(1, 0, 0) }})
		n, err := log.Prune(t.Context())
		if err != nil || pruned[0]+pruned[1]+n != 3500 {
			t.Errorf("pruned %d and %d, %v; want 3500", pruned, n, err)
		}
		checkTotals(t, log, db, 3800, 3500)
	})
}
