// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	landingKills  = 100
	landingShards = 4
)

// TestLandingKilled kills the pipeline 100 times under load, each time as soon as
// it has touched the files of the warehouse one time more: while it makes the
// file, recovers it, inserts, commits, and between the commit and the
// acknowledgement. Each event is there once in the end.
func TestLandingKilled(t *testing.T) {
	for shard := range landingShards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			s := streamIn(t)
			g := s.startGateway(t)
			folder := filepath.Dir(s.warehouse)
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			w := watch(t, folder)
			s.burst(t, g, 20)
			stop := s.run(t, g, 80*time.Millisecond)
			var when moments
			for i := range landingKills / landingShards {
				if i%5 == 0 {
					s.plant(t)
				}
				s.expireLeases(t)
				p := s.spawn(t, "-batch", []string{"100", "1000", "16384"}[i%3])
				w.after(1+(i*landingShards+shard)/3, p.kill)
				within(t, "the end of the pipeline", p.ended)
				when.note(t, s)
			}
			stop()
			s.expireLeases(t)
			h := s.finish(t, g)
			t.Logf("killed %d times, %s: %s", landingKills/landingShards, &when, h)
			if when.between == 0 {
				t.Error("it was never killed between a commit and its acknowledgement")
			}
		})
	}
}

// moments counts when pipelines were killed.
type moments struct {
	without int // before there was a warehouse that can be read
	between int // with more committed than acknowledged
	idle    int // with as much
	most    int // committed and not acknowledged at once
}

// note looks at what a pipeline that was killed has left.
func (m *moments) note(t testing.TB, s *stream) {
	t.Helper()
	db := openTopic(t, s.landing.topic)
	defer db.Close()
	var acknowledged int
	// There may be no subscription yet.
	if err := db.QueryRow("SELECT ifnull(max(position), 0) FROM subscriptions").Scan(&acknowledged); err != nil {
		t.Fatal(err)
	}
	committed, err := rowsOfMessages(t, s.warehouse)
	switch {
	case err != nil:
		m.without++
		if acknowledged > 0 {
			t.Errorf("%d messages are acknowledged, and there is no warehouse: %v", acknowledged, err)
		}
	case committed+s.redelivered+len(s.planted) < acknowledged: // dead letters may be on their way
		t.Errorf("%d messages are acknowledged, and %d have landed", acknowledged, committed)
	case committed > acknowledged:
		m.between++
		m.most = max(m.most, committed-acknowledged)
	default:
		m.idle++
	}
}

func (m *moments) String() string {
	return fmt.Sprintf("%d times before there was a warehouse, %d times between a commit and its acknowledgement (of up to %d events), %d times otherwise", m.without, m.between, m.most, m.idle)
}

// A watcher sees each change to the files of a folder: made, written, removed or
// renamed.
type watcher struct {
	changes chan struct{}
	goals   chan goal
}

type goal struct {
	changes int
	do      func()
}

func watch(t testing.TB, folder string) *watcher {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.InotifyAddWatch(fd, folder, unix.IN_CREATE|unix.IN_MODIFY|unix.IN_DELETE|unix.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	w := &watcher{changes: make(chan struct{}), goals: make(chan goal)}
	t.Cleanup(func() { f.Close() })
	go func() {
		defer close(w.changes)
		for buffer := make([]byte, 64<<10); ; {
			n, err := f.Read(buffer)
			if err != nil {
				return
			}
			for at := 0; at < n; {
				event := (*unix.InotifyEvent)(unsafe.Pointer(&buffer[at]))
				at += unix.SizeofInotifyEvent + int(event.Len)
				w.changes <- struct{}{}
			}
		}
	}()
	go func() {
		var next goal
		for {
			select {
			case next = <-w.goals:
			case _, ok := <-w.changes:
				if !ok {
					return
				}
				if next.changes--; next.changes == 0 {
					next.do()
				}
			}
		}
	}()
	return w
}

// after has something done at the nth change from now on.
func (w *watcher) after(n int, do func()) { w.goals <- goal{n, do} }

// rowsOfMessages counts the rows that the messages of the topic have become. It
// returns an error if there is no warehouse yet.
func rowsOfMessages(t testing.TB, path string) (n int, err error) {
	t.Helper()
	db, err := tryWarehouse(path, "read_only")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.QueryRow(`SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM events_duplicates)
		+ (SELECT count(*) FROM events_rejected WHERE stage = 'pipeline')`).Scan(&n)
	if err != nil && !strings.Contains(err.Error(), "does not exist") {
		t.Fatal(err)
	}
	return n, err
}
