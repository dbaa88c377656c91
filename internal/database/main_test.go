// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package database_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/internal/database/cluster"
)

// TestMain lets tests run the test binary as another process, and ends the
// PostgreSQL that they share.
func TestMain(m *testing.M) {
	if at, ok := os.LookupEnv("DATABASE_TEST_MIGRATE"); ok {
		if err := migrateFromStdin(at); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if err := postgres.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// postgres is the server of all tests.
var postgres cluster.Shared

// postgresURL returns the URL of an empty schema.
func postgresURL(t *testing.T) string {
	t.Helper()
	url, err := postgres.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// sqliteURL returns the DSN of a new file.
func sqliteURL(t *testing.T) string {
	return "file:" + filepath.Join(t.TempDir(), "test.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
}

var implementations = []struct {
	name    string
	dialect database.Dialect
	url     func(*testing.T) string
}{
	{"SQLite", database.SQLite, sqliteURL},
	{"SQLite, immediate", database.SQLite, func(t *testing.T) string { return sqliteURL(t) + "&_txlock=immediate" }},
	{"PostgreSQL", database.Postgres, postgresURL},
}

// forEach runs f on every kind of database, with one that is empty.
func forEach(t *testing.T, f func(t *testing.T, d database.Dialect, url string)) {
	for _, i := range implementations {
		t.Run(i.name, func(t *testing.T) { f(t, i.dialect, i.url(t)) })
	}
}

func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := openURL(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func openURL(url string) (*sql.DB, error) {
	if strings.HasPrefix(url, "postgres:") {
		return sql.Open("pgx", url)
	}
	return sql.Open("sqlite", url)
}

// items makes a table to write to.
var items = []database.Step{database.SQL("CREATE TABLE items (id BIGINT PRIMARY KEY, n BIGINT NOT NULL DEFAULT 0)")}

func openItems(t *testing.T, d database.Dialect, url string) *sql.DB {
	t.Helper()
	db := open(t, url)
	if err := database.Migrate(t.Context(), db, d, "items", items); err != nil {
		t.Fatal(err)
	}
	return db
}

func insert(d database.Dialect, id int) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.Exec(d.Bind("INSERT INTO items (id) VALUES (?) ON CONFLICT DO NOTHING"), id)
		return err
	}
}

func count(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRowContext(context.Background(), "SELECT count(*) FROM items").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
