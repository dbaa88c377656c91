// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse_test

import (
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// openFile opens a warehouse in a new folder.
func openFile(t *testing.T) (w warehouse.Warehouse, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "new", "it's 100% (#1).duckdb")
	w, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w, path
}

func fileURL(path string) string { return "duckdb://" + strings.ReplaceAll(path, "%", "%25") }

// runSQL runs statements on a DuckDB file as any other program would.
func runSQL(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range append([]string{"ATTACH '" + strings.ReplaceAll(path, "'", "''") + "' AS f", "USE f"}, statements...) {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestQueryTypes(t *testing.T) {
	w, _ := openFile(t)
	for _, q := range []struct {
		sql  string
		want any
	}{
		{"SELECT NULL", nil},
		{"SELECT true", true},
		{"SELECT 1::TINYINT", int64(1)},
		{"SELECT 9223372036854775807", int64(9223372036854775807)},
		{"SELECT sum(x) FROM (VALUES (1), (2)) AS v(x)", int64(3)},
		{"SELECT 18446744073709551615::UBIGINT", "18446744073709551615"},
		{"SELECT 170141183460469231731687303715884105727::HUGEINT", "170141183460469231731687303715884105727"},
		{"SELECT 1.5", 1.5},
		{"SELECT 12345678901234567890.12::DECIMAL(38, 2)", "12345678901234567890.12"},
		{"SELECT 0.1::DOUBLE", 0.1},
		{"SELECT 'a' || chr(0)", "a\x00"},
		{`SELECT '\x00\xFF'::BLOB`, []byte{0, 0xff}},
		{"SELECT DATE '2026-03-01'", "2026-03-01"},
		{"SELECT TIMESTAMP '2026-03-01 01:02:03.123456'", time.Date(2026, 3, 1, 1, 2, 3, 123456000, time.UTC)},
		{"SELECT TIMESTAMPTZ '2026-03-01 01:02:03+01'", time.Date(2026, 3, 1, 0, 2, 3, 0, time.UTC)},
		{"SELECT INTERVAL 2 DAY", "2 days"},
		{"SELECT uuid '00000000-0000-0000-0000-00000000000a'", "00000000-0000-0000-0000-00000000000a"},
		{`SELECT '{"b":-0.0,"a":12345678901234567890}'::JSON`, json.RawMessage(`{"b":-0.0,"a":12345678901234567890}`)},
		{"SELECT [1, NULL]", []any{int64(1), nil}},
		{"SELECT {'a': 1, 'b': ['x']}", map[string]any{"a": int64(1), "b": []any{"x"}}},
		{"SELECT map([1], [true])", map[string]any{"1": true}},
		{"FROM (VALUES (7)) -- no more", int64(7)},
		{"VALUES (1);", int64(1)},
		{"SELECT a FROM (SELECT 1 AS a, 2 AS a)", int64(1)},
	} {
		if diff := cmp.Diff([][]any{{q.want}}, answer(t, w, q.sql)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", q.sql, diff)
		}
	}
	for _, sql := range []string{"DESCRIBE events", "SHOW TABLES", "SUMMARIZE events", "EXPLAIN SELECT * FROM events", "EXPLAIN ANALYZE SELECT * FROM events", "FROM events_duplicates UNION ALL FROM events_duplicates"} {
		rows, err := w.Query(t.Context(), sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		if len(rows.Columns()) == 0 {
			t.Errorf("%s: no columns", sql)
		}
		rows.Close()
	}
}

// TestQueryKeepsOrder reads more rows than are read at a time.
func TestQueryKeepsOrder(t *testing.T) {
	w, _ := openFile(t)
	got := answer(t, w, "SELECT i FROM range(100000) AS r(i) ORDER BY hash(i) % 97, i DESC LIMIT 5000")
	want := answer(t, w, "SELECT list(i ORDER BY hash(i) % 97, i DESC)[:5000] FROM range(100000) AS r(i)")[0][0].([]any)
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i][0] != want[i] {
			t.Fatalf("row %d is %v, want %v", i, got[i][0], want[i])
		}
	}
}

// TestQueryReachesNothingElse tries what a query must not get at, in the process
// that inserts and in one that reads.
func TestQueryReachesNothingElse(t *testing.T) {
	w, path := openFile(t)
	insert(t, w, warehouse.Batch{Events: events(2)}, warehouse.Result{Landed: 2})
	secret := filepath.Join(t.TempDir(), "secret.csv")
	if err := os.WriteFile(secret, []byte("a\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := strings.ReplaceAll(path, "'", "''")
	refused := []string{
		"SELECT * FROM '" + secret + "'", "SELECT * FROM read_csv('" + secret + "')", "SELECT * FROM read_text('" + secret + "')", "SELECT * FROM glob('" + filepath.Dir(secret) + "/*')",
		"COPY events TO '" + secret + ".parquet'", "COPY (SELECT 1) TO '/dev/stdout'", "EXPORT DATABASE '" + secret + ".d'", "ATTACH '" + secret + ".db' AS x", "ATTACH ':memory:' AS x", "INSTALL httpfs", "LOAD httpfs",
		"SET threads = 7", "SET enable_external_access = true", "SET lock_configuration = false", "RESET memory_limit", "PRAGMA enable_profiling", "CALL force_checkpoint()", "CHECKPOINT", "USE memory", "DETACH telemetry",
		"BEGIN", "COMMIT; DELETE FROM events", "SELECT 1; COMMIT; DELETE FROM events", "EXPLAIN ANALYZE DELETE FROM events", "SELECT * FROM query('DELETE FROM events')",
		"CREATE TEMP TABLE x AS SELECT 1", "CREATE MACRO f() AS 1", "WITH x AS (SELECT 1) DELETE FROM events", "INSERT INTO events FROM events RETURNING *", "SELECT ?",
		// The file that is open, and its folder for spilling, may be opened by DuckDB; a
		// function that closes it again would end DuckDB's lock.
		"SELECT size FROM read_blob('" + file + "')", "EXPLAIN SELECT * FROM read_blob('" + file + "')", "EXPLAIN ANALYZE SELECT * FROM read_blob('" + file + "')", "EXPLAIN (FORMAT json) SELECT * FROM read_blob('" + file + "')",
		"WITH x AS (SELECT 1) SELECT (SELECT count(*) FROM x, LATERAL (FROM read_text('" + file + ".wal')))", "DESCRIBE FROM Read_Blob('" + file + "')", "SUMMARIZE FROM read_csv('" + file + "')", "FROM query_table('" + file + "')", "FROM query('FROM read_blob(''" + file + "'')')",
		"SELECT * FROM parquet_metadata('" + file + "')", "SELECT * FROM glob('" + file + ".tmp/*')", "FROM '" + file + ".csv'", "FROM data.csv", "DESCRIBE 'data.csv'", "FROM histogram('" + file + "', a)",
		// These do something, and some of it to whoever asks or inserts next.
		"SELECT * FROM enable_logging(storage = 'file', storage_path = '" + file + ".log')", "SELECT * FROM main.enable_logging()", "SELECT * FROM disable_logging()", "SELECT * FROM truncate_duckdb_logs()", "SELECT * FROM enable_profiling()", "PRAGMA disable_profiling",
		"SELECT * FROM checkpoint('telemetry')", "SELECT * FROM force_checkpoint()", "SELECT * FROM enable_peg_parser()", "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 42'))", "SELECT * FROM sql_auto_complete('SEL')",
		"SELECT 1; SELECT 2", ";", "SELECT 1\x00",
		// DuckDB would bind these for hours, and could not be stopped.
		"SELECT " + strings.Repeat("list_transform([1], lambda x: ", 40) + "1" + strings.Repeat(")", 40), "SELECT " + strings.Repeat("[", 900) + strings.Repeat("]", 900), "SELECT " + strings.Repeat("(SELECT ", 900) + "1" + strings.Repeat(")", 900),
		"SELECT NULL::INT" + strings.Repeat("[]", 100_000), "SELECT " + strings.Repeat("(", 100_000) + "1", "SELECT " + strings.Repeat("1+", 100_000) + "1", "SELECT " + strings.Repeat("NOT ", 100_000) + "true",
	}
	try := func(r warehouse.Reader) {
		t.Helper()
		for _, sql := range refused {
			rows, err := r.Query(t.Context(), sql)
			if err == nil {
				rows.Close()
				t.Errorf("%.200s: no error", sql)
			}
		}
		if n := number(t, r, "SELECT count(*) FROM events"); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
	}
	try(w)
	insert(t, w, warehouse.Batch{Events: events(2)}, warehouse.Result{Redelivered: 2})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := warehouse.OpenReader(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	try(r)
}

// TestQueryWhileInserting keeps two answers open while rows land.
func TestQueryWhileInserting(t *testing.T) {
	w, _ := openFile(t)
	rows := events(2000)
	insert(t, w, warehouse.Batch{Events: rows[:1000]}, warehouse.Result{Landed: 1000})
	one, err := w.Query(t.Context(), "SELECT event_id FROM events")
	if err != nil {
		t.Fatal(err)
	}
	two, err := w.Query(t.Context(), "SELECT count(*) FROM events")
	if err != nil {
		t.Fatal(err)
	}
	insert(t, w, warehouse.Batch{Events: rows}, warehouse.Result{Landed: 1000, Redelivered: 1000})
	// A third one has to wait, and does so no longer than its context.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Query(ctx, "SELECT 1"); !errors.Is(err, context.Canceled) {
		t.Errorf("third query: %v, want it canceled", err)
	}
	n := 0
	for ; ; n++ {
		if _, err := one.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n != 1000 {
		t.Errorf("%d rows, want the 1000 that had landed", n)
	}
	for _, rows := range []warehouse.Rows{one, two} {
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := number(t, w, "SELECT count(*) FROM events"); n != 2000 {
		t.Errorf("%d rows, want 2000", n)
	}
}

// TestQueryEnds cancels a query that would run for hours, and closes the
// warehouse under one that is read.
func TestQueryEnds(t *testing.T) {
	w, _ := openFile(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := w.Query(ctx, "SELECT count(*) FROM range(10000000000) AS a(x), range(10000000000) AS b(y) WHERE x * y % 7 = 3"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want it canceled", err)
	}
	rows, err := w.Query(t.Context(), "SELECT * FROM range(100000)")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for range 100_001 {
		if _, err = rows.Next(); err != nil {
			break
		}
	}
	if !errors.Is(err, warehouse.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	if err := rows.Close(); err != nil {
		t.Error(err)
	}
}

func TestExport(t *testing.T) {
	w, path := openFile(t)
	rows := events(3)
	rows[2].ReceivedAt = rows[2].ReceivedAt.AddDate(0, 0, 1)
	insert(t, w, warehouse.Batch{Events: rows, Rejected: []warehouse.Rejected{{RejectedID: [16]byte{1}, Reason: "payload_invalid"}}}, warehouse.Result{Landed: 3, Rejected: 1})
	export := func(r warehouse.Reader, dir string) {
		t.Helper()
		if err := r.(warehouse.Exporter).Export(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		var files []string
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				name, _ := filepath.Rel(dir, path)
				files = append(files, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"events/received_on=2026-03-01/data_0.parquet", "events/received_on=2026-03-02/data_0.parquet", "events_rejected/received_on=__HIVE_DEFAULT_PARTITION__/data_0.parquet"}
		if diff := cmp.Diff(want, files); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		db, err := sql.Open("duckdb", "")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var n int
		var ids string
		if err := db.QueryRow("SELECT count(DISTINCT received_on), string_agg(event_id, ' ' ORDER BY event_id) FROM read_parquet('"+dir+"/events/*/*.parquet', hive_partitioning = true)").Scan(&n, &ids); err != nil {
			t.Fatal(err)
		}
		if n != 2 || ids != "event-000000 event-000001 event-000002" {
			t.Errorf("%d days with %s, want 2 with all events", n, ids)
		}
		if err := r.(warehouse.Exporter).Export(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("export to the same folder: %v, want it refused", err)
		}
	}
	export(w, filepath.Join(t.TempDir(), "a", "b"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s.tmp is left: %v", path, err)
	}
	r, err := warehouse.OpenReader(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	export(r, t.TempDir())
}

func TestExportOfNothing(t *testing.T) {
	w, _ := openFile(t)
	if err := w.(warehouse.Exporter).Export(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
}

// TestOlderFile opens a file as an earlier version would have made it, without
// some columns, a table and views.
func TestOlderFile(t *testing.T) {
	w, path := openFile(t)
	old, rows := events(2), events(4)
	insert(t, w, warehouse.Batch{Events: old}, warehouse.Result{Landed: 2})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	runSQL(t, path, "DROP VIEW late_events", "DROP VIEW daily_active_users", "DROP TABLE events_duplicates",
		"ALTER TABLE events DROP COLUMN replay_of", "ALTER TABLE events DROP COLUMN feature_flags", "ALTER TABLE events_rejected DROP COLUMN field", "UPDATE warehouse SET version = 0")
	w, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range rows {
		rows[i].ReplayOf, rows[i].FeatureFlags = "00ff", []warehouse.Flag{{Name: "a", Value: "true"}}
		rows[i].ReceivedAt = rows[i].ReceivedAt.Add(time.Second)
	}
	insert(t, w, warehouse.Batch{Events: rows, Rejected: []warehouse.Rejected{{RejectedID: [16]byte{1}, Field: "action"}}}, warehouse.Result{Landed: 2, Duplicates: 2, Rejected: 1})
	want := [][]any{{nil, nil}, {nil, nil}, {"00ff", map[string]any{"a": "true"}}, {"00ff", map[string]any{"a": "true"}}}
	if diff := cmp.Diff(want, answer(t, w, "SELECT replay_of, feature_flags FROM events ORDER BY event_id")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n := number(t, w, "SELECT CAST(sum(events) AS BIGINT) FROM late_events"); n != 4 {
		t.Errorf("late_events counts %d events, want 4", n)
	}
	if n := number(t, w, "SELECT version FROM warehouse"); n != 1 {
		t.Errorf("version %d, want 1", n)
	}
}

// TestNewerFile opens a file that a later version has added to.
func TestNewerFile(t *testing.T) {
	w, path := openFile(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	runSQL(t, path, "ALTER TABLE events ADD COLUMN mood VARCHAR", "CREATE TABLE events_more (a INTEGER)", "UPDATE warehouse SET version = 99")
	w, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	insert(t, w, warehouse.Batch{Events: events(2)}, warehouse.Result{Landed: 2})
	if n := number(t, w, "SELECT count(*) FROM events WHERE mood IS NULL"); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	if n := number(t, w, "SELECT version FROM warehouse"); n != 99 {
		t.Errorf("version %d, want it left at 99", n)
	}
}

// TestFirstRelease opens a file that the first release made, of events(3). It is
// never to be made anew.
func TestFirstRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "warehouse.duckdb")
	packed, err := os.Open("testdata/v1.duckdb.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	insert(t, w, warehouse.Batch{Events: events(5)}, warehouse.Result{Landed: 2, Redelivered: 3})
	for i, row := range answer(t, w, "SELECT event_id, payload FROM events ORDER BY event_id") {
		if row[0] != event(i).EventID || string(row[1].(json.RawMessage)) != string(event(i).Payload) {
			t.Errorf("row %d: %s, %s", i, row[0], row[1])
		}
	}
}

// TestForeignFile is given files that are no warehouse. They stay as they are.
func TestForeignFile(t *testing.T) {
	dir := t.TempDir()
	empty, text, other, own := filepath.Join(dir, "empty"), filepath.Join(dir, "text"), filepath.Join(dir, "other"), filepath.Join(dir, "own")
	for path, data := range map[string]string{empty: "", text: strings.Repeat("not a database ", 1000)} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runSQL(t, other, "CREATE TABLE customers (a INTEGER)", "INSERT INTO customers VALUES (1)")
	runSQL(t, own, "CREATE TABLE warehouse (format VARCHAR, version INTEGER)", "INSERT INTO warehouse VALUES ('furniture', 1)")
	for path, want := range map[string]string{empty: "empty", text: "no DuckDB file", other: "another application", own: "another application", dir: "regular file"} {
		before, _ := os.ReadFile(path)
		_, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", path, err, want)
		}
		if after, _ := os.ReadFile(path); string(before) != string(after) {
			t.Errorf("%s has changed", path)
		}
		if _, err := os.Stat(path + ".wal"); err == nil {
			t.Errorf("%s.wal was made", path)
		}
	}
}

func TestPermissions(t *testing.T) {
	w, path := openFile(t)
	insert(t, w, warehouse.Batch{Events: events(2)}, warehouse.Result{Landed: 2})
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700 | fs.ModeDir, path + ".tmp": 0o700 | fs.ModeDir} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("%v are left, want the file alone", left)
	}
}

func TestCheckDuckDB(t *testing.T) {
	for url, want := range map[string]string{
		"duckdb://": "name a file", "duckdb:x": "duckdb://relative", "duckdb://a?mem=1": "unknown parameter", "duckdb://a?memory_limit=lots": "want a size", "duckdb://a?memory_limit=": "want a size",
		"duckdb:///dev/null/x/y.duckdb": "/dev/null is not a folder", "duckdb://a?threads=0": "want a number", "duckdb://a?threads=1&threads=2": "2 times", "duckdb://a%3Fb": "cannot keep", "duckdb://a%00": "NUL", "duckdb://%zz": "invalid URL escape", "sqlite://x": "unknown kind", "": "unknown kind",
	} {
		if err := warehouse.Check(url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", url, err, want)
		}
	}
	for _, url := range []string{"duckdb://a/b.duckdb", "duckdb:///tmp/a%25b?memory_limit=1GB&threads=4"} {
		if err := warehouse.Check(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	if path, ok := warehouse.Path("duckdb:///a%25b?threads=4"); path != "/a%b" || !ok {
		t.Errorf("%q, %v", path, ok)
	}
}
