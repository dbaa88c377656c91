// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/telemetrygateway/telemetry/internal/database"
)

// pruneRows is how many events a transaction of Prune deletes at most.
const pruneRows = 1000

// Prune deletes what has outlived its retention, then the oldest of what is
// beyond the limit of bytes, and returns how many events that were. It works in
// small transactions, with pauses, so that nobody waits for it. It is to be
// called every few minutes.
//
// SQLite gives the room to later events, not back to the disk.
func (l *Log) Prune(ctx context.Context) (int64, error) {
	var pruned int64
	err := l.prune(ctx, &pruned, l.deleteExpired)
	if err == nil && l.o.MaxBytes > 0 {
		err = l.prune(ctx, &pruned, l.deleteExcess)
	}
	if err == nil {
		err = l.compact(ctx)
	}
	if err != nil {
		return pruned, fmt.Errorf("prune event log: %w", err)
	}
	return pruned, nil
}

func (l *Log) write(ctx context.Context, f func(tx *sql.Tx) error) error {
	return database.Write(ctx, l.db, l.dialect, f)
}

// prune calls f, which deletes a batch, until it says that it was the last one.
func (l *Log) prune(ctx context.Context, pruned *int64, f func(context.Context, *sql.Tx) (n int64, more bool, err error)) error {
	return database.InBatches(ctx, func() (more bool, err error) {
		var n int64
		err = l.write(ctx, func(tx *sql.Tx) error {
			n, more, err = f(ctx, tx)
			return err
		})
		if err == nil {
			*pruned += n
		}
		return more, err
	})
}

func (l *Log) deleteExpired(ctx context.Context, tx *sql.Tx) (n int64, more bool, err error) {
	n, err = l.deleteWhere(ctx, tx,
		"seq IN (SELECT seq FROM telemetry_event_log WHERE recorded_at < ? ORDER BY recorded_at LIMIT ?)",
		l.dialect.Time(l.o.Now().Add(-l.o.Retention)), pruneRows)
	return n, n == pruneRows, err
}

func (l *Log) deleteExcess(ctx context.Context, tx *sql.Tx) (n int64, more bool, err error) {
	s, err := l.totals(ctx, tx)
	if err != nil || s.Bytes <= l.o.MaxBytes {
		return 0, false, err
	}
	last, more, err := l.oldest(ctx, tx, s.Bytes-l.o.MaxBytes)
	if err != nil {
		return 0, false, err
	}
	n, err = l.deleteWhere(ctx, tx, "seq <= ?", last)
	return n, more, err
}

// oldest returns the last one of the oldest events that together have at least
// so many bytes, and whether that would be more than one transaction deletes.
func (l *Log) oldest(ctx context.Context, tx *sql.Tx, bytes int64) (seq int64, more bool, err error) {
	rows, err := tx.QueryContext(ctx, l.dialect.Bind("SELECT seq, length(payload_pb) FROM telemetry_event_log ORDER BY seq LIMIT ?"), pruneRows)
	if err != nil {
		return 0, false, err
	}
	defer rows.Close()
	n := 0
	for ; bytes > 0 && rows.Next(); n++ {
		var size int64
		if err := rows.Scan(&seq, &size); err != nil {
			return 0, false, err
		}
		bytes -= size
	}
	return seq, bytes > 0 && n == pruneRows, rows.Err()
}

// deleteWhere deletes events and counts them.
func (l *Log) deleteWhere(ctx context.Context, tx *sql.Tx, condition string, args ...any) (n int64, err error) {
	sizes, err := tx.QueryContext(ctx, l.dialect.Bind("DELETE FROM telemetry_event_log WHERE "+condition+" RETURNING length(payload_pb)"), args...)
	if err != nil {
		return 0, err
	}
	n, bytes, err := sum(sizes)
	if err != nil {
		return 0, err
	}
	return n, l.count(ctx, tx, 0, n, -bytes)
}

// compact makes one row of the ledger's rows. Those that others add meanwhile it
// does not see, and so neither adds up nor deletes.
func (l *Log) compact(ctx context.Context) error {
	var entries int
	if err := l.db.QueryRowContext(ctx, "SELECT count(*) FROM telemetry_event_log_ledger").Scan(&entries); err != nil || entries < 2 {
		return err
	}
	return l.write(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "DELETE FROM telemetry_event_log_ledger RETURNING recorded, pruned, bytes")
		if err != nil {
			return err
		}
		defer rows.Close()
		var recorded, pruned, bytes int64
		for rows.Next() {
			var r, p, b int64
			if err := rows.Scan(&r, &p, &b); err != nil {
				return err
			}
			recorded, pruned, bytes = recorded+r, pruned+p, bytes+b
		}
		if err := rows.Err(); err != nil {
			return err
		}
		return l.count(ctx, tx, recorded, pruned, bytes)
	})
}
