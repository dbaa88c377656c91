// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package database is what the SQL stores of an instance share: which database
// they are in, how they write to it durably, how their tables come to be, and
// how many small writes become few.
//
// It works on a *sql.DB that belongs to the application, with whatever driver
// that has, so it imports none, and leaves connections as it found them.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Dialect is the kind of a database: what the stores' SQL must know of it.
type Dialect int

// The dialects. The zero value is none of them.
const (
	SQLite Dialect = iota + 1
	Postgres
)

const (
	// Earlier versions of SQLite can lose committed rows when a checkpoint
	// meets a write at the wrong moment.
	sqliteFloor   = "3.51.3"
	postgresFloor = 13

	// patience bounds how long Detect waits for a lock in SQLite.
	patience = 10 * time.Second
)

// sqliteDSN is what to add to a DSN so that the driver's connections are
// durable, in the words of the pure Go driver.
const sqliteDSN = "_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"

// Detect asks a database what it is. It returns an error if the database is
// none that the stores know, is too old, or does not keep on disk what it says
// is committed.
func Detect(ctx context.Context, db *sql.DB) (Dialect, error) {
	// What database/sql does of a nil is to panic while it holds a lock.
	switch {
	case ctx == nil:
		return 0, errors.New("the context is nil")
	case db == nil:
		return 0, errors.New("the database is nil")
	}
	// PostgreSQL has this function; its relatives have it so that they can be
	// told apart; SQLite does not.
	var version string
	err := db.QueryRowContext(ctx, "SELECT version()").Scan(&version)
	switch {
	case err == nil && strings.HasPrefix(version, "PostgreSQL "):
		return Postgres, checkPostgres(ctx, db)
	case err == nil:
		return 0, fmt.Errorf("ask the database what it is: it is %q, want SQLite or PostgreSQL", version)
	case Temporary(err) && !locked(err):
		return 0, fmt.Errorf("ask the database what it is: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = whileLocked(ctx, func() error { return db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version) })
	if err != nil {
		return 0, fmt.Errorf("ask the database what it is: %w", err)
	}
	return SQLite, whileLocked(ctx, func() error { return checkSQLite(ctx, db, version) })
}

func checkPostgres(ctx context.Context, db *sql.DB) error {
	var version, fsync string
	err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num'), current_setting('fsync')").Scan(&version, &fsync)
	if err != nil {
		return fmt.Errorf("ask PostgreSQL for its settings: %w", err)
	}
	n, err := strconv.Atoi(version)
	if err != nil {
		return fmt.Errorf("PostgreSQL's server_version_num: %w", err)
	}
	if n/10_000 < postgresFloor {
		return fmt.Errorf("PostgreSQL has version %d; upgrade it to %d or later", n/10_000, postgresFloor)
	}
	if fsync != "on" {
		return fmt.Errorf("PostgreSQL runs with fsync = %s, and so loses committed events when the power fails; set fsync = on in postgresql.conf", fsync)
	}
	return nil
}

func checkSQLite(ctx context.Context, db *sql.DB, version string) error {
	if !atLeast(version, sqliteFloor) {
		return fmt.Errorf("SQLite has version %s; upgrade the driver to one with %s or later", version, sqliteFloor)
	}
	var mode string
	var synchronous int
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return fmt.Errorf("ask SQLite for its journal mode: %w", err)
	}
	if err := db.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous); err != nil {
		return fmt.Errorf("ask SQLite when it syncs: %w", err)
	}
	if mode != "wal" {
		return fmt.Errorf("SQLite's journal mode is %s, in which readers and writers block each other or nothing is durable; open a file with %s in the DSN", mode, sqliteDSN)
	}
	if synchronous < 2 {
		return fmt.Errorf("SQLite runs with synchronous = %d, and so loses committed events when the power fails; open it with %s in the DSN", synchronous, sqliteDSN)
	}
	settle(ctx, db)
	return nil
}

// settle writes SQLite's log into the database. After an fsync failed, the
// kernel may hold pages of the log as if they were on disk, and whoever opens
// the file next takes them for committed; copied, they are written anew. If
// that fails here, it fails again where someone writes.
func settle(ctx context.Context, db *sql.DB) {
	var busy, pages, copied int
	_ = db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied)
}

// atLeast compares versions such as 3.51.3.
func atLeast(version, floor string) bool {
	v, f := strings.Split(version, "."), strings.Split(floor, ".")
	for i := range f {
		if i == len(v) {
			return false
		}
		a, _ := strconv.Atoi(v[i])
		b, _ := strconv.Atoi(f[i])
		if a != b {
			return a > b
		}
	}
	return true
}

// String returns the database's name.
func (d Dialect) String() string {
	switch d {
	case SQLite:
		return "SQLite"
	case Postgres:
		return "PostgreSQL"
	}
	return "unknown database"
}

// Bind returns a query in which every "?" is a placeholder as d writes it. The
// query must hold no other "?".
func (d Dialect) Bind(query string) string {
	if d != Postgres {
		return query
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		fmt.Fprintf(&b, "$%d", n)
		query = after
	}
}

// Time returns t as an argument for a column of times: timestamptz in
// PostgreSQL, microseconds since 1970 as INTEGER in SQLite. Both round down to
// microseconds. The zero time is NULL.
func (d Dialect) Time(t time.Time) any {
	switch {
	case t.IsZero():
		return nil
	case d == SQLite:
		return t.UnixMicro()
	}
	return t
}

// Time scans what Dialect.Time wrote, in UTC.
type Time struct{ time.Time }

// Scan implements sql.Scanner.
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		t.Time = time.Time{}
	case int64:
		t.Time = time.UnixMicro(v).UTC()
	case time.Time:
		t.Time = v.UTC()
	default:
		return fmt.Errorf("a time is stored as %T; want microseconds since 1970 or timestamptz", src)
	}
	return nil
}
