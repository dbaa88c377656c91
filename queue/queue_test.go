// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/queue"
)

// lease takes the lease, for as long as can be.
func (b *bed) lease(q *queue.Queue) *queue.Lease {
	b.Helper()
	l, err := q.Lease(b.Context(), "test", queue.MaxLease)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

func (b *bed) add(q *queue.Queue, events ...*v1.Event) {
	b.Helper()
	if err := q.Add(b.Context(), events...); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) claim(l *queue.Lease, n int) []queue.Row {
	b.Helper()
	rows, err := l.Claim(b.Context(), n, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	return rows
}

func (b *bed) done(l *queue.Lease, exported []string, dead ...queue.Dead) {
	b.Helper()
	if err := l.Done(b.Context(), exported, dead); err != nil {
		b.Fatal(err)
	}
}

// stats returns the queue's sums, after comparing them with what is there.
func (b *bed) stats(q *queue.Queue) queue.Stats {
	b.Helper()
	s, err := q.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var pending, bytes, dead int64
	var oldest database.Time
	b.scan("SELECT count(*), COALESCE(sum(octet_length(payload_pb)), 0), min(timestamp) FROM telemetry_events_export_queue WHERE exported_at IS NULL", &pending, &bytes, &oldest)
	b.scan("SELECT count(*) FROM telemetry_events_export_dead_letters", &dead)
	if s.Pending != pending || s.Bytes != bytes || !s.Oldest.Equal(oldest.Time) || s.DeadLettered != dead {
		b.Errorf("Stats says %+v; there are %d pending with %d bytes, the oldest of %v, and %d dead letters", s, pending, bytes, oldest, dead)
	}
	if s.Recorded != s.Exported+s.DeadLettered+s.Filtered+s.Expired+s.Pending {
		b.Errorf("the sums do not add up: %+v", s)
	}
	return s
}

// expect compares the sums, apart from bytes and times.
func (b *bed) expect(q *queue.Queue, want queue.Stats) {
	b.Helper()
	got := b.stats(q)
	got.Bytes, got.Oldest = 0, time.Time{}
	if got != want {
		b.Errorf("sums are %+v, want %+v", got, want)
	}
}

func (b *bed) scan(query string, into ...any) {
	b.Helper()
	if err := b.db.QueryRow(query).Scan(into...); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) exec(query string, args ...any) {
	b.Helper()
	if _, err := b.db.Exec(b.dialect.Bind(query), args...); err != nil {
		b.Fatal(err)
	}
}

func ids(rows []queue.Row) []string {
	var ids []string
	for _, r := range rows {
		ids = append(ids, r.ID)
	}
	return ids
}

func eventIDs(es []*v1.Event) []string {
	var ids []string
	for _, e := range es {
		ids = append(ids, e.GetId())
	}
	return ids
}

func TestAdd(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		es := events(0, 5)
		b.add(q, es...)
		b.add(q, es[1], es[1], es[4]) // once more: nothing happens
		b.expect(q, queue.Stats{Recorded: 5, Pending: 5})

		rows := b.claim(b.lease(q), 10)
		if !slices.Equal(ids(rows), eventIDs(es)) {
			t.Errorf("claimed %v, want %v", ids(rows), eventIDs(es))
		}
		for i, r := range rows {
			var got v1.Event
			if err := proto.Unmarshal(r.Event, &got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(&got, es[i]) || !r.Timestamp.Equal(es[i].GetTimestamp().AsTime()) {
				t.Errorf("claimed %v, want %v", &got, es[i])
			}
		}
		if again := b.open(queue.Options{}); again.InstanceID() != q.InstanceID() || uuid.Validate(q.InstanceID()) != nil {
			t.Errorf("instance ID %q, and %q after opening again; want one UUID", q.InstanceID(), again.InstanceID())
		}
	})
}

// An event that cannot be queued spoils neither its neighbours nor those that
// are added by others at the same moment.
func TestAddInvalid(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		with := func(change func(*v1.Event)) *v1.Event {
			e := event(1)
			change(e)
			return e
		}
		invalid := []struct {
			event *v1.Event
			want  string
		}{
			{nil, "is nil"},
			{with(func(e *v1.Event) { e.Id = "" }), "no ID"},
			{with(func(e *v1.Event) { e.Id = strings.Repeat("x", 1000) }), "128 bytes"},
			{with(func(e *v1.Event) { e.Id = "a\x00b" }), "zero byte"},
			{with(func(e *v1.Event) { e.Id = "a\xffb" }), "UTF-8"},
			{with(func(e *v1.Event) { e.Timestamp = nil }), "timestamp"},
			{with(func(e *v1.Event) { e.Timestamp = &timestamppb.Timestamp{Seconds: 1 << 60} }), "timestamp"},
			{with(func(e *v1.Event) { e.Source.Client.Name = "\xff" }), "UTF-8"},
		}
		if strings.Contains(t.Name(), "original") {
			invalid = append(invalid, struct {
				event *v1.Event
				want  string
			}{with(func(e *v1.Event) { e.Id = "not-a-uuid" }), "not a UUID"})
		}
		es := events(0, 2)
		all := []*v1.Event{es[0]}
		for _, i := range invalid {
			all = append(all, i.event)
			if err := q.Add(t.Context(), i.event); err == nil || !strings.Contains(err.Error(), i.want) {
				// A uuid column refuses the ID first.
				if err == nil || !strings.Contains(t.Name(), "original") || !strings.Contains(err.Error(), "not a UUID") {
					t.Errorf("Add = %v, want %q", err, i.want)
				}
			}
		}
		err := q.Add(t.Context(), append(all, es[1])...)
		for i := range invalid {
			if err == nil || !strings.Contains(err.Error(), "event "+string(rune('1'+i))) {
				t.Errorf("Add = %v, which does not name event %d", err, i+1)
			}
		}
		b.expect(q, queue.Stats{Recorded: 2, Pending: 2})
	})
}

// IDs and times that only look odd are kept as they are.
func TestAddUnusual(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		first := event(0)
		first.Timestamp = timestamppb.New(time.Time{}) // the first moment of the year 1
		last := event(1)
		last.Timestamp = timestamppb.New(time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC))
		upper := event(2)
		upper.Id = strings.ToUpper(upper.Id)
		b.add(q, last, upper, first)
		l := b.lease(q)
		var got []string
		for rows := b.claim(l, 1); len(rows) > 0; rows = b.claim(l, 1) {
			got = append(got, rows[0].ID)
			var e v1.Event
			if err := proto.Unmarshal(rows[0].Event, &e); err != nil || e.GetId() != rows[0].ID {
				t.Errorf("row %s has event %s (%v)", rows[0].ID, e.GetId(), err)
			}
			b.done(l, ids(rows))
		}
		want := eventIDs([]*v1.Event{first, upper, last})
		if strings.Contains(t.Name(), "original") {
			want[1] = strings.ToLower(want[1]) // the same UUID, as the column has it
		}
		if !slices.Equal(got, want) {
			t.Errorf("claimed %v, want %v", got, want)
		}
		b.expect(q, queue.Stats{Recorded: 3, Exported: 3})
	})
}

func TestTx(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		within := func(end func(*sql.Tx) error, es ...*v1.Event) {
			t.Helper()
			tx, err := b.db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			if err := q.Tx(tx).Add(t.Context(), es...); err != nil {
				t.Fatal(err)
			}
			if err := end(tx); err != nil {
				t.Fatal(err)
			}
		}
		within((*sql.Tx).Rollback, events(0, 3)...)
		b.expect(q, queue.Stats{})
		es := events(3, 2)
		within((*sql.Tx).Commit, es...)
		within((*sql.Tx).Commit, es[0], event(5))
		b.expect(q, queue.Stats{Recorded: 3, Pending: 3})
	})
}

// Whoever records events must not lose them because the request has ended.
func TestAddOutlivesCaller(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.Add(ctx, event(0)); err != nil {
			t.Error(err)
		}
		b.expect(q, queue.Stats{Recorded: 1, Pending: 1})
	})
}

// Add gives up when its time is over, and what was refused is then not there.
func TestAddTimeout(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{AddTimeout: 50 * time.Millisecond})
		e := event(0)
		// Somebody else adds the same event and does not commit.
		tx, err := b.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if err := q.Tx(tx).Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if err := q.Add(t.Context(), e); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Add = %v, want that its time is over", err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAddTogether(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		same := events(0, 10)
		var wg sync.WaitGroup
		for range 20 {
			own := events(10, 10)
			wg.Go(func() {
				for i := range own {
					if err := q.Add(t.Context(), own[i], same[i]); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() { // a process of its own, as far as the database knows
				tx, err := b.db.Begin()
				if err != nil {
					t.Error(err)
					return
				}
				defer tx.Rollback()
				if err := q.Tx(tx).Add(t.Context(), event(30)); err != nil && !database.Temporary(err) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		b.expect(q, queue.Stats{Recorded: 210, Pending: 210})
	})
}

// What the policy does not let out is counted and never in the queue.
func TestPolicyOnAdd(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{Policy: queue.Policy{Mode: queue.Limited}})
		cody := event(0)
		cody.Feature = "cody.chat"
		b.add(q, cody, event(1))
		b.expect(q, queue.Stats{Recorded: 2, Filtered: 1, Pending: 1})
		for _, mode := range []queue.Mode{queue.Local, queue.Off} {
			q.SetPolicy(queue.Policy{Mode: mode})
			other := event(2)
			other.Feature = "cody.chat"
			b.add(q, other)
		}
		b.expect(q, queue.Stats{Recorded: 4, Filtered: 3, Pending: 1})
		if got := q.Policy().Mode; got != queue.Off {
			t.Errorf("policy is %v", got)
		}
	})
}
