// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// exportedTables are what an export has a folder for.
var exportedTables = []string{"events", "events_rejected"}

// TestLandingExport exports the warehouse while events land, and when nobody has
// it: each time exactly what the tables had at a moment. An export that is killed,
// or whose pipeline is, leaves no part of a file where a file belongs.
func TestLandingExport(t *testing.T) {
	t.Parallel()
	s := streamIn(t)
	g := s.startGateway(t)
	p := s.start(t, "-batch", "300")
	s.burst(t, g, 10)
	s.plant(t)
	s.drained(t, p)

	exports := map[string]int{} // events that had landed before, by folder
	stop := s.run(t, g, 5*time.Millisecond)
	landed := func() float64 { return p.metric(t, "telemetry_pipeline_events_total", "landed") }
	for i := range 3 {
		dir, more := filepath.Join(s.dir, fmt.Sprint("export-", i)), landed()+1000
		poll(t, "rows", func() bool { return landed() > more }, p.last)
		exports[dir] = s.landed(t)
		s.exported(t, dir)
	}
	during := landed()
	poll(t, "row after the exports", func() bool { return landed() > during }, p.last)

	// Each is killed when it has changed the folder once more than the last one.
	for n := range 4 {
		dir := t.TempDir()
		changes := watch(t, dir)
		e, _ := s.export(t, dir)
		changes.after(n+1, e.kill)
		e.wait(t)
		exports[dir] = 0
	}
	stop()
	s.flush(t, g)
	s.drained(t, p)

	changes := watch(t, filepath.Dir(s.warehouse))
	unmade := filepath.Join(s.dir, "unmade")
	e, _ := s.export(t, unmade)
	changes.after(1, p.kill) // it puts files together beside the warehouse
	if state := e.wait(t); state.ExitCode() != 1 {
		t.Errorf("an export whose pipeline was killed: %v\n%s", state, e.last())
	}
	exports[unmade] = 0
	s.expireLeases(t)
	p = s.start(t)
	s.exported(t, filepath.Join(s.dir, "again"))
	t.Log(s.finishWith(t, p))

	alone := filepath.Join(s.dir, "alone")
	s.exported(t, alone)
	exports[alone] = s.landed(t)
	if e, _ := s.export(t, alone); e.wait(t).ExitCode() != 2 || !strings.Contains(e.last(), alone+" is not empty; name a folder that is, or that is not there") {
		t.Errorf("a second export to the same folder: %v\n%s", e.cmd.ProcessState, e.last())
	}
	db := openWarehouse(t, s.warehouse, "read_only")
	for dir, before := range exports {
		rows := map[string]int{}
		for _, table := range exportedTables {
			rows[table] = compare(t, db, table, filepath.Join(dir, table))
		}
		if t.Logf("%d events had landed, and exported were %v", before, rows); rows["events"] < before || before > 0 && rows["events_rejected"] == 0 {
			t.Error("some are missing")
		}
	}
	if left := parquet(t, filepath.Dir(s.warehouse)); len(left) > 0 {
		t.Errorf("beside the warehouse are left: %v", left)
	}
}

// export starts to export the warehouse.
func (s *stream) export(t *testing.T, dir string) (e *process, stdout *bytes.Buffer) {
	t.Helper()
	binary, err := pipeline()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "export", "-warehouse", "duckdb://"+s.warehouse, "-parquet", dir)
	stdout = new(bytes.Buffer)
	cmd.Env, cmd.Stdout = cleanEnv(), stdout
	return spawn(t, cmd, "export"), stdout
}

// exported exports the warehouse.
func (s *stream) exported(t *testing.T, dir string) {
	t.Helper()
	e, stdout := s.export(t, dir)
	if state := e.wait(t); state.ExitCode() != 0 || !strings.HasSuffix(stdout.String(), " bytes in "+dir+"\n") {
		t.Errorf("telemetry-pipeline export: %v: %s\n%s", state, stdout, e.last())
	}
}

// compare checks that what was exported of a table is what the table had when it
// had so many rows, which it returns: rows are only ever added to its end.
func compare(t *testing.T, db *sql.DB, table, dir string) (n int) {
	t.Helper()
	if len(parquet(t, dir)) == 0 {
		return 0
	}
	// As texts, in which -0 differs from 0.
	files := fmt.Sprintf("(SELECT r::VARCHAR FROM (SELECT * EXCLUDE (received_on) FROM read_parquet('%s/**/*.parquet', hive_partitioning = true)) r)", dir)
	if err := db.QueryRow("SELECT count(*) FROM " + files).Scan(&n); err != nil {
		t.Fatal(err)
	}
	rows := fmt.Sprintf("(SELECT r::VARCHAR FROM (SELECT * FROM %s WHERE rowid < %d) r)", table, n)
	for what, query := range map[string]string{"missing": rows + " EXCEPT ALL " + files, "of another moment": files + " EXCEPT ALL " + rows} {
		var wrong int
		if err := db.QueryRow("SELECT count(*) FROM (" + query + ")").Scan(&wrong); err != nil {
			t.Fatal(err)
		} else if wrong > 0 {
			t.Errorf("%d of %d rows of %s are %s", wrong, n, table, what)
		}
	}
	return n
}

// parquet lists the Parquet files in a folder, if there is one.
func parquet(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if filepath.Ext(path) == ".parquet" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
