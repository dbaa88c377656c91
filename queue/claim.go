// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Row is an event to export.
type Row struct {
	ID        string
	Timestamp time.Time
	Event     []byte // the event's wire format, redacted
}

// position is a place in an order by time and ID. The zero position is before
// all others.
type position struct {
	time time.Time
	id   string
}

// Claim returns the next events of this pass, the oldest first: n at most, and
// not more than bytes of payloads, but at least one. No events and no error
// mean the end of the pass. What is added once a Claim has come to the end of
// the queue is for the next pass; else a pass would last for as long as anybody
// adds, and claim a few events at a time.
//
// Events that are not reported to Done stay in the queue, and the next pass has
// them again: they keep no others from being claimed, and neither do events that
// the policy does not allow, which Claim takes out, and rows that are no event,
// which it makes dead letters.
//
// The policy in force now decides what leaves of each event. Where that is less
// than when it was queued, or the original queued it, the queue forgets the rest.
//
// It also renews the lease, and returns ErrFenced if that is another's.
func (l *Lease) Claim(ctx context.Context, n, bytes int) ([]Row, error) {
	if n < 1 {
		return nil, fmt.Errorf("claim %d events: want at least one", n)
	}
	for {
		b, err := l.read(ctx, n, bytes)
		if err != nil {
			return nil, fmt.Errorf("claim events: %w", err)
		}
		err = l.q.write(ctx, func(c conn) error {
			if err := l.renew(c); err != nil {
				return err
			}
			if err := l.q.forget(c, b.forget); err != nil {
				return err
			}
			return l.q.takeOut(c, nil, b.dead, b.filtered)
		})
		if err != nil {
			return nil, fmt.Errorf("claim events: %w", err)
		}
		l.after, l.ended = b.last, b.end
		if len(b.rows) > 0 || b.end {
			return b.rows, nil
		}
	}
}

// Rewind begins a new pass: the next Claim has the oldest event again.
func (l *Lease) Rewind() { l.after, l.ended = position{}, false }

// batch is what Claim has found.
type batch struct {
	rows     []Row
	dead     []Dead
	filtered []string
	forget   []forgetful
	last     position
	end      bool // there was nothing more
}

// read reads rows from l.after on and judges them.
func (l *Lease) read(ctx context.Context, n, bytes int) (b batch, err error) {
	q := l.q
	policy := q.Policy()
	b.last, b.end = l.after, true
	if l.ended {
		return b, nil
	}
	seen, size := 0, 0
	err = q.read(ctx, func(c conn) error {
		fit, err := c.fit(bytes, func(columns string) (string, []any) { return q.pending(columns, l.after, n) })
		if err != nil {
			return err
		}
		most := min(n, fit)
		query, args := q.pending("id, timestamp, payload_pb", l.after, most)
		defer func() { b.end = b.end && seen < most }()
		return c.each(query, args, func(scan func(...any) error) error {
			var r Row
			var at database.Time
			if err := scan(&r.ID, &at, &r.Event); err != nil {
				return err
			}
			if size += len(r.Event); seen > 0 && size > bytes {
				b.end = false
				return errEnough
			}
			seen++
			r.Timestamp = at.Time
			b.last = position{r.Timestamp, r.ID}
			var e v1.Event
			switch err := proto.Unmarshal(r.Event, &e); {
			case err != nil:
				b.dead = append(b.dead, Dead{ID: r.ID, Reason: limits.ReasonUndecodable, Message: "The bytes in the queue are not an event."})
			case e.GetId() != r.ID && !(q.uuids && strings.EqualFold(e.GetId(), r.ID)):
				b.dead = append(b.dead, Dead{ID: r.ID, Reason: limits.ReasonUndecodable, Field: "id", Message: "The event in the row has another ID than the row."})
			case !policy.Allows(e.GetFeature()):
				b.filtered = append(b.filtered, r.ID)
			default:
				less, err := redactAgain(r.Event, &e, policy)
				if err != nil {
					return err
				}
				if less != nil {
					b.forget = append(b.forget, forgetful{r.ID, less, len(r.Event)})
					r.Event = less
				}
				r.ID = e.GetId() // by which the gateway speaks of it
				b.rows = append(b.rows, r)
			}
			return nil
		})
	})
	return b, err
}

// pending returns the query for columns of the oldest n rows after a position.
func (q *Queue) pending(columns string, after position, n int) (query string, args []any) {
	query = "SELECT " + columns + " FROM telemetry_events_export_queue WHERE exported_at IS NULL"
	if after != (position{}) {
		query += " AND (timestamp, id) > (?, ?)"
		args = append(args, q.dialect.Time(after.time), after.id)
	}
	return query + " ORDER BY timestamp, id LIMIT ?", append(args, n)
}

// forgetful is a row whose payload has more in it than may leave.
type forgetful struct {
	id      string
	payload []byte // what may leave
	before  int    // bytes of what there is
}

// redactAgain returns what may leave of e, whose wire format is payload, or nil
// if that is all of it. Nearly always it is: then nothing is encoded.
func redactAgain(payload []byte, e *v1.Event, p Policy) ([]byte, error) {
	if p.Vendor {
		return nil, nil
	}
	redacted := Redact(e, p)
	// Only private metadata may be replaced; whatever else Redact leaves out had a
	// size. So had what a payload says twice, of which the event has but the last.
	if len(payload) == proto.Size(redacted) && e.MarketingTracking == nil &&
		(e.GetParameters().GetPrivateMetadata() == nil || proto.Equal(e, redacted)) {
		return nil, nil
	}
	less, err := proto.Marshal(redacted)
	if err != nil {
		return nil, fmt.Errorf("redact event %q: %w", e.GetId(), err)
	}
	return less, nil
}

// forget writes down what may leave in place of what there was, so that lists
// show events as they left. Its transaction must have renewed the lease.
func (q *Queue) forget(c conn, rows []forgetful) error {
	var d delta
	for _, r := range rows {
		n, err := c.exec("UPDATE telemetry_events_export_queue SET payload_pb = ? WHERE id = ?"+stillPending, r.payload, r.id)
		if err != nil {
			return err
		}
		d.bytes += n * int64(len(r.payload)-r.before)
	}
	return c.count(d)
}
