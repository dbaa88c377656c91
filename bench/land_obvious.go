// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"

	"github.com/telemetrygateway/telemetry/internal/topic"
)

const (
	obviousTable = `CREATE TABLE IF NOT EXISTS events (
	identity VARCHAR, event_id VARCHAR, source VARCHAR, source_id VARCHAR, license_id VARCHAR, feature VARCHAR, action VARCHAR,
	recorded_at TIMESTAMP, received_at TIMESTAMP, landed_at TIMESTAMP, server_version VARCHAR, client_name VARCHAR,
	user_id VARCHAR, anonymous_user_id VARCHAR, metadata JSON, flags JSON, payload JSON, PRIMARY KEY (identity, event_id))`
	obviousColumns = 17
	obviousInsert  = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

// obviousPayload is what the obvious way reads of a payload.
type obviousPayload struct {
	Metadata struct {
		Identifier map[string]struct {
			InstanceID string
			License    struct{ ID string }
		}
	}
	Event struct {
		ID, Feature, Action string
		Timestamp           time.Time
		Source              struct {
			Server, Client struct{ Name, Version string }
		}
		Parameters   struct{ Metadata json.RawMessage }
		User         struct{ UserID, AnonymousUserID string }
		FeatureFlags struct{ Flags json.RawMessage }
	}
	Labels struct{ ReceivedAt time.Time }
}

// obviousLandRole is the way that comes to mind first: decode each message with
// encoding/json and insert it, into a table whose primary key keeps duplicates
// out. It is spared a commit for each row, and most of the columns.
func obviousLandRole(c childConfig) (int64, error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	db, err := openObviousWarehouse(c.Database)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	insert, err := db.Prepare(obviousInsert)
	if err != nil {
		return 0, err
	}
	events, err := topic.Subscribe(ctx, c.Topic+"?subscription=obvious", topic.BatchOptions{}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return 0, err
	}
	var landed int64
	var failed error
	err = events.Receive(ctx, func(ctx context.Context, ms []topic.Message) error {
		n, err := obviousLand(ctx, db, insert, ms)
		if landed += n; err != nil || landed >= int64(c.Events) {
			failed = err
			stop()
		}
		return err
	})
	return min(landed, int64(c.Events)), errors.Join(failed, err, events.Close())
}

func obviousLand(ctx context.Context, db *sql.DB, insert *sql.Stmt, ms []topic.Message) (landed int64, err error) {
	tx, err := db.Begin()
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	row := tx.StmtContext(ctx, insert)
	for _, m := range ms {
		var p obviousPayload
		if err := json.Unmarshal(m.Data, &p); err != nil {
			return 0, err
		}
		for source, sender := range p.Metadata.Identifier {
			e := p.Event
			result, err := row.ExecContext(ctx, m.Key[:strings.LastIndexByte(m.Key, '/')], e.ID, source, sender.InstanceID, sender.License.ID,
				e.Feature, e.Action, e.Timestamp, p.Labels.ReceivedAt, time.Now(), e.Source.Server.Version, e.Source.Client.Name,
				e.User.UserID, e.User.AnonymousUserID, string(e.Parameters.Metadata), string(e.FeatureFlags.Flags), string(m.Data))
			if err != nil {
				return 0, err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return 0, err
			}
			landed += n
		}
	}
	return landed, tx.Commit()
}

func openObviousWarehouse(path string) (*sql.DB, error) {
	db, err := sql.Open("duckdb", path) // with most of the memory, which it needs
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(obviousTable); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// fillObviousWarehouse inserts n rows in one statement.
func fillObviousWarehouse(path string, n int) error {
	db, err := openObviousWarehouse(path)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(`INSERT INTO events SELECT 'license/other', uuid()::VARCHAR, 'licensedInstance', 'bench-site', 'other', 'search.results', 'viewed',
		now(), now(), now(), '6.5.0', 'web', '7', uuid()::VARCHAR, '{"position":1}', '{}', '{"event":{"id":"' || uuid() || '"}}' FROM range(?)`, n)
	if err != nil {
		return err
	}
	_, err = db.Exec("CHECKPOINT")
	return err
}
