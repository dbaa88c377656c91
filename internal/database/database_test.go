// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package database_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/database"
)

func TestDetect(t *testing.T) {
	forEach(t, func(t *testing.T, want database.Dialect, url string) {
		if d, err := database.Detect(t.Context(), open(t, url)); d != want || err != nil {
			t.Errorf("got %v, %v; want %v", d, err, want)
		}
	})
}

func TestDetectRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, driver, dsn, want string }{
		{"rollback journal", "sqlite", "file:" + dir + "/a.db", "journal mode is delete, in which readers and writers block each other or nothing is durable; open a file with _pragma=journal_mode(WAL)&_pragma=synchronous(FULL) in the DSN"},
		{"memory", "sqlite", ":memory:", "journal mode is memory"},
		{"synchronous normal", "sqlite", "file:" + dir + "/b.db?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)", "synchronous = 1, and so loses committed events when the power fails; open it with _pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"},
		{"no such folder", "sqlite", "file:" + dir + "/none/c.db", "ask the database what it is: unable to open database file"},
		{"no server", "pgx", "postgres://postgres@/x?host=" + dir, "ask the database what it is: failed to connect"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, err := sql.Open(c.driver, c.dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := database.Detect(t.Context(), db); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
}

// An application that forgets one of them learns which. What database/sql does
// is to panic with a lock held, so that a deferred Close never returns.
func TestDetectRefusesNil(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+t.TempDir()+"/a.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var none context.Context
	if _, err := database.Detect(none, db); err == nil || err.Error() != "the context is nil" {
		t.Errorf("without a context: %v", err)
	}
	if _, err := database.Detect(t.Context(), nil); err == nil || err.Error() != "the database is nil" {
		t.Errorf("without a database: %v", err)
	}
}

func TestDetectRefusesPostgresWithoutFsync(t *testing.T) {
	db := open(t, postgresURL(t))
	set := func(fsync string) {
		t.Helper()
		for _, q := range []string{"ALTER SYSTEM SET fsync = " + fsync, "SELECT pg_reload_conf()"} {
			if _, err := db.Exec(q); err != nil {
				t.Fatal(err)
			}
		}
		// Each session reloads between two of its queries.
		for now := ""; now != fsync; {
			if err := db.QueryRow("SHOW fsync").Scan(&now); err != nil {
				t.Fatal(err)
			}
		}
	}
	set("off")
	defer set("on")
	if _, err := database.Detect(t.Context(), db); err == nil || !strings.Contains(err.Error(), "set fsync = on") {
		t.Errorf("got %v", err)
	}
}

func TestBind(t *testing.T) {
	for _, c := range []struct {
		d          database.Dialect
		from, want string
	}{
		{database.SQLite, "a = ? AND b = ?", "a = ? AND b = ?"},
		{database.Postgres, "a = ? AND b = ?", "a = $1 AND b = $2"},
		{database.Postgres, "?" + strings.Repeat(", ?", 10), "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11"},
		{database.Postgres, "SELECT 1", "SELECT 1"},
	} {
		if got := c.d.Bind(c.from); got != c.want {
			t.Errorf("%v: got %q, want %q", c.d, got, c.want)
		}
	}
}

func TestTimesComeBack(t *testing.T) {
	forEach(t, func(t *testing.T, d database.Dialect, url string) {
		db := open(t, url)
		column := map[database.Dialect]string{database.SQLite: "INTEGER", database.Postgres: "timestamptz"}[d]
		if _, err := db.Exec("CREATE TABLE times (at " + column + ")"); err != nil {
			t.Fatal(err)
		}
		for _, at := range []time.Time{
			{},
			time.Unix(0, 0),
			time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC),
			time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
			time.Date(2026, 2, 3, 4, 5, 6, 123_456_789, time.FixedZone("", 3600)),
			time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		} {
			if _, err := db.Exec("DELETE FROM times"); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(d.Bind("INSERT INTO times VALUES (?)"), d.Time(at)); err != nil {
				t.Fatal(err)
			}
			var got database.Time
			var null bool
			if err := db.QueryRow("SELECT max(at), max(at) IS NULL FROM times").Scan(&got, &null); err != nil {
				t.Fatal(err)
			}
			if want := at.UTC().Truncate(time.Microsecond); got.Time != want || null != want.IsZero() {
				t.Errorf("%v came back as %v, NULL: %v", want, got.Time, null)
			}
		}
	})
}
