// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"modernc.org/sqlite"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/queue"
)

// fate kills the process before or after its n-th statement or commit. Each of
// these counts for two, as it may be killed before and after it.
type fate struct {
	mu   sync.Mutex
	n    int
	last int
}

func (f *fate) before(string, []driver.NamedValue) { f.step() }
func (f *fate) after(string, int64)                { f.step() }

func (f *fate) step() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	if f.last == f.n {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}

// victim records, exports and prunes events, and prints what it was told is on
// disk, until it is killed.
func victim(path string) error {
	n, err := strconv.Atoi(os.Getenv("QUEUE_TEST_KILL"))
	if err != nil {
		return err
	}
	f := &fate{n: n}
	db := sql.OpenDB(tapConnector{&sqlite.Driver{}, sqliteDSN(path), f})
	db.SetMaxOpenConns(1) // or the order of statements would be another every time
	ctx := context.Background()
	c := &clock{t: start}
	q, err := queue.Open(ctx, db, queue.Options{Now: c.now, Retention: time.Hour})
	if err != nil {
		return err
	}
	add := func(es ...*v1.Event) error {
		if err := q.Add(ctx, es...); err != nil {
			return err
		}
		fmt.Println("added", strings.Join(eventIDs(es), " "))
		return nil
	}
	if err := add(events(0, 3)...); err != nil {
		return err
	}
	if err := add(events(3, 2)...); err != nil {
		return err
	}
	// The last one is spoiled, so that Claim makes a dead letter of it.
	if _, err := db.Exec("UPDATE telemetry_events_export_queue SET payload_pb = zeroblob(octet_length(payload_pb)) WHERE timestamp = (SELECT max(timestamp) FROM telemetry_events_export_queue)"); err != nil {
		return err
	}
	l, err := q.Lease(ctx, "victim", time.Minute)
	if err != nil {
		return err
	}
	rows, err := l.Claim(ctx, 10, 1<<20)
	if err != nil {
		return err
	}
	if len(rows) != 4 {
		return fmt.Errorf("claimed %d events", len(rows))
	}
	if err := l.Done(ctx, ids(rows[:2]), []queue.Dead{{ID: rows[2].ID, Reason: "test"}}); err != nil {
		return err
	}
	fmt.Println("exported", strings.Join(ids(rows[:2]), " "))
	if _, err := q.Replay(ctx, rows[2].ID); err != nil {
		return err
	}
	c.advance(2 * time.Hour)
	fmt.Println("pruning")
	if _, err := q.Prune(ctx); err != nil {
		return err
	}
	if err := add(event(5)); err != nil {
		return err
	}
	if _, err := q.Stats(ctx); err != nil {
		return err
	}
	fmt.Println("steps", f.last)
	return nil
}

// testimony is what a victim has printed.
type testimony struct {
	added, exported []string
	pruning         bool
	steps           int
}

func runVictim(t *testing.T, path string, kill int) (s testimony) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "QUEUE_TEST_VICTIM="+path, "QUEUE_TEST_KILL="+strconv.Itoa(kill))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.Exited()) {
		t.Fatalf("killed at %d: %v: %s", kill, err, stderr.String())
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		switch words[0] {
		case "added":
			s.added = append(s.added, words[1:]...)
		case "exported":
			s.exported = words[1:]
		case "pruning":
			s.pruning = true
		case "steps":
			s.steps, _ = strconv.Atoi(words[1])
		}
	}
	return s
}

// TestKilled kills a process before and after each of its statements and
// commits. What it was told is on disk is there, in one state each.
func TestKilled(t *testing.T) {
	t.Parallel()
	steps := runVictim(t, filepath.Join(t.TempDir(), "queue.db"), 0).steps
	if steps < 100 {
		t.Fatalf("the victim has only %d steps", steps)
	}
	for kill := range steps {
		path := filepath.Join(t.TempDir(), "queue.db")
		s := runVictim(t, path, kill+1)
		if s.steps != 0 {
			t.Fatalf("the victim survived step %d", kill+1)
		}
		b := &bed{TB: t, db: openSQLite(t, path), dialect: database.SQLite, clock: &clock{t: start.Add(3 * time.Hour)}}
		q := b.open(queue.Options{})
		b.stats(q)
		for _, id := range s.added {
			var pending, exported, dead int
			b.scan("SELECT count(*) FROM telemetry_events_export_queue WHERE exported_at IS NULL AND id = '"+id+"'", &pending)
			b.scan("SELECT count(*) FROM telemetry_events_export_queue WHERE exported_at IS NOT NULL AND id = '"+id+"'", &exported)
			b.scan("SELECT count(*) FROM telemetry_events_export_dead_letters WHERE id = '"+id+"'", &dead)
			if slices.Contains(s.exported, id) {
				if pending+dead > 0 || exported != 1 && !s.pruning {
					t.Errorf("killed at %d: exported event %s is pending %d, exported %d, dead %d times", kill+1, id, pending, exported, dead)
				}
			} else if pending+exported+dead != 1 {
				t.Errorf("killed at %d: event %s is pending %d, exported %d, dead %d times", kill+1, id, pending, exported, dead)
			}
		}
		// And it goes on.
		b.add(q, event(9))
		l := b.lease(q)
		for rows := b.claim(l, 10); len(rows) > 0; rows = b.claim(l, 10) {
			for _, r := range rows {
				if err := proto.Unmarshal(r.Event, &v1.Event{}); err != nil {
					t.Error(err)
				}
			}
			b.done(l, ids(rows))
		}
		if after := b.stats(q); after.Pending != 0 || after.Recorded < int64(len(s.added))+1 {
			t.Errorf("killed at %d: at the end %+v", kill+1, after)
		}
		b.db.Close()
	}
}
