// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// TestBatchLargerThanMemory inserts what DuckDB cannot hold at once. It would
// never land, and nothing after it.
func TestBatchLargerThanMemory(t *testing.T) {
	url := fileURL(filepath.Join(t.TempDir(), "warehouse.duckdb")) + "?memory_limit=100MB"
	w, err := warehouse.Open(t.Context(), url, warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	random := rand.NewChaCha8([32]byte{})
	rows := events(600)
	for i := range rows {
		text := make([]byte, 25_000)
		random.Read(text)
		rows[i].PrivateMetadata = fmt.Appendf(nil, `{"k":"%s"}`, hex.EncodeToString(text))
		rows[i].Payload = bytes.Clone(rows[i].PrivateMetadata)
	}
	conflict := rows[3]
	conflict.ContentHash++
	rows = append(rows, conflict)
	insert(t, w, warehouse.Batch{Events: rows}, warehouse.Result{Landed: 600, Conflicts: []int{600}})
	works(t, w, rows[:600], 0)
}

// DuckDB holds 2,048 values of a column in memory when it brings its file in
// order. Where large events make that more than its limit, landing goes on all
// the same, after an error.
func TestEventsLargerThanMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "warehouse.duckdb")
	w, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	random := rand.NewChaCha8([32]byte{})
	const batches, each = 6, 160
	all := events(batches * each)
	failures := 0
	for rows := range slices.Chunk(all, each) {
		for i := range rows {
			text := make([]byte, 50_000)
			random.Read(text)
			rows[i].PrivateMetadata = fmt.Appendf(nil, `{"k":"%s"}`, hex.EncodeToString(text[:25_000]))
			rows[i].Payload = fmt.Appendf(nil, `{"k":"%s"}`, hex.EncodeToString(text))
		}
		for {
			_, err := w.Insert(t.Context(), &warehouse.Batch{Events: rows})
			if err == nil {
				break
			}
			if failures++; failures > 6 { // from 128 MB on, that is all there is
				t.Fatal(err)
			}
		}
	}
	if failures == 0 {
		t.Error("nothing was too large, which shows nothing")
	}
	works(t, w, all, 0)
}
