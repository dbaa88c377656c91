// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/queue"
)

// opener opens a queue in a process of its own, and prints its ID.
func opener(driver, dsn string) error {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	q, err := queue.Open(context.Background(), db, queue.Options{})
	if err == nil {
		fmt.Print(q.InstanceID())
	}
	return err
}

// TestMigrateAtOnce opens a queue from several processes at the same moment,
// where there is none yet, and where the original has made its table.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, driver string
		dsn          func(t *testing.T) string
	}{
		{"SQLite", "sqlite", func(t *testing.T) string { return sqliteDSN(filepath.Join(t.TempDir(), "queue.db")) }},
		{"PostgreSQL", "pgx", func(t *testing.T) string { return newDatabase(t) }},
		{"original table", "pgx", func(t *testing.T) string {
			url := newDatabase(t)
			fillOriginal(t, open(t, "pgx", url), originalUUID)
			return url
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dsn := row.dsn(t)
			var mu sync.Mutex
			instances := map[string]bool{}
			var wg sync.WaitGroup
			for range 3 {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "QUEUE_TEST_OPEN="+row.driver+" "+dsn)
				wg.Go(func() {
					out, err := cmd.CombinedOutput()
					if err != nil {
						t.Errorf("%v: %s", err, out)
					}
					mu.Lock()
					defer mu.Unlock()
					instances[string(out)] = true
				})
			}
			wg.Wait()
			if len(instances) != 1 {
				t.Errorf("instance IDs %v, want one", instances)
			}
			b := &bed{TB: t, db: open(t, row.driver, dsn), dialect: database.Postgres, clock: &clock{t: start}}
			want := queue.Stats{}
			if row.name == "original table" {
				want = queue.Stats{Recorded: 31, Exported: 10, Pending: 21}
			}
			for range 2 { // and once more
				b.expect(b.open(queue.Options{}), want)
			}
		})
	}
}

// fillOriginal makes the original's table with 10 exported events, 20 pending
// ones, and one that is no event.
func fillOriginal(t *testing.T, db *sql.DB, schema string) {
	t.Helper()
	if _, err := db.Exec(schema); err != nil {
		t.Fatal(err)
	}
	for i, e := range events(0, 31) {
		payload, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if i == 30 {
			payload = []byte{0xff}
		}
		var exported any
		if i < 10 {
			exported = start.Add(time.Hour)
		}
		if _, err := db.Exec("INSERT INTO telemetry_events_export_queue (id, timestamp, payload_pb, exported_at) VALUES ($1, $2, $3, $4)",
			e.GetId(), e.GetTimestamp().AsTime(), payload, exported); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOriginalTable takes a table over from the original, uses it, and lets the
// original go on with it.
func TestOriginalTable(t *testing.T) {
	t.Parallel()
	for name, schema := range map[string]string{"text": originalText, "uuid": originalUUID} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newPostgres(t)
			fillOriginal(t, db, schema)
			columns := func() (list string) {
				rows, err := db.Query("SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'telemetry_events_export_queue' AND table_schema = current_schema() ORDER BY ordinal_position")
				if err != nil {
					t.Fatal(err)
				}
				defer rows.Close()
				for rows.Next() {
					var name, kind, nullable string
					if err := rows.Scan(&name, &kind, &nullable); err != nil {
						t.Fatal(err)
					}
					list += strings.Join([]string{name, kind, nullable}, " ") + "\n"
				}
				return list
			}
			before := columns()
			b := &bed{TB: t, db: db, dialect: database.Postgres, clock: &clock{t: start.Add(2 * time.Hour)}}
			q := b.open(queue.Options{})
			if after := columns(); after != before {
				t.Errorf("the original's table has changed from\n%sto\n%s", before, after)
			}
			b.expect(q, queue.Stats{Recorded: 31, Exported: 10, Pending: 21})
			b.add(q, event(40))
			l := b.lease(q)
			rows := b.claim(l, 100)
			if len(rows) != 21 {
				t.Errorf("claimed %d events, want 21", len(rows))
			}
			b.done(l, ids(rows[:5]), queue.Dead{ID: rows[5].ID, Reason: "test"})
			b.expect(q, queue.Stats{Recorded: 32, Exported: 15, DeadLettered: 2, Pending: 15})

			// The original's statements, as documented.
			payload, _ := proto.Marshal(event(41))
			id := event(41).GetId()
			b.exec("INSERT INTO telemetry_events_export_queue (id, timestamp, payload_pb) VALUES (?, ?, ?), (?, ?, ?)",
				id, start, payload, event(42).GetId(), start, payload)
			var n int
			b.scan("SELECT count(*) FROM (SELECT id, payload_pb FROM telemetry_events_export_queue WHERE exported_at IS NULL ORDER BY timestamp ASC LIMIT 1000) AS pending", &n)
			if n != 17 {
				t.Errorf("the original lists %d events, want 17", n)
			}
			b.exec("UPDATE telemetry_events_export_queue SET exported_at = now() WHERE id = ANY(?)", []string{id})
			b.exec("DELETE FROM telemetry_events_export_queue WHERE exported_at IS NOT NULL AND exported_at < ?", start.AddDate(1, 0, 0))
		})
	}
}
