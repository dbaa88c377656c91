// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/queue"
)

// TestTutorialsDatabase opens a database as the tutorial, the examples and the
// README say, and lets transactions of an application, which read before they
// write, meet with others and with events outside of any. None may fail.
func TestTutorialsDatabase(t *testing.T) {
	parameters := ""
	for _, file := range []string{"doc.go", "README.md", "example_test.go", "example_whole_test.go", "queue/example_test.go", "exporter/example_test.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`\?([^"?]*_pragma=[^"]+)"`).FindAllSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s opens no SQLite database", file)
		}
		for _, m := range found {
			if parameters == "" {
				parameters = string(m[1])
			}
			if string(m[1]) != parameters {
				t.Errorf("%s opens a database with %s, doc.go with %s", file, m[1], parameters)
			}
		}
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "app.db")+"?"+parameters)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	q, err := queue.Open(t.Context(), db, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	recorder := telemetry.New(telemetry.Options{}, q)
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE users (n INTEGER)"); err != nil {
		t.Fatal(err)
	}
	inTransaction := func() error {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		var users int
		if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM users").Scan(&users); err != nil {
			return err
		}
		if err := recorder.To(q.Tx(tx)).Record(t.Context(), "users", "created", telemetry.Params{}); err != nil {
			return err
		}
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO users VALUES (?)", users); err != nil {
			return err
		}
		return tx.Commit()
	}
	const workers, rounds = 4, 20
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for range rounds {
				if err := inTransaction(); err != nil {
					t.Error(err)
				}
				if err := recorder.Record(t.Context(), "search", "executed", telemetry.Params{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	if s, err := q.Stats(t.Context()); err != nil || s.Pending != 2*workers*rounds {
		t.Errorf("the queue has %+v, %v; want %d events", s, err, 2*workers*rounds)
	}
}
