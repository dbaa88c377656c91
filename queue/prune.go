// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
)

// step is how many rows one transaction of Prune, ApplyPolicy or Replay takes.
const step = 1000

// Pruned says what Prune has removed.
type Pruned struct {
	Exported int64 // older than Options.Retention
	Expired  int64 // pending, beyond Options.MaxAge or MaxBytes
}

// Prune removes what need not be kept, and shortens the ledger. It works in
// small transactions with pauses between them, so that others can write. What
// it returns has happened also if there is an error.
func (q *Queue) Prune(ctx context.Context) (p Pruned, err error) {
	_, lines, err := q.totals(ctx)
	if err != nil {
		return p, err
	}
	if lines > 1 {
		if err := q.compact(ctx); err != nil {
			return p, err
		}
	}
	now := q.now()
	p.Exported, err = q.pruneExported(ctx, now.Add(-q.options.Retention))
	if err != nil {
		return p, fmt.Errorf("prune exported events: %w", err)
	}
	if q.options.MaxAge > 0 {
		p.Expired, err = q.expire(ctx, now.Add(-q.options.MaxAge), 0)
		if err != nil {
			return p, fmt.Errorf("expire old events: %w", err)
		}
	}
	if q.options.MaxBytes > 0 {
		n, err := q.expire(ctx, time.Time{}, q.options.MaxBytes)
		p.Expired += n
		if err != nil {
			return p, fmt.Errorf("expire events beyond the limit of bytes: %w", err)
		}
	}
	return p, nil
}

func (q *Queue) pruneExported(ctx context.Context, before time.Time) (total int64, err error) {
	var after position
	err = q.inSteps(ctx, func(c conn) (more bool, commit func(), err error) {
		var ids []string
		last, err := q.walk(c, "exported_at", before, after, func(id string, _ int64) error {
			ids = append(ids, id)
			return nil
		})
		if err != nil || len(ids) == 0 {
			return false, nil, err
		}
		among, arg := q.among(ids, false)
		n, err := c.exec("DELETE FROM telemetry_events_export_queue WHERE "+among, arg)
		if err != nil {
			return false, nil, err
		}
		return len(ids) == step, func() { total += n; after = last }, c.count(delta{pruned: n})
	})
	return total, err
}

// expire takes out the oldest pending events: those before a time, unless it is
// zero, until most bytes are left, unless that is zero. It looks at each step
// how many are left, as others export meanwhile.
func (q *Queue) expire(ctx context.Context, before time.Time, most int64) (total int64, err error) {
	var after position
	err = q.inSteps(ctx, func(c conn) (more bool, commit func(), err error) {
		excess := int64(math.MaxInt64)
		if most > 0 {
			sum, _, err := c.totals()
			if err != nil {
				return false, nil, err
			}
			excess = sum.bytes - most
		}
		var ids []string
		var size int64
		last, err := q.walk(c, "timestamp", before, after, func(id string, payload int64) error {
			if size >= excess {
				return errEnough
			}
			ids = append(ids, id)
			size += payload
			return nil
		})
		if err != nil || len(ids) == 0 {
			return false, nil, err
		}
		n, bytes, err := q.drop(c, ids)
		if err != nil {
			return false, nil, err
		}
		return len(ids) == step, func() { total += n; after = last }, c.count(delta{expired: n, bytes: -bytes})
	})
	return total, err
}

// walk visits the next step rows after a position, in the order of a column,
// and of those the ones before a time unless it is zero. Going on from a
// position, rather than from the beginning again, it does not come across what
// PostgreSQL has deleted and not yet swept.
func (q *Queue) walk(c conn, column string, before time.Time, after position, visit func(id string, size int64) error) (last position, err error) {
	query := "SELECT id, " + column + ", octet_length(payload_pb) FROM telemetry_events_export_queue WHERE "
	if column == "timestamp" {
		query += "exported_at IS NULL"
	} else {
		query += "exported_at IS NOT NULL"
	}
	var args []any
	if !before.IsZero() {
		query += " AND " + column + " < ?"
		args = append(args, q.dialect.Time(before))
	}
	if after != (position{}) {
		query += " AND (" + column + ", id) > (?, ?)"
		args = append(args, q.dialect.Time(after.time), after.id)
	}
	last = after
	err = c.each(query+" ORDER BY "+column+", id LIMIT ?", append(args, step), func(scan func(...any) error) error {
		var id string
		var at database.Time
		var size int64
		if err := scan(&id, &at, &size); err != nil {
			return err
		}
		last = position{at.Time, id}
		return visit(id, size)
	})
	return last, err
}

// inSteps runs f in one transaction after another while it says that there is
// more to do; what it says happens on commit does so only then. Between two
// transactions it is idle for as long as the last one took.
func (q *Queue) inSteps(ctx context.Context, f func(conn) (more bool, commit func(), err error)) error {
	for {
		begun := time.Now()
		var more bool
		var commit func()
		err := q.write(ctx, func(c conn) (err error) {
			if err := c.alone(); err != nil {
				return err
			}
			more, commit, err = f(c)
			return err
		})
		if err != nil {
			return err
		}
		if commit != nil {
			commit()
		}
		if !more {
			return nil
		}
		pause := time.NewTimer(time.Since(begun))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

// ApplyPolicy takes out of the queue what the policy in force does not allow,
// and returns how much that was. Claim does it as well, but only with what it
// comes to see, and only while events may be sent.
//
// With All and Off and Local, it costs nothing if there is nothing to do. With
// Limited it has to look at every event, and so does that once for each policy.
func (q *Queue) ApplyPolicy(ctx context.Context) (filtered int64, err error) {
	policy := q.policy.Load()
	if policy.Mode == All || policy.Mode == Limited && q.applied.Load() == policy {
		return 0, nil
	}
	var after position
	err = q.inSteps(ctx, func(c conn) (more bool, commit func(), err error) {
		var ids []string
		seen := 0
		last := after
		query, args := q.pending("id, timestamp, payload_pb", after, step)
		err = c.each(query, args, func(scan func(...any) error) error {
			var id string
			var at database.Time
			var payload []byte
			if err := scan(&id, &at, &payload); err != nil {
				return err
			}
			seen++
			last = position{at.Time, id}
			var e v1.Event
			// Claim judges what is no event; if nothing may leave, that is simply taken out.
			if err := proto.Unmarshal(payload, &e); err != nil && policy.Mode == Limited || err == nil && policy.Allows(e.GetFeature()) {
				return nil
			}
			ids = append(ids, id)
			return nil
		})
		if err != nil {
			return false, nil, err
		}
		commit = func() { after = last }
		if len(ids) > 0 {
			n, bytes, err := q.drop(c, ids)
			if err != nil {
				return false, nil, err
			}
			commit = func() { after = last; filtered += n }
			return seen == step, commit, c.count(delta{filtered: n, bytes: -bytes})
		}
		return seen == step, commit, nil
	})
	if err != nil {
		return filtered, fmt.Errorf("apply the policy to the queue: %w", err)
	}
	q.applied.Store(policy)
	return filtered, nil
}
