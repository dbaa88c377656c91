// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// TestCommitThatIsNotOnDisk opens what a process leaves that is killed between
// writing a commit and flushing it. Events that the next process finds there are
// said to have landed, and so must outlive a power cut.
func TestCommitThatIsNotOnDisk(t *testing.T) {
	d := newDisk(t)
	if d == nil {
		return
	}
	w, path := openFile(t)
	rows := events(20)
	insert(t, w, warehouse.Batch{Events: rows}, warehouse.Result{Landed: 20})
	content, err := os.ReadFile(path)
	log, logErr := os.ReadFile(path + ".wal")
	if err := errors.Join(err, logErr, w.Close()); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(d.folder, "warehouse.duckdb")
	if err := errors.Join(os.WriteFile(path, content, 0o600), run("sync", "--file-system", path), os.WriteFile(path+".wal", log, 0o600)); err != nil {
		t.Fatal(err)
	}

	w, err = warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	insert(t, w, warehouse.Batch{Events: rows}, warehouse.Result{Redelivered: 20})
	if err := d.cut(); err != nil {
		t.Fatal(err)
	}
	fails(t, w, warehouse.Batch{Events: events(30)}, "") // and lets go of the file
	if err := errors.Join(d.detach(), d.attach("rw")); err != nil {
		t.Fatal(err)
	}
	works(t, w, rows, 0)
}
