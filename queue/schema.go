// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/google/uuid"

	"github.com/telemetrygateway/telemetry/internal/database"
)

// The table of events is the original's, in SQLite as in PostgreSQL, and so are
// its indexes' names. Where the original made them they stay as they are: its
// export_order lacks the ID, which then only costs a little sorting. All that
// is ours stands beside it, so that the original can still use its table.
func steps(d database.Dialect) []database.Step {
	if d == database.Postgres {
		return []database.Step{database.SQL(postgresTables + indexes)}
	}
	return []database.Step{database.SQL(sqliteTables + indexes)}
}

const sqliteTables = `
CREATE TABLE telemetry_events_export_queue (
	id          TEXT PRIMARY KEY NOT NULL,
	timestamp   INTEGER NOT NULL, -- microseconds since 1970, like all times here
	payload_pb  BLOB NOT NULL,
	exported_at INTEGER -- NULL while pending
);
CREATE TABLE telemetry_events_export_dead_letters (
	id         TEXT PRIMARY KEY NOT NULL,
	timestamp  INTEGER NOT NULL,
	payload_pb BLOB NOT NULL,
	reason     TEXT NOT NULL,
	field      TEXT NOT NULL,
	message    TEXT NOT NULL,
	dead_at    INTEGER NOT NULL
);
CREATE TABLE telemetry_events_export_lease (
	one     INTEGER PRIMARY KEY CHECK (one = 1),
	holder  TEXT NOT NULL,
	fence   INTEGER NOT NULL,
	expires INTEGER NOT NULL
);
CREATE TABLE telemetry_events_export_ledger (
	id            INTEGER PRIMARY KEY,
	recorded      INTEGER NOT NULL,
	filtered      INTEGER NOT NULL,
	exported      INTEGER NOT NULL,
	dead_lettered INTEGER NOT NULL,
	expired       INTEGER NOT NULL,
	bytes         INTEGER NOT NULL, -- pending
	pruned        INTEGER NOT NULL  -- of the exported
);
CREATE TABLE telemetry_instance (
	one INTEGER PRIMARY KEY CHECK (one = 1),
	id  TEXT NOT NULL
);
INSERT INTO telemetry_events_export_lease VALUES (1, '', 0, 0);
`

const postgresTables = `
CREATE TABLE IF NOT EXISTS telemetry_events_export_queue (
	id          TEXT PRIMARY KEY,
	timestamp   TIMESTAMPTZ NOT NULL,
	payload_pb  BYTEA NOT NULL,
	exported_at TIMESTAMPTZ
);
CREATE TABLE telemetry_events_export_dead_letters (
	id         TEXT PRIMARY KEY,
	timestamp  TIMESTAMPTZ NOT NULL,
	payload_pb BYTEA NOT NULL,
	reason     TEXT NOT NULL,
	field      TEXT NOT NULL,
	message    TEXT NOT NULL,
	dead_at    TIMESTAMPTZ NOT NULL
);
CREATE TABLE telemetry_events_export_lease (
	one     INTEGER PRIMARY KEY CHECK (one = 1),
	holder  TEXT NOT NULL,
	fence   BIGINT NOT NULL,
	expires TIMESTAMPTZ NOT NULL
);
CREATE TABLE telemetry_events_export_ledger (
	id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	recorded      BIGINT NOT NULL,
	filtered      BIGINT NOT NULL,
	exported      BIGINT NOT NULL,
	dead_lettered BIGINT NOT NULL,
	expired       BIGINT NOT NULL,
	bytes         BIGINT NOT NULL,
	pruned        BIGINT NOT NULL
);
CREATE TABLE telemetry_instance (
	one INTEGER PRIMARY KEY CHECK (one = 1),
	id  TEXT NOT NULL
);
-- Nobody may add events between being counted and the first one who counts.
LOCK TABLE telemetry_events_export_queue IN SHARE MODE;
INSERT INTO telemetry_events_export_ledger (recorded, filtered, exported, dead_lettered, expired, bytes, pruned)
	SELECT count(*), 0, count(exported_at), 0, 0, COALESCE(sum(octet_length(payload_pb)) FILTER (WHERE exported_at IS NULL), 0), 0
	FROM telemetry_events_export_queue;
INSERT INTO telemetry_events_export_lease VALUES (1, '', 0, '1970-01-01T00:00:00Z');
`

const indexes = `
CREATE INDEX IF NOT EXISTS telemetry_events_export_queue_export_order
	ON telemetry_events_export_queue (timestamp, id) WHERE exported_at IS NULL;
CREATE INDEX IF NOT EXISTS telemetry_events_export_queue_exported
	ON telemetry_events_export_queue (exported_at, id) WHERE exported_at IS NOT NULL;
CREATE INDEX telemetry_events_export_dead_letters_order
	ON telemetry_events_export_dead_letters (dead_at, id);
`

// hasUUIDs reports whether the table's IDs are of PostgreSQL's type uuid, as
// later versions of the original have it.
func hasUUIDs(ctx context.Context, db *sql.DB, d database.Dialect) (yes bool, err error) {
	if d == database.Postgres {
		err = db.QueryRowContext(ctx, `SELECT atttypid = 'uuid'::regtype FROM pg_attribute
			WHERE attrelid = 'telemetry_events_export_queue'::regclass AND attname = 'id'`).Scan(&yes)
	}
	return yes, err
}

// among returns a condition that is true for rows with one of the IDs, and its
// argument. The column is that of the events, or with dead set of dead letters.
// IDs that the column cannot hold are left out.
func (q *Queue) among(ids []string, dead bool) (condition string, arg any) {
	valid := make([]string, 0, len(ids))
	for _, id := range ids {
		ok := clean(id, len(id)) == id
		if q.uuids {
			id, ok = canonical(id)
		}
		if ok {
			valid = append(valid, id)
		}
	}
	ids = valid
	switch {
	case q.dialect != database.Postgres:
		list, _ := json.Marshal(ids) // cannot fail for strings
		return "id IN (SELECT value FROM json_each(?))", string(list)
	case q.uuids && !dead:
		return "id = ANY(CAST(? AS uuid[]))", ids
	}
	return "id = ANY(CAST(? AS text[]))", ids
}

// canonical returns a UUID as PostgreSQL writes it.
func canonical(id string) (string, bool) {
	if len(id) != 36 {
		return "", false // Parse knows more forms
	}
	u, err := uuid.Parse(id)
	return u.String(), err == nil
}
