// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite"
)

const powerCuts = 10

// TestPowerCut cuts the power of the disk that the topics are on 10 times,
// under load. Whatever was acknowledged before must be there after ext4 and the
// gateway have recovered, without a person's help.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	if d == nil {
		return
	}
	l := newLoad(t, d.folder)
	for range powerCuts {
		l.round(t, func(_ *process, ended func()) {
			l.ledger.cut()
			if err := d.cut(); err != nil {
				t.Fatal(err)
			}
			// The gateway lives on for a while, without a disk: each sender is
			// told that its events failed, and stops.
			ended()
		})
		if err := d.detach(); err != nil {
			t.Fatal(err)
		}
		if err := d.attach(); err != nil {
			t.Fatal(err)
		}
	}
	f := l.finish(t)
	t.Logf("cut the power %d times: %s (%d acknowledgements arrived after a cut)", powerCuts, f, l.ledger.doubtful)
}

// TestPowerCutIsReal shows that the disk of TestPowerCut loses what was not
// flushed, so that a gateway that acknowledged too early would be found out:
// a publisher that differs in nothing but synchronous=OFF loses rows.
func TestPowerCutIsReal(t *testing.T) {
	d := newDisk(t)
	if d == nil {
		return
	}
	const rows = 1000
	lost := 0
	for i := range powerCuts {
		path := filepath.Join(d.folder, fmt.Sprintf("topic-%d.db", i))
		acknowledged := publishUnsynced(t, path, rows, d)
		if err := d.detach(); err != nil {
			t.Fatal(err)
		}
		if err := d.attach(); err != nil {
			t.Fatal(err)
		}
		lost += acknowledged - countRows(t, path)
	}
	t.Logf("cut the power %d times without synchronous writes: %d of %d acknowledged rows lost", powerCuts, lost, powerCuts*rows)
	if lost == 0 {
		t.Error("a publisher that does not wait for the disk lost nothing, so that a gateway that loses nothing proves nothing")
	}
}

// publishUnsynced commits rows one by one, as durably as synchronous=OFF makes
// them, then cuts the power. It returns how many it would have acknowledged. The
// file itself and its log are on the disk by then, so that all that can be lost
// is rows.
func publishUnsynced(t *testing.T, path string, rows int, d *disk) (acknowledged int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE messages (seq INTEGER PRIMARY KEY, data BLOB)"); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	for range rows {
		if _, err := db.Exec("INSERT INTO messages (data) VALUES (randomblob(200))"); err != nil {
			t.Fatal(err)
		}
		acknowledged++
	}
	if err := d.cut(); err != nil {
		t.Fatal(err)
	}
	return acknowledged
}

func countRows(t *testing.T, path string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=rw")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT count(*) FROM messages").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
