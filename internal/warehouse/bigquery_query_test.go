// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBigQueryQuery(t *testing.T) {
	startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	b := bigQueryBatch(2500)
	b.Events[0].PrivateMetadata = []byte(`{"n":9007199254740993}`)
	mustInsert(t, w, b)
	for _, sql := range []string{"DELETE FROM events_raw WHERE TRUE", "DROP TABLE events_raw", "CREATE TABLE x (y INT64)", "INSERT INTO events_raw (event_id) VALUES ('x')"} {
		if _, err := w.Query(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "SELECT") {
			t.Errorf("%s: got %v, want that it is refused", sql, err)
		}
	}
	if _, err := w.Query(t.Context(), "SELECT nothing_there FROM events"); err == nil || !strings.Contains(err.Error(), "nothing_there") {
		t.Errorf("got %v, want what is wrong with the query", err)
	}
	if n := len(answers(t, w, "SELECT event_id FROM events")); n != 2500 {
		t.Errorf("%d rows, of several pages, want 2500", n)
	}

	rows, err := w.Query(t.Context(), `SELECT event_id, user_id, recorded_at, private_metadata, TRUE AS yes, 0.5e0 AS half, CAST('x' AS BYTES) AS raw, metadata
FROM events WHERE event_id = 'event-0'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if diff := cmp.Diff([]string{"event_id", "user_id", "recorded_at", "private_metadata", "yes", "half", "raw", "metadata"}, rows.Columns()); diff != "" {
		t.Error(diff)
	}
	row, err := rows.Next()
	if err != nil {
		t.Fatal(err)
	}
	want := []any{"event-0", nil, time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC), json.RawMessage(`{"n":9007199254740993}`), true, 0.5, []byte("x"), []any{}}
	if diff := cmp.Diff(want, row); diff != "" {
		t.Error(diff)
	}
	if _, err := rows.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v at the end", err)
	}
	if got := answers(t, w, "SELECT 1 AS one FROM events WHERE FALSE"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// TestBigQueryQueriesAtOnce shows that there are two, and that waiting for a
// turn, and the query, end with the context.
func TestBigQueryQueriesAtOnce(t *testing.T) {
	startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	mustInsert(t, w, bigQueryBatch(3000))
	var open []Rows
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		rows, err := w.Query(ctx, "SELECT event_id FROM events")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, rows)
	}
	waiting, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.Query(waiting, "SELECT 1 AS one")
		done <- err
	}()
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a third query: got %v", err)
	}
	mustInsert(t, w, bigQueryBatch(10)) // goes on meanwhile
	cancel()
	var err error
	for err == nil {
		_, err = open[0].Next()
	}
	if errors.Is(err, io.EOF) {
		t.Error("all rows came although the context had ended")
	}
	for _, r := range open {
		r.Close()
		r.Close()
	}
	wantAnswers(t, w, "SELECT COUNT(*) FROM events", "3000")
}

func TestBigQueryClosed(t *testing.T) {
	startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, insert := w.Insert(t.Context(), bigQueryBatch(1))
	_, query := w.Query(t.Context(), "SELECT 1")
	for _, err := range []error{insert, query, w.Ping(t.Context())} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
}

func TestBigQueryReader(t *testing.T) {
	s := startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	mustInsert(t, w, bigQueryBatch(3))
	s.Deny("bigquery.tables.create", "bigquery.tables.updateData", "bigquery.tables.update")
	r, err := OpenReader(t.Context(), bigQueryTestURL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wantAnswers(t, r, "SELECT COUNT(*) FROM events", "3")
	s.Deny("bigquery.jobs.create")
	if _, err := r.Query(t.Context(), "SELECT 1"); err == nil || !strings.Contains(err.Error(), "roles/bigquery.jobUser") {
		t.Errorf("got %v, want what to grant", err)
	}
}
