// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// TestKeysOfBefore opens a file that has events and, once their keys are known,
// inserts them again, with others between them.
func TestKeysOfBefore(t *testing.T) {
	w, path := openFile(t)
	const stock = 70_000 // more than are read at once
	rows := events(stock + 100)
	for some := range slices.Chunk(rows[:stock], 7000) {
		insert(t, w, warehouse.Batch{Events: some}, warehouse.Result{Landed: 7000})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if !warehouse.FilterFilled(w) {
		t.Fatal("the keys were not read")
	}
	conflict := rows[stock-1000]
	conflict.ContentHash++
	again := rows[7]
	again.ReceivedAt = again.ReceivedAt.Add(time.Hour)
	insert(t, w, warehouse.Batch{Events: []warehouse.Row{rows[0], rows[stock], conflict, again, rows[stock], rows[12_345]}},
		warehouse.Result{Landed: 1, Redelivered: 3, Conflicts: []int{2}, Duplicates: 1})
	works(t, w, rows, 99)
	works(t, w, rows, 0)
}

// TestInsertTogether has several goroutines insert batches that overlap, as events
// and as rejected ones. Each lands once, and the sums add up.
func TestInsertTogether(t *testing.T) {
	w, _ := openFile(t)
	const senders, batches, each, kinds = 4, 12, 400, 6000
	rows := events(kinds)
	var mu sync.Mutex
	var sum warehouse.Result
	var calls sync.WaitGroup
	for sender := range senders {
		calls.Go(func() {
			random := rand.New(rand.NewPCG(uint64(sender), 7))
			for range batches {
				var b warehouse.Batch
				for range each {
					i := random.IntN(kinds)
					b.Events = append(b.Events, rows[i])
					if i%10 == 0 {
						b.Rejected = append(b.Rejected, warehouse.Rejected{Row: rows[i], RejectedID: rows[i].KeyHash, Stage: "gateway"})
					}
				}
				result, err := w.Insert(t.Context(), &b)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				sum.Landed += result.Landed
				sum.Redelivered += result.Redelivered
				sum.Rejected += result.Rejected
				mu.Unlock()
			}
		})
	}
	calls.Wait()
	if got := sum.Landed + sum.Redelivered; got != senders*batches*each {
		t.Errorf("%d landed and %d redelivered, of %d", sum.Landed, sum.Redelivered, senders*batches*each)
	}
	for query, want := range map[string]int{
		"SELECT count(*) FROM events":                             sum.Landed,
		"SELECT count(DISTINCT key_hash) FROM events":             sum.Landed,
		"SELECT count(*) FROM events_rejected":                    sum.Rejected,
		"SELECT count(DISTINCT rejected_id) FROM events_rejected": sum.Rejected,
		"SELECT count(*) FROM events_duplicates":                  0,
		"SELECT count(*) FROM events WHERE event_id IS DISTINCT FROM json_extract_string(payload, '$.event.id')": 0,
	} {
		if n := number(t, w, query); int(n) != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
}

// TestDiskFullTogether fills the disk while several batches are being inserted.
// Each says so, and once there is room each lands.
func TestDiskFullTogether(t *testing.T) {
	d := newDisk(t)
	if d == nil {
		return
	}
	path := filepath.Join(d.folder, "warehouse.duckdb")
	w, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	m := newRowMix()
	rows := make([]warehouse.Row, 24_000)
	m.fill(rows)
	const senders = 4
	share := len(rows) / senders
	failed := make(chan struct{}, senders)
	var room atomic.Bool
	var calls sync.WaitGroup
	for sender := range senders {
		calls.Go(func() {
			mine, said, failures := rows[sender*share:][:share], false, 0
			for len(mine) > 0 {
				n := min(1000, len(mine))
				result, err := w.Insert(t.Context(), &warehouse.Batch{Events: mine[:n]})
				if err == nil && result.Landed+result.Redelivered != n {
					t.Errorf("%+v of %d", result, n)
				}
				switch {
				case err != nil && room.Load():
					if failures++; failures > senders { // each may have met one batch's
						t.Errorf("with room on the disk: %v", err)
						return
					}
				case err == nil:
					mine = mine[n:]
				case !said:
					said = true
					failed <- struct{}{}
				}
			}
			if !said {
				failed <- struct{}{}
			}
		})
	}
	// DuckDB must not mind queries either.
	defer ask(t, w, "SELECT a.feature, max(a.payload), count(*) FROM events a JOIN events b USING (feature) WHERE b.action = 'viewed' GROUP BY ALL")()
	empty := d.fill(t)
	for range senders {
		<-failed
	}
	empty()
	room.Store(true)
	calls.Wait()
	works(t, w, rows, 0)
	if n := number(t, w, "SELECT count(*) FROM events_duplicates"); n != 0 {
		t.Error(fmt.Sprint(n, " duplicates"))
	}
}

// ask asks a query over and over, whatever the answers, until enough is called.
func ask(t *testing.T, w warehouse.Warehouse, query string) (enough func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		for ctx.Err() == nil {
			if rows, err := w.Query(ctx, query); err == nil {
				rows.Close()
			}
		}
	})
	return func() { cancel(); asking.Wait() }
}

// TestLogStaysSmall inserts small batches, which all go through DuckDB's log, while
// queries are asked.
func TestLogStaysSmall(t *testing.T) {
	w, path := openFile(t)
	m := newRowMix()
	rows := make([]warehouse.Row, 1000)
	defer ask(t, w, "SELECT max(payload) FROM events")()
	var written, before int64
	for written < 100<<20 {
		m.fill(rows)
		insert(t, w, warehouse.Batch{Events: rows}, warehouse.Result{Landed: len(rows)})
		info, err := os.Stat(path + ".wal")
		if err != nil {
			t.Fatal(err)
		}
		written += max(0, info.Size()-before)
		if before = info.Size(); before > 32<<20 {
			t.Fatalf("the log has %d bytes", before)
		}
	}
}
