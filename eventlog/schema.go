// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/telemetrygateway/telemetry/internal/database"
)

// The steps never change once released; new ones come after them.
//
// seq is the order in which events are listed. A retry is found by id; what has
// outlived its retention by recorded_at, the instance's own clock, because the
// timestamp may be a client's.
//
// The ledger says how much is in the log without counting it: one row for each
// transaction, so that transactions never wait for each other. Prune makes one
// row of them.
func migrations(d database.Dialect) []database.Step {
	key, at, bytes := "INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER", "BLOB"
	if d == database.Postgres {
		key, at, bytes = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "TIMESTAMPTZ", "BYTEA"
	}
	return []database.Step{database.SQL(fmt.Sprintf(`
CREATE TABLE telemetry_event_log (
	seq               %[1]s,
	id                TEXT NOT NULL UNIQUE,
	timestamp         %[2]s NOT NULL,
	recorded_at       %[2]s NOT NULL,
	feature           TEXT NOT NULL,
	action            TEXT NOT NULL,
	user_id           BIGINT,
	anonymous_user_id TEXT,
	payload_pb        %[3]s NOT NULL
);
CREATE INDEX telemetry_event_log_recorded_at ON telemetry_event_log (recorded_at);
CREATE INDEX telemetry_event_log_feature ON telemetry_event_log (feature, seq);
CREATE INDEX telemetry_event_log_user_id ON telemetry_event_log (user_id, seq) WHERE user_id IS NOT NULL;
CREATE INDEX telemetry_event_log_anonymous_user_id ON telemetry_event_log (anonymous_user_id, seq) WHERE anonymous_user_id IS NOT NULL;
CREATE TABLE telemetry_event_log_ledger (
	seq      %[1]s,
	recorded BIGINT NOT NULL,
	pruned   BIGINT NOT NULL,
	bytes    BIGINT NOT NULL -- of what is in the log
);`, key, at, bytes))}
}

// count enters into the ledger what a transaction has recorded and pruned, and
// by how many bytes the log has grown.
func (l *Log) count(ctx context.Context, tx *sql.Tx, recorded, pruned, bytes int64) error {
	if recorded == 0 && pruned == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, l.dialect.Bind("INSERT INTO telemetry_event_log_ledger (recorded, pruned, bytes) VALUES (?, ?, ?)"), recorded, pruned, bytes)
	if err != nil {
		return fmt.Errorf("count events: %w", err)
	}
	return nil
}

// Stats are what is and was in the log: Events = Recorded - Pruned.
type Stats struct {
	Events, Recorded, Pruned int64
	// Bytes of all events there, in their wire format.
	Bytes int64
	// Oldest is when the oldest event there was recorded, zero if there is
	// none.
	Oldest time.Time
}

// Stats reads the ledger, and does not count events.
func (l *Log) Stats(ctx context.Context) (Stats, error) {
	s, err := l.totals(ctx, l.db)
	if err != nil {
		return Stats{}, fmt.Errorf("read totals of event log: %w", err)
	}
	var oldest database.Time
	if err := l.db.QueryRowContext(ctx, "SELECT MIN(recorded_at) FROM telemetry_event_log").Scan(&oldest); err != nil {
		return Stats{}, fmt.Errorf("find oldest event of event log: %w", err)
	}
	s.Oldest = oldest.Time
	return s, nil
}

// totals returns the sums of the ledger.
func (l *Log) totals(ctx context.Context, db queryer) (s Stats, err error) {
	// PostgreSQL's sums are of another type than what they add.
	err = db.QueryRowContext(ctx, `SELECT
		CAST(COALESCE(SUM(recorded), 0) AS BIGINT), CAST(COALESCE(SUM(pruned), 0) AS BIGINT), CAST(COALESCE(SUM(bytes), 0) AS BIGINT)
		FROM telemetry_event_log_ledger`).Scan(&s.Recorded, &s.Pruned, &s.Bytes)
	s.Events = s.Recorded - s.Pruned
	return s, err
}

// queryer is a database or a transaction.
type queryer interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}
