// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package database_test

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/database"
)

func TestWrite(t *testing.T) {
	forEach(t, func(t *testing.T, d database.Dialect, url string) {
		db, other := openItems(t, d, url), open(t, url)
		db.SetMaxOpenConns(1) // a transaction left open would block or spoil the next
		if err := database.Write(t.Context(), db, d, insert(d, 1)); err != nil {
			t.Fatal(err)
		}
		failure := errors.New("on purpose")
		err := database.Write(t.Context(), db, d, func(tx *sql.Tx) error {
			return errors.Join(insert(d, 2)(tx), failure)
		})
		if !errors.Is(err, failure) {
			t.Errorf("got %v, want the error of f", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = database.Write(ctx, db, d, func(tx *sql.Tx) error {
			defer cancel()
			return insert(d, 3)(tx)
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the error of the context", err)
		}
		func() {
			defer func() {
				if recover() != failure {
					t.Error("the panic did not come through")
				}
			}()
			_ = database.Write(t.Context(), db, d, func(tx *sql.Tx) error {
				if err := insert(d, 4)(tx); err != nil {
					t.Error(err)
				}
				panic(failure)
			})
		}()
		if n := count(t, other); n != 1 {
			t.Errorf("%d rows, want one", n)
		}
		if err := database.Write(t.Context(), db, d, insert(d, 5)); err != nil {
			t.Error(err)
		}
		if n := count(t, other); n != 2 {
			t.Errorf("%d rows, want two", n)
		}
	})
}

// TestFailedCommit makes the commit itself fail, by what is checked only then.
func TestFailedCommit(t *testing.T) {
	forEach(t, func(t *testing.T, d database.Dialect, url string) {
		if d == database.SQLite {
			url += "&_pragma=foreign_keys(1)"
		}
		db := openItems(t, d, url)
		db.SetMaxOpenConns(1)
		if _, err := db.Exec("CREATE TABLE parts (item BIGINT REFERENCES items (id) DEFERRABLE INITIALLY DEFERRED)"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			err := database.Write(t.Context(), db, d, func(tx *sql.Tx) error {
				_, err := tx.Exec("INSERT INTO parts VALUES (7)")
				return err
			})
			if err == nil || database.Temporary(err) {
				t.Errorf("got %v, want an error that is not temporary", err)
			}
		}
		if err := database.Write(t.Context(), db, d, insert(d, 1)); err != nil {
			t.Error(err)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("%d rows, want one", n)
		}
	})
}

func TestSQLiteWaitsForTheLockFirst(t *testing.T) {
	for _, lock := range []string{"", "&_txlock=immediate", "&_txlock=deferred&_pragma=busy_timeout(1)"} {
		t.Run(lock, func(t *testing.T) {
			url := sqliteURL(t) + lock
			db := openItems(t, database.SQLite, url)
			other, err := open(t, url).Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			exec := func(q string) {
				t.Helper()
				if _, err := other.ExecContext(t.Context(), q); err != nil {
					t.Fatal(err)
				}
			}
			exec("BEGIN IMMEDIATE")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			err = database.Write(ctx, db, database.SQLite, func(*sql.Tx) error {
				t.Error("called without the lock")
				return nil
			})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			done := make(chan error)
			go func() { done <- database.Write(t.Context(), db, database.SQLite, insert(database.SQLite, 1)) }()
			exec("COMMIT")
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSQLiteReadThenWrite would fail with a lock that is taken only at the
// first write, because what was read before it may have changed.
func TestSQLiteReadThenWrite(t *testing.T) {
	url := sqliteURL(t)
	db := openItems(t, database.SQLite, url)
	if err := database.Write(t.Context(), db, database.SQLite, insert(database.SQLite, 1)); err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 20
	var wg sync.WaitGroup
	for range writers {
		own := open(t, url)
		wg.Go(func() {
			for range each {
				err := database.Write(t.Context(), own, database.SQLite, func(tx *sql.Tx) error {
					var n int
					if err := tx.QueryRow("SELECT n FROM items WHERE id = 1").Scan(&n); err != nil {
						return err
					}
					_, err := tx.Exec("UPDATE items SET n = ? WHERE id = 1", n+1)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var n int
	if err := db.QueryRow("SELECT n FROM items WHERE id = 1").Scan(&n); err != nil || n != writers*each {
		t.Errorf("counted to %d, %v; want %d", n, err, writers*each)
	}
}

func TestPostgresCommitsSynchronously(t *testing.T) {
	url := postgresURL(t)
	for session, want := range map[string]string{"off": "on", "on": "on", "local": "local", "remote_apply": "remote_apply"} {
		db := openItems(t, database.Postgres, url+"&synchronous_commit="+session)
		db.SetMaxOpenConns(1)
		setting := func(q interface{ QueryRow(string, ...any) *sql.Row }) (s string) {
			if err := q.QueryRow("SHOW synchronous_commit").Scan(&s); err != nil {
				t.Fatal(err)
			}
			return s
		}
		err := database.Write(t.Context(), db, database.Postgres, func(tx *sql.Tx) error {
			if got := setting(tx); got != want {
				t.Errorf("session %s: transaction has %s, want %s", session, got, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if got := setting(db); got != session {
			t.Errorf("session %s: is %s afterwards", session, got)
		}
	}
}
