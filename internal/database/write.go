// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

const (
	// lockSQLite changes nothing. It is a write all the same, and so, as the
	// first statement of a transaction, takes the write lock before anything
	// is read: BEGIN IMMEDIATE, however the driver begins transactions.
	lockSQLite = "DELETE FROM telemetry_schema WHERE 0"

	// syncPostgres makes the commit wait for the disk where the session would
	// not. Stronger settings than on, such as remote_apply, are kept.
	syncPostgres = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)

// Write runs f in a transaction and commits it. When it returns nil, what f
// wrote is on disk. An error says that the outcome is unknown; only if it came
// from f is nothing written.
//
// In SQLite it waits for the write lock before it calls f, for as long as ctx
// lasts, so that f never fails because another connection writes. If SQLite is
// busy all the same, f is called again. The database must be one that Migrate
// has prepared.
func Write(ctx context.Context, db *sql.DB, d Dialect, f func(*sql.Tx) error) error {
	var err error
	if d == SQLite {
		err = whileLocked(ctx, func() error { return write(ctx, db, lockSQLite, f) })
		if errors.As(err, new(commitError)) {
			settle(ctx, db)
		}
	} else {
		err = write(ctx, db, syncPostgres, f)
	}
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		// That was so because ctx ended.
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// commitError is one after which the outcome is unknown.
type commitError struct{ error }

func (e commitError) Error() string { return "commit: " + e.error.Error() }
func (e commitError) Unwrap() error { return e.error }

func write(ctx context.Context, db *sql.DB, first string, f func(*sql.Tx) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	committed := false
	defer func() { // also if f panics
		if !committed && tx.Rollback() != nil {
			// Whether the transaction has ended is unknown, so nobody shall
			// get this connection again.
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}()
	if _, err := tx.ExecContext(ctx, first); err != nil {
		return fmt.Errorf("begin to write: %w", err)
	}
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return commitError{err}
	}
	committed = true
	return nil
}

// InBatches calls f, which is to do a small part of a long work, until it
// returns an error or that there is no more. After each call it leaves the
// database to others for as long as the call took.
func InBatches(ctx context.Context, f func() (more bool, err error)) error {
	for {
		began := time.Now()
		if more, err := f(); !more || err != nil {
			return err
		}
		pause(ctx, time.Since(began))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
