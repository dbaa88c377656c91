// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package database_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/telemetrygateway/telemetry/internal/database"
)

func TestTemporary(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("other"), false},
		{context.Canceled, false},
		{context.DeadlineExceeded, false},
		{sql.ErrNoRows, false},
		{driver.ErrBadConn, true},
		{fmt.Errorf("read: %w", io.EOF), true},
		{io.ErrUnexpectedEOF, true},
		{&pgconn.PgError{Code: "40001"}, true},
		{&pgconn.PgError{Code: "40P01"}, true},
		{&pgconn.PgError{Code: "08006"}, true},
		{&pgconn.PgError{Code: "53300"}, true},
		{&pgconn.PgError{Code: "55P03"}, true},
		{&pgconn.PgError{Code: "57P01"}, true},
		{&pgconn.PgError{Code: "57P03"}, true},
		{&pgconn.PgError{Code: "53100"}, false},
		{&pgconn.PgError{Code: "57P04"}, false},
		{&pgconn.PgError{Code: "57014"}, false},
		{&pgconn.PgError{Code: "23505"}, false},
		{&pgconn.PgError{Code: "42P01"}, false},
	} {
		if got := database.Temporary(c.err); got != c.want {
			t.Errorf("%v: got %v", c.err, got)
		}
		if got := database.Temporary(fmt.Errorf("write: %w", c.err)); got != c.want {
			t.Errorf("%v, wrapped: got %v", c.err, got)
		}
	}
}

func TestTemporaryInSQLite(t *testing.T) {
	url := sqliteURL(t)
	db, other := openItems(t, database.SQLite, url+"&_pragma=max_page_count(20)"), open(t, url+"&_txlock=immediate")
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO items VALUES (1, 0)"); !database.Temporary(err) {
		t.Errorf("not temporary while another writes: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO nothing VALUES (1)"); err == nil || database.Temporary(err) {
		t.Errorf("temporary without a table: %v", err)
	}
	err = database.Write(t.Context(), db, database.SQLite, func(tx *sql.Tx) error {
		_, err := tx.Exec("CREATE TABLE large AS SELECT zeroblob(1000000)")
		return err
	})
	if err == nil || database.Temporary(err) || !strings.Contains(err.Error(), "full") {
		t.Errorf("temporary when full: %v", err)
	}
	if err := database.Write(t.Context(), db, database.SQLite, insert(database.SQLite, 1)); err != nil {
		t.Errorf("a small write after it was full: %v", err)
	}
}

// TestPostgresRestarts: who writes while PostgreSQL restarts, sees only
// temporary errors, and what was acknowledged is there.
func TestPostgresRestarts(t *testing.T) {
	url := postgresURL(t)
	db := openItems(t, database.Postgres, url)
	for _, mode := range []string{"fast", "immediate"} {
		t.Run(mode, func(t *testing.T) {
			before := count(t, db)
			var next, acknowledged, failed atomic.Int64
			next.Store(int64(before))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			progress := make(chan struct{}, 1)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for ctx.Err() == nil {
						id := next.Add(1)
						err := database.Retry(t.Context(), func() error {
							err := database.Write(t.Context(), db, database.Postgres, insert(database.Postgres, int(id)))
							if err != nil {
								failed.Add(1)
							}
							return err
						})
						if err != nil {
							t.Errorf("an error that is not temporary: %v", err)
							stop()
							return
						}
						acknowledged.Add(1)
						select {
						case progress <- struct{}{}:
						default:
						}
					}
				})
			}
			for range 2 {
				select {
				case <-progress:
				case <-ctx.Done():
				}
				if err := postgres.Restart(mode); err != nil {
					t.Fatal(err)
				}
			}
			stop()
			wg.Wait()
			if got, want := count(t, db)-before, int(acknowledged.Load()); got != want {
				t.Errorf("%d rows, %d were acknowledged", got, want)
			}
			if failed.Load() == 0 {
				t.Error("no write met a restart")
			}
		})
	}
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		err := database.Retry(t.Context(), func() error {
			if n++; n < 50 {
				return driver.ErrBadConn
			}
			return nil
		})
		if err != nil || n != 50 {
			t.Errorf("got %v after %d attempts", err, n)
		}
		other := errors.New("other")
		if err := database.Retry(t.Context(), func() error { return other }); err != other {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		err = database.Retry(ctx, func() error { return driver.ErrBadConn })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, driver.ErrBadConn) || time.Since(began) != time.Hour {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}
