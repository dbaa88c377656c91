// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/queue"
)

// smallDisk mounts a disk of 8 MiB and returns its folder. Without the right to
// do so it says so loudly, returns "", and fails the test if this is a run whose
// result counts (CI=true).
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		const consequence = "FULL DISKS ARE NOT TESTED HERE"
		fmt.Fprintf(os.Stderr, "\n*** %s: mount: %v. It takes root.\n\n", consequence, err)
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s, and CI=true demands them: %v", consequence, err)
		}
		t.Logf("%s: %v", consequence, err)
		return ""
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

// fillDisk writes a file until there is no room for a single byte more.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); errors.Is(err, unix.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskFull fills the disk that the queue is on. Whoever adds is told so at
// once. With room again the same queue goes on, and has all that it said.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	if dir == "" {
		return
	}
	b := &bed{TB: t, db: openSQLite(t, filepath.Join(dir, "queue.db")), dialect: database.SQLite, clock: &clock{t: start}}
	defer b.db.Close() // before the disk is unmounted
	q := b.open(queue.Options{AddTimeout: time.Minute})
	var added []*v1.Event
	refused := 0
	add := func(n int) {
		for range n {
			es := events(0, 10)
			if err := q.Add(t.Context(), es...); err != nil {
				refused++
			} else {
				added = append(added, es...)
			}
		}
	}
	for range 2 {
		refused = 0
		add(20)
		if refused > 0 {
			t.Fatalf("with room, %d calls failed", refused)
		}
		l := b.lease(q)
		rows := b.claim(l, 50)
		filler := filepath.Join(dir, "filler")
		fillDisk(t, filler)
		add(200)
		if refused == 0 {
			t.Fatal("with the disk full, no call failed")
		}
		if err := l.Done(t.Context(), ids(rows), nil); err == nil {
			t.Log("there was room for Done in the log")
		}
		b.stats(q)
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		b.done(l, ids(rows))
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	refused = 0
	add(20)
	if refused > 0 {
		t.Errorf("with room again, %d calls failed", refused)
	}
	b.stats(q)
	for _, e := range added {
		var n int
		b.scan("SELECT count(*) FROM telemetry_events_export_queue WHERE id = '"+e.GetId()+"'", &n)
		if n != 1 {
			t.Fatalf("event %s, which was added, is there %d times", e.GetId(), n)
		}
	}
}
