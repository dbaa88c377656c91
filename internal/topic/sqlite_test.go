// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sqliteTestTopic(t *testing.T, path string, o sqliteOptions) *sqliteTopic {
	t.Helper()
	topic, err := newSQLiteTopic(t.Context(), path, o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { topic.Close() })
	return topic
}

// rawSQLite is another connection to the file, as another process has.
func rawSQLite(t *testing.T, path string) *sqliteFile {
	t.Helper()
	f, err := openSQLiteFile(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func mustExec(t *testing.T, f *sqliteFile, query string) {
	t.Helper()
	if err := whileBusy(t.Context(), func() error { return f.exec(query) }); err != nil {
		t.Fatal(err)
	}
}

func mustStats(t *testing.T, topic *sqliteTopic) Stats {
	t.Helper()
	s, err := topic.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Calls that come while a transaction cannot begin become one.
func TestSQLiteGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "topic.db")
		topic := sqliteTestTopic(t, path, sqliteOptions{})
		other := rawSQLite(t, path)
		mustExec(t, other, "BEGIN IMMEDIATE")
		var wg sync.WaitGroup
		for n := range 32 {
			wg.Go(func() { mustPublish(t, topic, numbered(n*10, n*10+10)...) })
		}
		synctest.Wait()
		mustExec(t, other, "ROLLBACK")
		wg.Wait()
		topic.Close()
		if topic.commits != 1 {
			t.Errorf("32 calls took %d transactions, want 1", topic.commits)
		}
		if s := mustStats(t, topic); s.Messages != 320 {
			t.Errorf("%d messages are stored, want 320", s.Messages)
		}
	})
}

// A transaction is bounded, but a call is never split.
func TestSQLiteTransactionIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "topic.db")
		topic := sqliteTestTopic(t, path, sqliteOptions{})
		other := rawSQLite(t, path)
		mustExec(t, other, "BEGIN IMMEDIATE")
		var wg sync.WaitGroup
		for _, size := range []int{1000, 1000, commitMessages + 1, 1000} {
			wg.Go(func() { mustPublish(t, topic, numbered(0, size)...) })
			synctest.Wait()
		}
		mustExec(t, other, "ROLLBACK")
		wg.Wait()
		topic.Close()
		if topic.commits != 3 {
			t.Errorf("%d transactions, want 3: two calls, a large one, one call", topic.commits)
		}
	})
}

// While another process has the lock, a call ends with its context, and what
// nobody waits for any more is not published.
func TestSQLitePublishWhileLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "topic.db")
		topic := sqliteTestTopic(t, path, sqliteOptions{})
		other := rawSQLite(t, path)
		mustExec(t, other, "BEGIN IMMEDIATE")

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		ms := numbered(0, 2)
		if errs := topic.Publish(ctx, ms); len(errs) != 2 || !errors.Is(errs[1], context.DeadlineExceeded) {
			t.Errorf("Publish = %v, want DeadlineExceeded for each message", errs)
		}
		scribble(ms)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := topic.Ping(ctx); err == nil {
			t.Error("Ping = nil, though nothing can be published")
		}
		var wg sync.WaitGroup
		wg.Go(func() { mustPublish(t, topic, numbered(2, 3)...) })
		time.Sleep(5 * time.Second) // of the bubble: waiting does not make it fail
		mustExec(t, other, "ROLLBACK")
		wg.Wait()
		if err := topic.Ping(t.Context()); err != nil {
			t.Errorf("Ping = %v", err)
		}
		peek := mustSubscribe(t, "sqlite://"+path+"?peek=start")
		if diff := cmp.Diff([]string{"2"}, keys(receive(t, peek, 1))); diff != "" {
			t.Errorf("stored differs:\n%s", diff)
		}
	})
}

func TestSQLiteKeepsAnyBytes(t *testing.T) {
	at := "sqlite://" + filepath.Join(t.TempDir(), "topic.db")
	want := []Message{
		{Key: "a\x00b\xff", Data: []byte{0}, Attributes: []Attribute{{"\x00", "\xff"}, {"", ""}, {"twice", "1"}, {"twice", "2"}}},
		{Data: bytes.Repeat([]byte{0xff}, 40<<20)}, // more than a batch or a transaction holds
		{Key: "last"},
	}
	mustPublish(t, mustOpen(t, at), want...)
	got := receive(t, mustSubscribe(t, at), len(want))
	if !slices.EqualFunc(want, got, func(a, b Message) bool {
		return a.Key == b.Key && bytes.Equal(a.Data, b.Data) && slices.Equal(a.Attributes, b.Attributes)
	}) {
		t.Errorf("received differs, with the keys %q", keys(got))
	}
}

func TestSQLiteRejectsHugeMessage(t *testing.T) {
	topic := sqliteTestTopic(t, filepath.Join(t.TempDir(), "topic.db"), sqliteOptions{})
	// Never touched, so that it takes no memory.
	errs := topic.Publish(t.Context(), []Message{{Key: "1"}, {Data: make([]byte, sqliteMessageBytes+1)}, {Key: "2"}})
	if len(errs) != 3 || errs[0] != nil || !errors.Is(errs[1], ErrRejected) || errs[2] != nil {
		t.Fatalf("Publish = %v, want the second of three rejected", errs)
	}
	if s := mustStats(t, topic); s.Messages != 2 {
		t.Errorf("%d messages are stored, want 2", s.Messages)
	}
}

// A full disk fails what is published, loses nothing that was acknowledged, and
// is over when there is room again.
func TestSQLiteDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topic.db")
	topic := sqliteTestTopic(t, path, sqliteOptions{pragmas: "&_pragma=max_page_count(300)"})
	acknowledged := 0
	for {
		m := Message{Key: "m", Data: make([]byte, 10_000)}
		errs := topic.Publish(t.Context(), []Message{m})
		if errs == nil {
			acknowledged++
			continue
		}
		if !strings.Contains(errs[0].Error(), "disk is full") {
			t.Fatalf("Publish = %v, want it to say that the disk is full", errs[0])
		}
		break
	}
	if s := mustStats(t, topic); s.Messages != int64(acknowledged) || acknowledged == 0 {
		t.Errorf("%d messages are stored, %d were acknowledged", s.Messages, acknowledged)
	}
	mustExec(t, rawSQLite(t, path), "DELETE FROM messages WHERE seq <= 50")
	if err := topic.Ping(t.Context()); err != nil {
		t.Errorf("Ping = %v, want nil: there is room", err)
	}
	mustPublish(t, topic, Message{Key: "m", Data: make([]byte, 10_000)})
}

// The operator's limit is what makes room on a full disk.
func TestSQLiteLimitFreesFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := sqliteTestTopic(t, filepath.Join(t.TempDir(), "topic.db"), sqliteOptions{
			maxAge: time.Hour, pragmas: "&_pragma=max_page_count(300)",
		})
		m := Message{Key: "m", Data: make([]byte, 10_000)}
		published := 0
		for topic.Publish(t.Context(), []Message{m}) == nil {
			published++
		}
		time.Sleep(time.Hour + 2*cleanEvery)
		synctest.Wait()
		if s := mustStats(t, topic); s.Messages != 0 || s.ExpiredUnread != int64(published) {
			t.Errorf("stats %+v, want all %d expired", s, published)
		}
		mustPublish(t, topic, m)
	})
}

func TestSQLiteFileTakenAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topic.db")
	topic := sqliteTestTopic(t, path, sqliteOptions{})
	mustPublish(t, topic, numbered(0, 1)...)
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	if errs := topic.Publish(t.Context(), numbered(1, 2)); errs == nil ||
		!strings.Contains(errs[0].Error(), "is gone") && !strings.Contains(errs[0].Error(), "is missing") {
		t.Errorf("Publish to a file that is not there = %v", errs)
	}
	if err := topic.Ping(t.Context()); err == nil {
		t.Error("Ping succeeds")
	}
	if err := os.Rename(path+".moved", path); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, topic, numbered(2, 3)...)
	if s := mustStats(t, topic); s.Messages != 2 {
		t.Errorf("%d messages are stored, want 2", s.Messages)
	}
}

// A log that readers keep from beginning anew is emptied when it is too large.
func TestSQLiteLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topic.db")
	const most = 1 << 20
	topic := sqliteTestTopic(t, path, sqliteOptions{logBytes: most})
	size := func() int64 {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	reader := rawSQLite(t, path)
	mustExec(t, reader, "BEGIN; SELECT * FROM messages")
	for size() <= 2*most {
		mustPublish(t, topic, Message{Data: make([]byte, 100_000)})
	}
	mustExec(t, reader, "COMMIT")
	mustPublish(t, topic, Message{Key: "1"})
	mustPublish(t, topic, Message{Key: "2"})
	if size() > most {
		t.Errorf("the log has %d bytes, want at most %d", size(), most)
	}
}
