// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package eventlog_test

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/telemetrygateway/telemetry/eventlog"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// TestAddIsDurable: once Add returns, others see the whole event, and so does
// whoever opens the database anew.
func TestAddIsDurable(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		recorded := time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)
		log, db := open(t, url, eventlog.Options{Now: func() time.Time { return recorded }})
		want := event("a")
		add(t, log, want)
		check := func(log *eventlog.Log) {
			t.Helper()
			page, err := log.List(t.Context(), 10, "", eventlog.Filter{})
			if err != nil || len(page.Items) != 1 || page.Total != 1 || page.Next != "" {
				t.Fatalf("got %+v, %v; want one event", page, err)
			}
			item := page.Items[0]
			if item.ID != "a" || !proto.Equal(item.Event, want) || item.Timestamp != want.GetTimestamp().AsTime() || item.RecordedAt != recorded {
				t.Errorf("got %+v", item)
			}
		}
		other, _ := open(t, url, eventlog.Options{})
		check(other)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		again, _ := open(t, url, eventlog.Options{})
		check(again)
	})
}

func TestSameIDIsIgnored(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, db := open(t, url, eventlog.Options{})
		add(t, log, event("a"), event("b"), event("a"))
		add(t, log, event("b"), event("c"))
		add(t, log, event("c"))
		add(t, log)
		checkTotals(t, log, db, 3, 0)
		if got := fmt.Sprint(list(t, log, 10, eventlog.Filter{})); got != "[c b a]" {
			t.Errorf("got %s", got)
		}
	})
}

// TestAddsShareCommits also has two instances that add the same events in
// opposite orders, which must not fail in a deadlock.
func TestAddsShareCommits(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, db := open(t, url, eventlog.Options{})
		other, _ := open(t, url, eventlog.Options{})
		const calls, each = 200, 9
		var wg sync.WaitGroup
		for i := range calls {
			es := events(fmt.Sprintf("%d-", i), each)
			wg.Go(func() {
				if err := log.Add(t.Context(), es...); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				for j := range es {
					if err := other.Add(t.Context(), es[each-1-j]); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		checkTotals(t, log, db, calls*each, 0)
		var commits int
		if err := db.QueryRow("SELECT count(*) FROM telemetry_event_log_ledger").Scan(&commits); err != nil || commits >= calls {
			t.Errorf("%d commits, %v; want less than one for each of %d calls", commits, err, calls)
		}
		if _, err := log.Prune(t.Context()); err != nil {
			t.Error(err)
		}
		checkTotals(t, log, db, calls*each, 0)
		if err := db.QueryRow("SELECT count(*) FROM telemetry_event_log_ledger").Scan(&commits); err != nil || commits != 1 {
			t.Errorf("the ledger has %d rows, %v; want one", commits, err)
		}
	})
}

func TestAddManyAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, db := open(t, url, eventlog.Options{})
		add(t, log, events("x", 1500)...)
		checkTotals(t, log, db, 1500, 0)
		ids := list(t, log, 1000, eventlog.Filter{})
		for i, id := range ids {
			if want := fmt.Sprintf("x%d", 1499-i); id != want {
				t.Fatalf("event %d is %s, want %s", i, id, want)
			}
		}
	})
}

func TestAddOutlivesItsCaller(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, db := open(t, url, eventlog.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := log.Add(ctx, event("a")); err != nil {
			t.Error(err)
		}
		checkTotals(t, log, db, 1, 0)
	})
}

func TestAddWaitsForOthersWithinItsTimeout(t *testing.T) {
	for _, i := range implementations {
		t.Run(i.name, func(t *testing.T) {
			url := i.url(t)
			hasty, db := open(t, url, eventlog.Options{AddTimeout: 20 * time.Millisecond})
			patient, _ := open(t, url, eventlog.Options{AddTimeout: time.Minute})
			tx, err := connect(t, url).Begin()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(i.lock); err != nil {
				t.Fatal(err)
			}
			if err := hasty.Add(t.Context(), event("a")); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the end of the timeout", err)
			}
			done := make(chan error)
			go func() { done <- patient.Add(t.Context(), event("b")) }()
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			checkTotals(t, patient, db, 1, 0)
		})
	}
}

func TestAddWhilePostgresRestarts(t *testing.T) {
	log, db := open(t, postgresURL(t), eventlog.Options{AddTimeout: time.Minute})
	const writers = 4
	acknowledged := make([]int64, writers)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	progress := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := log.Add(t.Context(), event(fmt.Sprintf("%d-%d", w, acknowledged[w]))); err != nil {
					t.Error(err)
					stop()
					return
				}
				acknowledged[w]++
				select {
				case progress <- struct{}{}:
				default:
				}
			}
		})
	}
	for _, mode := range []string{"fast", "immediate"} {
		select {
		case <-progress:
		case <-ctx.Done():
		}
		if err := postgres.Restart(mode); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
	var sum int64
	for _, n := range acknowledged {
		sum += n
	}
	checkTotals(t, log, db, sum, 0)
}

func TestTx(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, db := open(t, url, eventlog.Options{})
		for id, end := range map[string]func(*sql.Tx) error{"kept": (*sql.Tx).Commit, "undone": (*sql.Tx).Rollback} {
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(log.Tx(tx).Add(t.Context(), event(id)), end(tx)); err != nil {
				t.Error(err)
			}
		}
		checkTotals(t, log, db, 1, 0)
		if got := fmt.Sprint(list(t, log, 10, eventlog.Filter{})); got != "[kept]" {
			t.Errorf("got %s", got)
		}
	})
}

// TestRefused: an event that cannot be stored is refused, with the rest of its
// call, and no error quotes it.
func TestRefused(t *testing.T) {
	const canary = "canary"
	forEach(t, func(t *testing.T, url string) {
		log, db := open(t, url, eventlog.Options{})
		for name, spoil := range map[string]func(*telemetrygatewayv1.Event){
			"no ID":         func(e *telemetrygatewayv1.Event) { e.Id = "" },
			"long ID":       func(e *telemetrygatewayv1.Event) { e.Id = strings.Repeat(canary, 100) },
			"zero in ID":    func(e *telemetrygatewayv1.Event) { e.Id = canary + "\x00" },
			"ID not UTF-8":  func(e *telemetrygatewayv1.Event) { e.Id = canary + "\xff" },
			"feature":       func(e *telemetrygatewayv1.Event) { e.Feature = "Canary canary" },
			"no timestamp":  func(e *telemetrygatewayv1.Event) { e.Timestamp = nil },
			"far timestamp": func(e *telemetrygatewayv1.Event) { e.Timestamp = &timestamppb.Timestamp{Seconds: 1 << 60} },
			"not UTF-8":     func(e *telemetrygatewayv1.Event) { e.User.AnonymousUserId = proto.String(canary + "\xff") },
		} {
			e := event("b")
			spoil(e)
			err := log.Add(t.Context(), event("a"), e)
			if err == nil || !strings.HasPrefix(err.Error(), "add to event log: event 1: ") || strings.Contains(strings.ToLower(err.Error()), canary) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		checkTotals(t, log, db, 0, 0)
		// What a database can store but not index is taken all the same.
		long := make([]byte, 10_000) // that no database can compress
		rand.NewChaCha8([32]byte{}).Read(long)
		for i, id := range []string{"", "\x00", base64.StdEncoding.EncodeToString(long), strings.Repeat("é", 10_000), "x" + strings.Repeat("é", 10_000)} {
			e := event(fmt.Sprint(i))
			e.User.AnonymousUserId = &id
			add(t, log, e)
			if got := list(t, log, 9, eventlog.Filter{AnonymousUserID: id}); id != "" && (len(got) == 0 || got[0] != e.Id) {
				t.Errorf("%.9q: found %v", id, got)
			}
		}
		if _, err := db.Exec("DROP TABLE telemetry_event_log"); err != nil {
			t.Fatal(err)
		}
		if err := log.Add(t.Context(), event(canary)); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("without the table got %v", err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		_, db := open(t, url, eventlog.Options{})
		if _, err := db.Exec("UPDATE telemetry_schema SET version = 99"); err != nil {
			t.Fatal(err)
		}
		if _, err := eventlog.Open(t.Context(), db, eventlog.Options{}); err == nil || !strings.Contains(err.Error(), "run the newer program") {
			t.Errorf("got %v for a newer version", err)
		}
		if _, err := eventlog.Open(t.Context(), db, eventlog.Options{Retention: -1}); err == nil {
			t.Error("took a negative retention")
		}
	})
	_, err := eventlog.Open(t.Context(), connect(t, ":memory:"), eventlog.Options{})
	if err == nil || !strings.Contains(err.Error(), "open event log: SQLite's journal mode is memory") {
		t.Errorf("got %v for memory", err)
	}
}
