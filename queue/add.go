// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// What one transaction of Add takes at most, unless a single event is larger.
const (
	gatherEvents = 1000
	gatherBytes  = 4 << 20
)

// record is an event on its way into the queue.
type record struct {
	id        string
	timestamp time.Time
	payload   []byte
	filtered  bool // only counted: the policy does not let it leave
}

// Add puts what may leave of the events into the queue, or counts those that
// the policy filters. Nil means that all of it is on disk. Adding an event that
// is there already, by its ID, changes nothing; so after an error, which means
// that the outcome is unknown, the same events can be added again.
//
// An event that the queue cannot hold is an error, and does not keep the others
// from being added. Add writes many callers' events in one transaction. It is
// not interrupted when ctx ends, as telemetry about a request should outlive
// it, but takes Options.AddTimeout at most, and meanwhile tries again if the
// database is busy or restarts.
func (q *Queue) Add(ctx context.Context, events ...*v1.Event) error {
	records, size, invalid := q.records(events)
	if len(records) == 0 {
		return invalid
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.options.AddTimeout)
	defer cancel()
	if err := q.gatherer.Add(ctx, size, records...); err != nil {
		return errors.Join(fmt.Errorf("add to queue: %w", err), invalid)
	}
	return invalid
}

// Tx returns what adds events within a transaction of the application's own, in
// the queue's database: they are queued if it commits, and only then.
func (q *Queue) Tx(tx *sql.Tx) *Tx { return &Tx{q, tx} }

// Tx adds events within a transaction of the application's.
type Tx struct {
	q  *Queue
	tx *sql.Tx
}

// Add is Queue.Add, within the transaction. It ends when ctx does. After an
// error of the database, PostgreSQL lets a transaction only be rolled back.
func (t *Tx) Add(ctx context.Context, events ...*v1.Event) error {
	records, _, invalid := t.q.records(events)
	if len(records) == 0 {
		return invalid
	}
	if err := t.q.insert(t.q.on(ctx, t.tx), records); err != nil {
		return errors.Join(fmt.Errorf("add to queue: %w", err), invalid)
	}
	return invalid
}

// records returns what is written for events, its size, and what is wrong with
// those that cannot be.
func (q *Queue) records(events []*v1.Event) (es []record, size int, invalid error) {
	policy := q.Policy()
	es = make([]record, 0, len(events))
	for i, event := range events {
		e, err := q.record(event, policy)
		if err != nil {
			invalid = errors.Join(invalid, fmt.Errorf("add to queue: event %d: %w", i, err))
			continue
		}
		es = append(es, e)
		size += len(e.payload)
	}
	return es, size, invalid
}

func (q *Queue) record(event *v1.Event, policy Policy) (e record, err error) {
	if event == nil {
		return record{}, errors.New("is nil")
	}
	if !policy.Allows(event.GetFeature()) {
		return record{filtered: true}, nil
	}
	e.id = event.GetId()
	switch {
	case e.id == "":
		return record{}, errors.New("has no ID")
	case len(e.id) > limits.EventIDBytes:
		return record{}, fmt.Errorf("its ID is longer than %d bytes", limits.EventIDBytes)
	case strings.ContainsRune(e.id, 0):
		return record{}, errors.New("its ID has a zero byte in it, which PostgreSQL cannot hold")
	}
	if err := event.GetTimestamp().CheckValid(); err != nil {
		return record{}, fmt.Errorf("its timestamp: %w", err)
	}
	e.timestamp = event.GetTimestamp().AsTime()
	if e.timestamp.IsZero() {
		// The zero time is no time in the database. The payload has it as it is.
		e.timestamp = e.timestamp.Add(time.Microsecond)
	}
	redacted := Redact(event, policy)
	if q.uuids {
		id, ok := canonical(e.id)
		if !ok {
			return record{}, errors.New("its ID is not a UUID, which the queue's table demands")
		}
		if id != e.id {
			// The ID in the payload must be the row's.
			e.id = id
			redacted = proto.CloneOf(redacted)
			redacted.Id = id
		}
	}
	if e.payload, err = proto.Marshal(redacted); err != nil {
		return record{}, err
	}
	return e, nil
}

// commit writes what was gathered, and tries again until ctx ends if that is
// worth it. The IDs make it safe: what was written after all is not again. Only
// filtered events, which leave no ID behind, would then be counted twice, as
// recorded and as filtered.
func (q *Queue) commit(ctx context.Context, records []record) error {
	return database.Retry(ctx, func() error {
		if q.dialect == database.Postgres && !slices.ContainsFunc(records, func(r record) bool { return r.filtered }) {
			// It is one statement, so it takes one round trip and not four.
			c := q.on(ctx, q.db)
			c.own = true
			return q.insert(c, records)
		}
		return database.Write(ctx, q.db, q.dialect, func(tx *sql.Tx) error { return q.insert(q.on(ctx, tx), records) })
	})
}

// insert writes the records and counts them, except for those that are there.
func (q *Queue) insert(c conn, records []record) error {
	var d delta
	rows := make([]record, 0, len(records))
	for _, e := range records {
		if e.filtered {
			d.recorded++
			d.filtered++
		} else {
			rows = append(rows, e)
		}
	}
	// Two transactions that add the same events in one order never wait for each
	// other in a circle.
	slices.SortFunc(rows, func(a, b record) int { return cmp.Compare(a.id, b.id) })
	_, err := q.insertRows(c, rows, d)
	return err
}

// insertRows inserts those rows that are new, which a dead letter is not either,
// and returns how many. It counts d, and with it what is new.
func (q *Queue) insertRows(c conn, rows []record, d delta) (n int64, err error) {
	if len(rows) == 0 {
		return 0, c.count(d)
	}
	if q.dialect == database.Postgres {
		return q.insertArrays(c, rows, d)
	}
	insert, err := c.PrepareContext(c.ctx, `INSERT INTO telemetry_events_export_queue (id, timestamp, payload_pb)
		SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM telemetry_events_export_dead_letters WHERE id = ?1)
		ON CONFLICT (id) DO NOTHING`)
	if err != nil {
		return 0, err
	}
	defer insert.Close()
	for _, r := range rows {
		result, err := insert.ExecContext(c.ctx, r.id, q.dialect.Time(r.timestamp), r.payload)
		if err != nil {
			return 0, err
		}
		changed, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		n += changed
		d.bytes += changed * int64(len(r.payload))
	}
	d.recorded += n
	return n, c.count(d)
}

// insertArrays is insertRows in one round trip. The dead letters are asked for
// row by row, along their index, however many the planner believes there are.
func (q *Queue) insertArrays(c conn, rows []record, d delta) (n int64, err error) {
	ids := make([]string, len(rows))
	timestamps := make([]time.Time, len(rows))
	payloads := make([][]byte, len(rows))
	for i, r := range rows {
		ids[i], timestamps[i], payloads[i] = r.id, r.timestamp, r.payload
	}
	id := "n.id"
	if q.uuids {
		id = "CAST(n.id AS uuid)"
	}
	waits := "0"
	if c.own {
		// As database.Write does it. What is set for a transaction still holds when
		// it is committed.
		waits = "(SELECT count(set_config('synchronous_commit', 'on', true)) WHERE current_setting('synchronous_commit') = 'off')"
	}
	err = c.scan(`WITH new AS (
			INSERT INTO telemetry_events_export_queue (id, timestamp, payload_pb)
			SELECT `+id+`, n.timestamp, n.payload
			FROM unnest(CAST(? AS text[]), CAST(? AS timestamptz[]), CAST(? AS bytea[])) AS n (id, timestamp, payload)
			LEFT JOIN LATERAL (SELECT 1 AS dead FROM telemetry_events_export_dead_letters d WHERE d.id = n.id LIMIT 1) d ON true
			WHERE d.dead IS NULL
			ON CONFLICT (id) DO NOTHING RETURNING octet_length(payload_pb) AS size
		), added AS (
			SELECT count(*) AS n, COALESCE(sum(size), 0) AS bytes FROM new
		), counted AS (
			INSERT INTO telemetry_events_export_ledger (`+ledgerColumns+`)
			SELECT ? + n, ?, ?, ?, ?, ? + bytes, ? FROM added WHERE n > 0 OR ?
		)
		SELECT n, `+waits+` FROM added`,
		[]any{ids, timestamps, payloads, d.recorded, d.filtered, d.exported, d.dead, d.expired, d.bytes, d.pruned, d != (delta{})}, &n, new(int))
	return n, err
}
