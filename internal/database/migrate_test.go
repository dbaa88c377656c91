// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package database_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/database"
)

func TestMigrate(t *testing.T) {
	forEach(t, func(t *testing.T, d database.Dialect, url string) {
		db := open(t, url)
		migrate := func(component string, steps ...database.Step) {
			t.Helper()
			if err := database.Migrate(t.Context(), db, d, component, steps); err != nil {
				t.Fatal(err)
			}
		}
		ran := 0
		one := func(ctx context.Context, tx *sql.Tx) error {
			ran++
			return items[0](ctx, tx)
		}
		two := database.SQL("INSERT INTO items VALUES (1, 0); INSERT INTO items VALUES (2, 0)")
		migrate("a", one)
		migrate("a", one)
		migrate("a", one, two)
		migrate("b", database.SQL("INSERT INTO items VALUES (3, 0)"))
		if n := count(t, db); ran != 1 || n != 3 {
			t.Errorf("the first step ran %d times, and there are %d items; want 1 and 3", ran, n)
		}
		err := database.Migrate(t.Context(), db, d, "a", []database.Step{one})
		if err == nil || !strings.Contains(err.Error(), "migrate the tables of a: they have version 2 and this program knows 1: run the newer program") {
			t.Errorf("an older program got %v", err)
		}
	})
}

func TestFailedMigrationChangesNothing(t *testing.T) {
	forEach(t, func(t *testing.T, d database.Dialect, url string) {
		db := open(t, url)
		broken := []database.Step{items[0], database.SQL("INSERT INTO items VALUES (1, 0)"), database.SQL("nonsense")}
		err := database.Migrate(t.Context(), db, d, "a", broken)
		if err == nil || !strings.Contains(err.Error(), "migrate the tables of a: to version 3: ") {
			t.Errorf("got %v", err)
		}
		if err := database.Migrate(t.Context(), db, d, "a", items); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db); n != 0 {
			t.Errorf("%d rows of the failed migration are there", n)
		}
	})
}

// TestPostgresMigratedByAnother: an application need not have the right to make
// tables when somebody else has made them.
func TestPostgresMigratedByAnother(t *testing.T) {
	db := openItems(t, database.Postgres, postgresURL(t))
	db.SetMaxOpenConns(1)
	for _, q := range []string{
		"CREATE ROLE application",
		"GRANT SELECT ON telemetry_schema TO application",
		"DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO application', current_schema()); END $$",
		"SET ROLE application",
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	// Roles belong to the whole server, which other tests use as well.
	defer func() {
		if _, err := db.Exec("RESET ROLE; DROP OWNED BY application; DROP ROLE application"); err != nil {
			t.Error(err)
		}
	}()
	if err := database.Migrate(t.Context(), db, database.Postgres, "items", items); err != nil {
		t.Error(err)
	}
}

// racing are steps that fail when they run twice, and take long enough for
// somebody else to begin as well.
func racing(d database.Dialect) []database.Step {
	steps := slices.Clone(items)
	for range 20 {
		steps = append(steps, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, d.Bind("INSERT INTO items (id) SELECT count(*) FROM items WHERE n <> ?"), 1)
			return err
		})
	}
	return steps
}

// migrateFromStdin says that it is ready, waits for its input to end and
// migrates.
func migrateFromStdin(url string) error {
	db, err := openURL(url)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	ctx := context.Background()
	d, err := database.Detect(ctx, db)
	if err != nil {
		return err
	}
	return database.Migrate(ctx, db, d, "items", racing(d))
}

func TestProcessesMigrateAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, d database.Dialect, url string) {
		const processes = 4
		var commands []*exec.Cmd
		var start []io.Closer
		outputs := make([]bytes.Buffer, processes)
		for i := range processes {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "DATABASE_TEST_MIGRATE="+url)
			cmd.Stderr = &outputs[i]
			stdin, err := cmd.StdinPipe()
			stdout, err2 := cmd.StdoutPipe()
			if err := errors.Join(err, err2, cmd.Start()); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
				t.Error(err)
			}
			commands, start = append(commands, cmd), append(start, stdin)
		}
		for _, s := range start {
			s.Close()
		}
		for i, cmd := range commands {
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, &outputs[i])
			}
		}
		if n := count(t, open(t, url)); n != 20 {
			t.Errorf("%d rows, want 20", n)
		}
	})
}
