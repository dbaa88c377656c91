// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Step takes the tables of a component from one version to the next.
type Step func(ctx context.Context, tx *sql.Tx) error

// SQL is a step that runs statements, separated by semicolons.
func SQL(statements string) Step {
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, statements)
		return err
	}
}

const createSchema = "CREATE TABLE IF NOT EXISTS telemetry_schema (component TEXT PRIMARY KEY, version INTEGER NOT NULL)"

// migrationLock is the key of PostgreSQL's advisory lock under which tables
// are made: "tele-sql" in ASCII.
const migrationLock = 0x74656c652d73716c

// Migrate runs those of steps that have not yet been run for component, all in
// one transaction: it happens wholly or not at all. Several processes may call
// it at once. The first step makes version 1; steps may be added at the end but
// never changed. A version above that of the last step is an error, since
// another version of the program made it.
func Migrate(ctx context.Context, db *sql.DB, d Dialect, component string, steps []Step) error {
	err := migrate(ctx, db, d, component, steps)
	if err != nil {
		return fmt.Errorf("migrate the tables of %s: %w", component, err)
	}
	return nil
}

func migrate(ctx context.Context, db *sql.DB, d Dialect, component string, steps []Step) error {
	// Whoever has nothing to do needs no lock, and no right to make tables.
	if version, err := schemaVersion(ctx, db, d, component); err == nil && version == len(steps) {
		return nil
	}
	if d == SQLite {
		// Write needs the table.
		if err := whileLocked(ctx, func() error { _, err := db.ExecContext(ctx, createSchema); return err }); err != nil {
			return err
		}
	}
	return Write(ctx, db, d, func(tx *sql.Tx) error {
		if d == Postgres {
			if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
				return fmt.Errorf("wait for another migration: %w", err)
			}
			if _, err := tx.ExecContext(ctx, createSchema); err != nil {
				return err
			}
		}
		version, err := schemaVersion(ctx, tx, d, component)
		if err != nil {
			return err
		}
		if version > len(steps) {
			return fmt.Errorf("they have version %d and this program knows %d: run the newer program that made them", version, len(steps))
		}
		for i, step := range steps[version:] {
			if err := step(ctx, tx); err != nil {
				return fmt.Errorf("to version %d: %w", version+i+1, err)
			}
		}
		_, err = tx.ExecContext(ctx, d.Bind(`INSERT INTO telemetry_schema (component, version) VALUES (?, ?)
			ON CONFLICT (component) DO UPDATE SET version = excluded.version`), component, len(steps))
		return err
	})
}

// schemaVersion returns 0 for a component that has no tables yet.
func schemaVersion(ctx context.Context, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, d Dialect, component string,
) (version int, err error) {
	err = db.QueryRowContext(ctx, d.Bind("SELECT version FROM telemetry_schema WHERE component = ?"), component).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return version, err
}
