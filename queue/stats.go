// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/internal/database"
)

// Stats are a queue's sums over all time, and what is pending:
//
//	Recorded = Exported + DeadLettered + Filtered + Expired + Pending
type Stats struct {
	Pending      int64
	Bytes        int64     // of the payloads pending
	Oldest       time.Time // timestamp of the oldest event pending; zero if none is
	Recorded     int64
	Exported     int64
	DeadLettered int64 // those that are dead letters now
	Filtered     int64 // by the policy, before or after they were queued
	Expired      int64 // by Options.MaxAge or MaxBytes
}

// delta is a line of the ledger: what one transaction changed. Lines are only
// ever appended, so that writers do not wait for each other; and the sum of all
// of them is known without looking at a single event.
type delta struct {
	recorded, filtered, exported, dead, expired, bytes, pruned int64
}

const ledgerColumns = "recorded, filtered, exported, dead_lettered, expired, bytes, pruned"

func (d *delta) fields() []any {
	return []any{&d.recorded, &d.filtered, &d.exported, &d.dead, &d.expired, &d.bytes, &d.pruned}
}

func (d *delta) pending() int64 { return d.recorded - d.filtered - d.exported - d.dead - d.expired }

// count writes the transaction's line.
func (c conn) count(d delta) error {
	if d == (delta{}) {
		return nil
	}
	_, err := c.exec("INSERT INTO telemetry_events_export_ledger ("+ledgerColumns+") VALUES (?, ?, ?, ?, ?, ?, ?)",
		d.recorded, d.filtered, d.exported, d.dead, d.expired, d.bytes, d.pruned)
	return err
}

// longLedger is how many lines Stats reads before it makes them one.
const longLedger = 1000

// Stats returns the queue's sums. It never counts events one by one.
func (q *Queue) Stats(ctx context.Context) (Stats, error) {
	var d delta
	var lines int64
	var oldest database.Time
	err := q.read(ctx, func(c conn) (err error) {
		if d, lines, err = c.totals(); err != nil {
			return err
		}
		err = c.scan("SELECT timestamp FROM telemetry_events_export_queue WHERE exported_at IS NULL ORDER BY timestamp LIMIT 1", nil, &oldest)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return Stats{}, fmt.Errorf("queue's sums: %w", err)
	}
	if lines > longLedger {
		if err := q.compact(ctx); err != nil {
			return Stats{}, err
		}
	}
	return Stats{
		Pending: d.pending(), Bytes: d.bytes, Oldest: oldest.Time,
		Recorded: d.recorded, Exported: d.exported, DeadLettered: d.dead, Filtered: d.filtered, Expired: d.expired,
	}, nil
}

// totals returns the sum of the ledger and how many lines it has.
func (q *Queue) totals(ctx context.Context) (d delta, lines int64, err error) {
	err = q.read(ctx, func(c conn) (err error) { d, lines, err = c.totals(); return err })
	if err != nil {
		err = fmt.Errorf("queue's sums: %w", err)
	}
	return d, lines, err
}

func (c conn) totals() (d delta, lines int64, err error) {
	query := "SELECT count(*)"
	for column := range strings.SplitSeq(ledgerColumns, ", ") {
		query += ", CAST(COALESCE(sum(" + column + "), 0) AS BIGINT)"
	}
	err = c.scan(query+" FROM telemetry_events_export_ledger", nil, append([]any{&lines}, d.fields()...)...)
	return d, lines, err
}

// compact makes one line of the ledger's, a batch at a time.
func (q *Queue) compact(ctx context.Context) error {
	const batch = 10_000
	for lines := batch; lines == batch; {
		err := q.write(ctx, func(c conn) error {
			var sum delta
			lines = 0
			// Lines that others are adding at this moment stay.
			err := c.each(`DELETE FROM telemetry_events_export_ledger WHERE id IN
				(SELECT id FROM telemetry_events_export_ledger ORDER BY id LIMIT ?) RETURNING `+ledgerColumns,
				[]any{batch}, func(scan func(...any) error) error {
					var d delta
					if err := scan(d.fields()...); err != nil {
						return err
					}
					lines++
					sum.recorded += d.recorded
					sum.filtered += d.filtered
					sum.exported += d.exported
					sum.dead += d.dead
					sum.expired += d.expired
					sum.bytes += d.bytes
					sum.pruned += d.pruned
					return nil
				})
			if err != nil {
				return err
			}
			return c.count(sum)
		})
		if err != nil {
			return fmt.Errorf("compact queue's ledger: %w", err)
		}
	}
	return nil
}
