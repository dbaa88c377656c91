// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/telemetrygateway/telemetry/internal/database"
)

// Dead says why an event can never be exported.
type Dead struct {
	ID string
	// Reason is a code such as the gateway's verdicts have; Field is the path of
	// the field it is about, or empty; Message is for people.
	Reason, Field, Message string
}

// What is kept of a reason, which may come from outside.
const (
	reasonBytes  = 64
	fieldBytes   = 256
	messageBytes = 1024
)

// Done says what has become of claimed events: those exported, and those that
// become dead letters. Either all of it is on disk then, or there is an error
// and the outcome is unknown. ErrFenced, though, says that nothing has changed.
// Events that are not pending any more are left as they are. It also renews the
// lease.
func (l *Lease) Done(ctx context.Context, exported []string, dead []Dead) error {
	err := l.q.write(ctx, func(c conn) error {
		if err := l.renew(c); err != nil {
			return err
		}
		return l.q.takeOut(c, exported, dead, nil)
	})
	if err != nil {
		return fmt.Errorf("mark events as done: %w", err)
	}
	return nil
}

// takeOut takes events out of the pending ones and counts them. Its transaction
// must have renewed the lease or be alone.
func (q *Queue) takeOut(c conn, exported []string, dead []Dead, filtered []string) error {
	var d delta
	if len(exported) > 0 {
		among, ids := q.among(exported, false)
		n, bytes, err := c.sum("UPDATE telemetry_events_export_queue SET exported_at = ? WHERE "+among+
			stillPending+" RETURNING octet_length(payload_pb)", q.dialect.Time(q.now()), ids)
		if err != nil {
			return err
		}
		d.exported += n
		d.bytes -= bytes
	}
	if len(filtered) > 0 {
		n, bytes, err := q.drop(c, filtered)
		if err != nil {
			return err
		}
		d.filtered += n
		d.bytes -= bytes
	}
	if len(dead) > 0 {
		if err := q.bury(c, dead, &d); err != nil {
			return err
		}
	}
	return c.count(d)
}

// stillPending says that exported_at is NULL, in words that PostgreSQL does not
// take for a reason to walk along the index of everything pending.
const stillPending = " AND COALESCE(exported_at, '-infinity') = '-infinity'"

// drop deletes pending events.
func (q *Queue) drop(c conn, ids []string) (n, bytes int64, err error) {
	among, arg := q.among(ids, false)
	return c.sum("DELETE FROM telemetry_events_export_queue WHERE "+among+stillPending+" RETURNING octet_length(payload_pb)", arg)
}

// bury makes dead letters of pending events.
func (q *Queue) bury(c conn, dead []Dead, d *delta) error {
	why := make(map[string]Dead, len(dead))
	ids := make([]string, len(dead))
	for i, x := range dead {
		id := x.ID
		if q.uuids {
			id, _ = canonical(id)
		}
		why[id], ids[i] = x, id
	}
	among, arg := q.among(ids, false)
	removed, err := q.remove(c, "DELETE FROM telemetry_events_export_queue WHERE "+among+stillPending, arg)
	if err != nil || len(removed) == 0 {
		return err
	}
	insert, err := c.PrepareContext(c.ctx, c.dialect.Bind(`INSERT INTO telemetry_events_export_dead_letters
		(id, timestamp, payload_pb, reason, field, message, dead_at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`))
	if err != nil {
		return err
	}
	defer insert.Close()
	now := q.dialect.Time(q.now())
	for _, e := range removed {
		x := why[e.id]
		result, err := insert.ExecContext(c.ctx, e.id, q.dialect.Time(e.timestamp), e.payload,
			clean(x.Reason, reasonBytes), clean(x.Field, fieldBytes), clean(x.Message, messageBytes), now)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		// One that is a dead letter already was the same event added twice, just
		// when it became one: it is counted once.
		d.dead += n
		d.recorded -= 1 - n
		d.bytes -= int64(len(e.payload))
	}
	return nil
}

// remove runs a DELETE and returns what it deleted.
func (q *Queue) remove(c conn, query string, args ...any) (es []record, err error) {
	err = c.each(query+" RETURNING id, timestamp, payload_pb", args, func(scan func(...any) error) error {
		var e record
		var at database.Time
		if err := scan(&e.id, &at, &e.payload); err != nil {
			return err
		}
		e.timestamp = at.Time
		es = append(es, e)
		return nil
	})
	return es, err
}

// clean returns a text that every database can hold, cut to most bytes.
func clean(s string, most int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most]
	}
	return s
}

// Replay puts dead letters back into the queue, with the IDs and times they
// had, and returns how many there were. IDs that are not dead letters count for
// nothing. It goes by small steps: after an error some may be back.
func (q *Queue) Replay(ctx context.Context, ids ...string) (int, error) {
	replayed := 0
	for len(ids) > 0 {
		some := ids[:min(len(ids), step)]
		ids = ids[len(some):]
		var n int64
		err := q.write(ctx, func(c conn) error {
			if err := c.alone(); err != nil {
				return err
			}
			among, arg := q.among(some, true)
			letters, err := q.remove(c, "DELETE FROM telemetry_events_export_dead_letters WHERE "+among, arg)
			if err != nil {
				return err
			}
			removed := int64(len(letters))
			n, err = q.insertRows(c, letters, delta{recorded: -removed, dead: -removed})
			return err
		})
		if err != nil {
			return replayed, fmt.Errorf("replay dead letters: %w", err)
		}
		replayed += int(n)
	}
	return replayed, nil
}
