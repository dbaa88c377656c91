// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/queue"
)

func TestClaimOldestFirst(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		es := events(0, 50)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range es {
			es[i].Timestamp = event(random.IntN(10)).GetTimestamp()
			b.add(q, es[i])
		}
		slices.SortStableFunc(es, func(a, b *v1.Event) int { // by time, and then by ID
			return a.GetTimestamp().AsTime().Compare(b.GetTimestamp().AsTime())
		})
		l := b.lease(q)
		for range 2 {
			var got []string
			for rows := b.claim(l, 7); len(rows) > 0; rows = b.claim(l, 7) {
				got = append(got, ids(rows)...)
			}
			if !slices.Equal(got, eventIDs(es)) {
				t.Errorf("claimed %v, want %v", got, eventIDs(es))
			}
			l.Rewind() // nothing was done: all of it again
		}
	})
}

func TestClaimBounds(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		large := events(0, 10)
		for _, e := range large {
			e.Source.Client.Name = strings.Repeat("x", 100_000)
		}
		b.add(q, large...)
		l := b.lease(q)
		for _, row := range []struct{ n, bytes, want int }{
			{3, 1 << 30, 3},
			{100, 250_000, 2},
			{100, 1, 1}, // at least one, or the queue would stand still
			{100, 1 << 30, 4},
			{100, 1 << 30, 0},
		} {
			rows, err := l.Claim(t.Context(), row.n, row.bytes)
			if err != nil || len(rows) != row.want {
				t.Errorf("Claim(%d, %d) = %d events (%v), want %d", row.n, row.bytes, len(rows), err, row.want)
			}
		}
		for _, n := range []int{0, -1} {
			if _, err := l.Claim(t.Context(), n, 1); err == nil {
				t.Errorf("Claim(%d, 1) is no error", n)
			}
		}
	})
}

// poison puts rows into the queue that are no events, older than all others.
func (b *bed) poison(n int) {
	b.Helper()
	tx, err := b.db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	defer tx.Rollback()
	for i := range n {
		_, err := tx.Exec(b.dialect.Bind("INSERT INTO telemetry_events_export_queue (id, timestamp, payload_pb) VALUES (?, ?, ?)"),
			uuid.Must(uuid.NewV7()).String(), b.dialect.Time(start.AddDate(-1, 0, 0).Add(time.Duration(i)*time.Second)), []byte{0xff, 'p', 'o', 'i', 's', 'o', 'n'})
		if err != nil {
			b.Fatal(err)
		}
	}
	_, err = tx.Exec(b.dialect.Bind("INSERT INTO telemetry_events_export_ledger (recorded, filtered, exported, dead_lettered, expired, bytes, pruned) VALUES (?, 0, 0, 0, 0, ?, 0)"), n, 7*n)
	if err != nil {
		b.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

func TestPoison(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		b.poison(5000)
		es := events(0, 3)
		b.add(q, es...)
		if rows := b.claim(b.lease(q), 100); !slices.Equal(ids(rows), eventIDs(es)) {
			t.Errorf("claimed %d events, want the three behind the poison", len(rows))
		}
		b.expect(q, queue.Stats{Recorded: 5003, DeadLettered: 5000, Pending: 3})
		p, err := q.List(t.Context(), queue.DeadLettered, 10, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range p.Items {
			if i.Event != nil || i.Reason != "undecodable" || i.Message == "" || !i.At.Equal(start) {
				t.Errorf("dead letter %+v", i)
			}
		}
	})
}

// An event under another ID could never be told apart from its neighbours.
func TestMismatchedID(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		b.add(q, event(0), event(1))
		b.exec("UPDATE telemetry_events_export_queue SET id = ? WHERE timestamp = ?", uuid.NewString(), b.dialect.Time(start))
		if rows := b.claim(b.lease(q), 10); len(rows) != 1 {
			t.Errorf("claimed %d events, want one", len(rows))
		}
		b.expect(q, queue.Stats{Recorded: 2, DeadLettered: 1, Pending: 1})
	})
}

// Events that fail every time keep none behind them from being exported.
func TestFailingDoNotBlock(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		es := events(0, 60)
		b.add(q, es...)
		failing := eventIDs(es[:20])
		l := b.lease(q)
		for range 3 {
			var seen []string
			for rows := b.claim(l, 10); len(rows) > 0; rows = b.claim(l, 10) {
				seen = append(seen, ids(rows)...)
				b.done(l, slices.DeleteFunc(ids(rows), func(id string) bool { return slices.Contains(failing, id) }))
			}
			if !slices.Equal(seen[:20], failing) {
				t.Errorf("a pass began with %v, want those that fail", seen[:20])
			}
			l.Rewind()
		}
		b.expect(q, queue.Stats{Recorded: 60, Exported: 40, Pending: 20})
	})
}

func TestPolicyOnQueued(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		es := events(0, 2500)
		for i := range es {
			if i%10 == 0 {
				es[i].Feature = "cody.chat"
			}
		}
		for c := range slices.Chunk(es, 500) {
			b.add(q, c...)
		}
		q.SetPolicy(queue.Policy{Mode: queue.Limited})
		rows := b.claim(b.lease(q), 100)
		if len(rows) != 10 || rows[1].ID != es[10].GetId() {
			t.Errorf("claimed %d events, want ten of cody", len(rows))
		}
		b.expect(q, queue.Stats{Recorded: 2500, Filtered: 90, Pending: 2410})

		apply := func(want int64) {
			t.Helper()
			if n, err := q.ApplyPolicy(t.Context()); err != nil || n != want {
				t.Errorf("ApplyPolicy = %d, %v; want %d", n, err, want)
			}
		}
		apply(2160)
		apply(0)
		b.expect(q, queue.Stats{Recorded: 2500, Filtered: 2250, Pending: 250})
		q.SetPolicy(queue.Policy{Mode: queue.All})
		apply(0)
		q.SetPolicy(queue.Policy{Mode: queue.Off})
		b.poison(1) // nothing may leave, so that it is no event does not matter
		apply(251)
		b.expect(q, queue.Stats{Recorded: 2501, Filtered: 2501})
	})
}

func TestDeadLetters(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		es := events(0, 4)
		b.add(q, es...)
		l := b.lease(q)
		rows := b.claim(l, 10)
		b.done(l, []string{rows[0].ID, rows[0].ID, uuid.NewString(), "nothing", "\x00", "\xff"},
			queue.Dead{ID: rows[1].ID, Reason: "too_large", Field: "parameters", Message: "\x00It is \xff" + strings.Repeat("ä", 2000)},
			queue.Dead{ID: rows[2].ID, Reason: "not_finite"},
			queue.Dead{ID: rows[0].ID, Reason: "was exported, so is no dead letter"},
			queue.Dead{ID: "nothing"}, queue.Dead{ID: "\x00"})
		b.expect(q, queue.Stats{Recorded: 4, Exported: 1, DeadLettered: 2, Pending: 1})
		b.done(l, ids(rows[:3]), queue.Dead{ID: rows[1].ID}) // reported again, as after an unknown outcome
		b.add(q, es...)                                      // and recorded again
		b.expect(q, queue.Stats{Recorded: 4, Exported: 1, DeadLettered: 2, Pending: 1})

		p, err := q.List(t.Context(), queue.DeadLettered, 10, "")
		if err != nil || len(p.Items) != 2 || p.Total != 2 {
			t.Fatalf("List = %+v, %v", p, err)
		}
		i := slices.IndexFunc(p.Items, func(i queue.Item) bool { return i.Reason == "too_large" })
		letter := p.Items[i]
		if letter.ID != rows[1].ID || letter.Field != "parameters" || !strings.HasPrefix(letter.Message, "It is \uFFFDää") || len(letter.Message) > 1024 ||
			letter.Event.GetFeature() != "search" || !letter.Timestamp.Equal(rows[1].Timestamp) {
			t.Errorf("dead letter %+v", letter)
		}

		n, err := q.Replay(t.Context(), rows[1].ID, rows[1].ID, uuid.NewString(), "nothing", "\xff", rows[3].ID)
		if err != nil || n != 1 {
			t.Errorf("Replay = %d, %v; want 1", n, err)
		}
		b.expect(q, queue.Stats{Recorded: 4, Exported: 1, DeadLettered: 1, Pending: 2})
		l.Rewind()
		if again := b.claim(l, 10); len(again) != 2 || again[0].ID != rows[1].ID || string(again[0].Event) != string(rows[1].Event) {
			t.Errorf("claimed %v, want %s and %s", ids(again), rows[1].ID, rows[3].ID)
		}
	})
}
