// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// TestMain lets the test's own binary be the other processes of a test.
func TestMain(m *testing.M) {
	if mode := os.Getenv("WAREHOUSE_TEST_CHILD"); mode != "" {
		if err := children[mode](os.Getenv("WAREHOUSE_TEST_PATH")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// children are what another process does with a file.
var children = map[string]func(path string) error{
	"hold": func(path string) error {
		if _, err := warehouse.Open(context.Background(), fileURL(path), warehouse.Options{}); err != nil {
			return err
		}
		fmt.Print(".")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	},
	"insert": func(path string) error {
		_, err := warehouse.Open(context.Background(), fileURL(path), warehouse.Options{})
		return err
	},
	"step": func(path string) error {
		w, err := warehouse.Open(context.Background(), fileURL(path), warehouse.Options{})
		if err != nil {
			return err
		}
		step, err := strconv.Atoi(os.Getenv("WAREHOUSE_TEST_STEP"))
		if err != nil {
			return err
		}
		return warehouse.KillAtStep(context.Background(), w, crashBatch(), step)
	},
	"file": func(path string) error { return insertUntilGrown(path, path) },
	"log":  func(path string) error { return insertUntilGrown(path, path+".wal") },
	"peak": func(path string) error {
		w, err := warehouse.Open(context.Background(), fileURL(path), warehouse.Options{})
		if err != nil {
			return err
		}
		result, err := w.Insert(context.Background(), &warehouse.Batch{Events: events(10)})
		if err != nil || result.Landed != 10 {
			return fmt.Errorf("%+v, %w", result, err)
		}
		if err := w.Close(); err != nil {
			return err
		}
		status, err := os.ReadFile("/proc/self/status")
		os.Stdout.Write(status)
		return err
	},
	"read": func(path string) error {
		_, err := warehouse.OpenReader(context.Background(), fileURL(path), warehouse.Options{})
		return err
	},
}

// crashBatch is the batch during which processes die. It has more rows than go
// into the file at once, and some that go through the log.
func crashBatch() *warehouse.Batch {
	rows := events(17_000)
	rejected := []warehouse.Rejected{{Row: rows[0], RejectedID: [16]byte{1}}, {RejectedID: [16]byte{2}}}
	again := rows[5]
	again.ReceivedAt = again.ReceivedAt.Add(time.Second)
	return &warehouse.Batch{Events: append(rows, again), Rejected: rejected}
}

// insertUntilGrown dies when one of the files has grown, while the batch is
// inserted.
func insertUntilGrown(path, file string) error {
	w, err := warehouse.Open(context.Background(), fileURL(path), warehouse.Options{})
	if err != nil {
		return err
	}
	size := int64(0)
	if info, err := os.Stat(file); err == nil {
		size = info.Size()
	}
	go warehouse.KillWhenGrowing(file, size)
	if _, err = w.Insert(context.Background(), crashBatch()); err != nil {
		return err
	}
	if info, err := os.Stat(file); err != nil || info.Size() <= size {
		return fmt.Errorf("%s has not grown: %w", file, err)
	}
	select {} // it has, and so this process is about to die
}

// TestKilled kills a process that inserts, at each of its steps and while files
// grow. Afterwards all of the batch is there, or nothing; and inserted again it
// is there once.
func TestKilled(t *testing.T) {
	type row struct {
		mode string
		step int
	}
	rows := []row{{"file", 0}, {"log", 0}}
	for step := range 8 {
		rows = append(rows, row{"step", step})
	}
	for _, r := range rows {
		w, path := openFile(t)
		insert(t, w, warehouse.Batch{Events: events(10)}, warehouse.Result{Landed: 10})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := child(t, r.mode, path)
		cmd.Env = append(cmd.Env, fmt.Sprint("WAREHOUSE_TEST_STEP=", r.step))
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%v: the process was not killed: %v: %s", r, err, out)
		}
		w, err = warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b := crashBatch()
		landed := r == row{"step", 7}
		if n := number(t, w, "SELECT count(*) FROM events"); n != 10 && n != 17_000 || landed && n != 17_000 {
			t.Errorf("%v: %d rows, want all of the batch or nothing", r, n)
		} else if n == 10 {
			insert(t, w, *b, warehouse.Result{Landed: 16_990, Redelivered: 10, Duplicates: 1, Rejected: 2})
		}
		insert(t, w, *b, warehouse.Result{Redelivered: 17_001})
		for sql, want := range map[string]int64{
			"SELECT count(*) FROM events": 17_000, "SELECT count(DISTINCT event_id) FROM events": 17_000, "SELECT count(*) FROM events_duplicates": 1, "SELECT count(*) FROM events_rejected": 2,
		} {
			if n := number(t, w, sql); n != want {
				t.Errorf("%v: %s: %d, want %d", r, sql, n, want)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLargeLog opens a file whose log has some 300 MB, as a process that was
// killed might leave it if DuckDB had found no moment to empty it.
func TestLargeLog(t *testing.T) {
	w, path := openFile(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"SET memory_limit = '1GB'", "SET wal_autocheckpoint = '1TB'", "PRAGMA disable_checkpoint_on_shutdown", "ATTACH '" + strings.ReplaceAll(path, "'", "''") + "' AS f", "USE f"} {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		_, err := db.Exec(fmt.Sprintf(`INSERT INTO events (key_hash, content_hash, identity, event_id, source, feature, action, recorded_at, received_at, landed_at, payload)
			SELECT uuid(), i, 'x', 'other-' || i, 'licensed_instance', 'codeSearch', 'executed', TIMESTAMP '2026-03-01', TIMESTAMP '2026-03-01', TIMESTAMP '2026-03-01',
				'{"a":"' || repeat(md5(i::VARCHAR), 240) || '"}' FROM range(%d, %d) AS r(i)`, i*1000, (i+1)*1000))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path + ".wal")
	if err != nil || info.Size() < 250<<20 {
		t.Fatalf("%v, %v: want a log of some 300 MB", info, err)
	}
	out, err := child(t, "peak", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var peak int
	_, after, _ := strings.Cut(string(out), "VmHWM:")
	if _, err := fmt.Sscanf(after, "%d kB", &peak); err != nil {
		t.Fatal(err)
	}
	t.Logf("a log of %d MB, %d MB of memory", info.Size()>>20, peak>>10)
	if peak>>10 > 512 {
		t.Errorf("the process had %d MB, want 512 at most", peak>>10)
	}
	r, err := warehouse.OpenReader(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n := number(t, r, "SELECT count(*) FROM events"); n != 40_010 {
		t.Errorf("%d rows, want 40010", n)
	}
}

func child(t *testing.T, mode, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "WAREHOUSE_TEST_CHILD="+mode, "WAREHOUSE_TEST_PATH="+path)
	return cmd
}
