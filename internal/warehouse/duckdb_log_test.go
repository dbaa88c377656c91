// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestLastCommit cuts a log that DuckDB wrote anywhere: what is left of it ends
// with a commit, and no commit is cut that was whole.
func TestLastCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "warehouse.duckdb")
	w, err := Open(t.Context(), "duckdb://"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var commits []int64
	for i := range 3 {
		row := Row{KeyHash: [16]byte{byte(i)}, RecordedAt: time.Unix(1, 0), ReceivedAt: time.Unix(1, 0), LandedAt: time.Unix(1, 0), Payload: fmt.Appendf(nil, `{"a":%d}`, i)}
		if _, err := w.Insert(t.Context(), &Batch{Events: []Row{row}, Rejected: []Rejected{{RejectedID: [16]byte{byte(i)}}}}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path + ".wal")
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, info.Size())
	}
	log, err := os.ReadFile(path + ".wal")
	if err != nil {
		t.Fatal(err)
	}
	header := lastCommit(bytes.NewReader(log[:commits[0]-1]), commits[0]-1)
	if header <= 0 || header > 100 {
		t.Fatalf("the header ends at %d", header)
	}
	for size := range len(log) + 1 {
		want := int64(size) // not even a header
		if want >= header {
			want = header
		}
		for _, end := range commits {
			if int64(size) >= end {
				want = end
			}
		}
		if got := lastCommit(bytes.NewReader(log[:size]), int64(size)); got != want {
			t.Fatalf("of %d bytes the last commit ends at %d, want %d", size, got, want)
		}
	}
	strange := append([]byte{0}, log...)
	if got := lastCommit(bytes.NewReader(strange), int64(len(strange))); got != int64(len(strange)) {
		t.Errorf("a log of another format is cut to %d", got)
	}
}
