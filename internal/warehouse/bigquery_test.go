// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/warehouse/bigqueryfake"
)

const bigQueryTestURL = "bigquery://test-project/telemetry"

// startBigQuery starts a fake with our dataset and no tables.
func startBigQuery(t testing.TB) *bigqueryfake.Server {
	t.Helper()
	s := bigqueryfake.Start(t)
	s.CreateDataset(t, "test-project", "telemetry")
	return s
}

// openBigQueryTest opens a warehouse that does not wait between attempts, and
// notes in waits how long it would have.
func openBigQueryTest(t testing.TB, o Options) (w *bigQuery, waits *[]time.Duration) {
	t.Helper()
	opened, err := Open(t.Context(), bigQueryTestURL, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	w, waits = opened.(*bigQuery), new([]time.Duration)
	for _, s := range []*bigQueryStream{w.events, w.rejected} {
		s.wait = func(ctx context.Context, d time.Duration) error {
			*waits = append(*waits, d)
			return ctx.Err()
		}
	}
	return w, waits
}

// bigQueryBatch returns a batch of n small events.
func bigQueryBatch(n int) *Batch {
	b := new(Batch)
	at := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	for i := range n {
		r := Row{
			Identity: "instance/1", EventID: fmt.Sprintf("event-%d", i), ContentHash: int64(i), Source: "licensed_instance",
			SourceID: "1", LicenseID: "L", Feature: "codeSearch", Action: "executed", RecordedAt: at, ReceivedAt: at.Add(time.Second), LandedAt: at.Add(time.Minute),
			Payload: []byte(`{}`),
		}
		sum := sha256.Sum256([]byte(r.Identity + "\x00" + r.EventID))
		copy(r.KeyHash[:], sum[:])
		b.Events = append(b.Events, r)
	}
	return b
}

// answers returns a query's rows, each as one line.
func answers(t testing.TB, w Reader, sql string) []string {
	t.Helper()
	rows, err := w.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	var lines []string
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		lines = append(lines, strings.TrimSuffix(fmt.Sprintln(row...), "\n"))
	}
}

func wantAnswers(t testing.TB, w Reader, sql string, want ...string) {
	t.Helper()
	if got := answers(t, w, sql); !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", sql, got, want)
	}
}

func mustInsert(t testing.TB, w Warehouse, b *Batch) Result {
	t.Helper()
	r, err := w.Insert(t.Context(), b)
	if err != nil {
		t.Fatalf("insert: %v", err)
	}
	return r
}
