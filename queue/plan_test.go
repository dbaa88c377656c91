// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"database/sql/driver"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/queue"
)

// statements notes each statement on the table of events, with arguments that
// it had, and what PostgreSQL is told before.
type statements struct {
	mu    sync.Mutex
	seen  map[string][]any
	hints string
}

func (s *statements) before(statement string, args []driver.NamedValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(statement, "SET LOCAL") {
		s.hints = statement
	}
	if strings.Contains(statement, "telemetry_events_export_queue") {
		values := make([]any, len(args))
		for i, a := range args {
			values[i] = a.Value
		}
		s.seen[statement] = values
	}
}

func (s *statements) after(string, int64) {}

// TestPlans asks the database how it runs each statement of the queue when
// there are 100,000 events, and PostgreSQL's statistics are from when there were
// none. No statement may read all of them, or sort them.
func TestPlans(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"SQLite", "PostgreSQL", "original table"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &statements{seen: map[string][]any{}}
			b := tappedBed(t, name, s)
			q := b.open(queue.Options{Retention: time.Hour, MaxAge: time.Hour, MaxBytes: 1})
			if b.dialect == database.SQLite {
				b.exec(`WITH RECURSIVE some (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM some WHERE n < 100000)
					INSERT INTO telemetry_events_export_queue SELECT printf('00000000-0000-0000-0000-%012d', n), ? + 1000000 * n, x'ff', CASE WHEN n % 10 < 9 THEN ? + 1000000 * n END FROM some`,
					b.dialect.Time(start.Add(time.Hour)), b.dialect.Time(start))
			} else {
				kind := map[bool]string{true: "uuid", false: "text"}[name == "original table"]
				b.exec("ALTER TABLE telemetry_events_export_queue SET (autovacuum_enabled = off)")
				b.exec("ANALYZE telemetry_events_export_queue")
				b.exec(`INSERT INTO telemetry_events_export_queue (id, timestamp, payload_pb, exported_at)
					SELECT CAST('00000000-0000-0000-0000-' || lpad(CAST(n AS text), 12, '0') AS `+kind+`), CAST(? AS timestamptz) + n * interval '1 second', '\xff',
						CASE WHEN n % 10 < 9 THEN CAST(? AS timestamptz) + n * interval '1 second' END FROM generate_series(1, 100000) AS n`,
					start.Add(time.Hour), start)
			}
			s.seen = map[string][]any{}
			es := events(0, 2000)
			b.add(q, es...)
			l := b.lease(q)
			b.claim(l, 50)
			b.done(l, eventIDs(es[:1900]), queue.Dead{ID: es[1900].GetId(), Reason: "test"})
			b.claim(l, 50)
			if _, err := q.Replay(t.Context(), es[1900].GetId()); err != nil {
				t.Fatal(err)
			}
			for _, state := range []queue.State{queue.Pending, queue.Exported, queue.DeadLettered} {
				for after, n := "", 0; n < 2; n++ {
					p, err := q.List(t.Context(), state, 3, after)
					if err != nil {
						t.Fatal(err)
					}
					after = p.Next
				}
			}
			if _, err := q.Stats(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.clock.advance(time.Hour + 30*time.Minute) // 1,619 and 1,900 were exported more than an hour ago
			if p, err := q.Prune(t.Context()); err != nil || p.Exported != 3519 || p.Expired != 100 {
				t.Fatalf("Prune = %+v, %v", p, err)
			}
			q.SetPolicy(queue.Policy{Mode: queue.Limited})
			if _, err := q.ApplyPolicy(t.Context()); err != nil {
				t.Fatal(err)
			}

			seen := s.seen
			s.seen = map[string][]any{}
			if len(seen) < 15 {
				t.Errorf("only %d statements were seen", len(seen))
			}
			for statement, args := range seen {
				plan := b.plan(s.hints, statement, args)
				for line := range strings.Lines(plan) {
					switch {
					case strings.Contains(line, "Seq Scan on telemetry_events_export_queue"),
						strings.Contains(line, "Bitmap"),
						strings.HasPrefix(strings.TrimLeft(line, " ->"), "Sort\n"),
						strings.Contains(line, "SCAN telemetry_events_export_queue") && !strings.Contains(line, "USING"),
						strings.Contains(statement, "WHERE id ") && strings.Contains(line, "export_order"),
						strings.Contains(line, "USE TEMP B-TREE FOR ORDER BY"):
						t.Errorf("%s\nis run as\n%s", statement, plan)
					}
				}
			}
		})
	}
}

// plan returns how a statement is run.
func (b *bed) plan(hints, statement string, args []any) string {
	b.Helper()
	tx, err := b.db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	defer tx.Rollback()
	explain := "EXPLAIN QUERY PLAN "
	if b.dialect == database.Postgres {
		explain = "EXPLAIN (COSTS OFF) "
		if _, err := tx.Exec(hints); err != nil {
			b.Fatal(err)
		}
	}
	rows, err := tx.Query(explain+statement, args...)
	if err != nil {
		b.Fatalf("%s: %v", statement, err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var line string
		into := []any{&line}
		if b.dialect == database.SQLite {
			var n int
			into = []any{&n, &n, &n, &line}
		}
		if err := rows.Scan(into...); err != nil {
			b.Fatal(err)
		}
		plan.WriteString(line + "\n")
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	return plan.String()
}
