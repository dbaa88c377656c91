// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that is not ours, or that cannot be read, is refused and left as it is.
func TestSQLiteRefusesFile(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(t *testing.T, path string)
		want string
	}{
		{"text", func(t *testing.T, path string) { mustWrite(t, path, bytes.Repeat([]byte("some text\n"), 1000)) }, "is no topic's file"},
		{"empty", func(t *testing.T, path string) { mustWrite(t, path, nil) }, "is empty"},
		{"another application's", func(t *testing.T, path string) {
			mustWrite(t, path, nil)
			db, err := connect(path, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("CREATE TABLE messages (a); PRAGMA application_id = 7"); err != nil {
				t.Fatal(err)
			}
			db.Close()
		}, "another application"},
		{"a newer version's", func(t *testing.T, path string) {
			mustCreate(t, path)
			f := rawSQLite(t, path)
			mustExec(t, f, "PRAGMA user_version = 2")
			f.Close()
		}, "newer version"},
		{"cut short", func(t *testing.T, path string) {
			mustCreate(t, path)
			if err := os.Truncate(path, 5000); err != nil {
				t.Fatal(err)
			}
		}, "is damaged"},
		{"a log without its database", func(t *testing.T, path string) { mustWrite(t, path+"-wal", []byte("x")) }, "put the file back"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "topic.db")
			tt.make(t, path)
			before := contents(t, dir)
			topic, err := Open(t.Context(), "sqlite://"+path, slog.New(slog.DiscardHandler))
			if err == nil {
				topic.Close()
				t.Fatal("Open succeeded")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Open = %v, want it to name the file and say %q", err, tt.want)
			}
			if _, err := Subscribe(t.Context(), "sqlite://"+path, BatchOptions{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Subscribe = %v, want it to say %q", err, tt.want)
			}
			for name, want := range before {
				if got := contents(t, dir)[name]; got != want {
					t.Errorf("%s has been altered", name)
				}
			}
		})
	}
}

func mustWrite(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustCreate(t *testing.T, path string) {
	t.Helper()
	if err := createSQLiteFile(path); err != nil {
		t.Fatal(err)
	}
}

// contents returns the files in dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	if err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = string(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return files
}

// The error for a file or folder without permission says so, and comes at once.
func TestSQLitePermissions(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "topic.db")
	mustCreate(t, path)
	for _, p := range []struct {
		path string
		mode os.FileMode
	}{{path, 0o444}, {dir, 0o555}} {
		if err := os.Chmod(p.path, p.mode); err != nil {
			t.Fatal(err)
		}
	}
	// Nobody but root could remove the folder as it is.
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	asNobody(t, func() {
		for _, at := range []string{"topic.db", "new.db", "new/topic.db"} {
			topic, err := Open(t.Context(), "sqlite://"+filepath.Join(dir, at), slog.New(slog.DiscardHandler))
			if err == nil {
				topic.Close()
				t.Errorf("Open of %s succeeded", at)
			} else if !strings.Contains(err.Error(), "writable by this user") && !strings.Contains(err.Error(), "able to write") {
				t.Errorf("Open of %s = %v, want it to say what must be writable", at, err)
			}
		}
	})
	if got := len(contents(t, dir)); got != 1 {
		t.Errorf("there are %d files, want only the one there was", got)
	}
}

// asNobody runs f without the right to write anywhere. Root has it whatever the
// modes say, so that the thread becomes another user in the file system's eyes.
func asNobody(t *testing.T, f func()) {
	if os.Geteuid() != 0 {
		f()
		return
	}
	const nobody = 65534
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Setfsuid(nobody); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// Those who open a topic that does not exist yet, all at once, open the same.
func TestSQLiteCreatedOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "topic.db")
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() { mustPublish(t, mustOpen(t, "sqlite://"+path), numbered(n, n+1)...) })
	}
	wg.Wait()
	if got := receive(t, mustSubscribe(t, "sqlite://"+path), 16); len(got) != 16 {
		t.Errorf("received %q", keys(got))
	}
	for name := range contents(t, dir) {
		if strings.Contains(name, ".new-") {
			t.Errorf("%s is left over", name)
		}
	}
}

// A database that SQLite's tools have copied is not in WAL mode any more.
func TestSQLiteCopyWorks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topic.db")
	mustPublish(t, sqliteTestTopic(t, path, sqliteOptions{}), numbered(0, 1)...)
	mustExec(t, rawSQLite(t, path), "VACUUM INTO '"+path+".copy'")
	topic := sqliteTestTopic(t, path+".copy", sqliteOptions{})
	mustPublish(t, topic, numbered(1, 2)...)
	if got := receive(t, mustSubscribe(t, "sqlite://"+path+".copy"), 2); len(got) != 2 {
		t.Errorf("received %q", keys(got))
	}
	var mode string
	if err := rawSQLite(t, path+".copy").scan("PRAGMA journal_mode", nil, &mode); err != nil || mode != "wal" {
		t.Errorf("journal_mode is %q (%v), want wal", mode, err)
	}
}

func TestSQLiteSyncsEveryCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topic.db")
	topic := sqliteTestTopic(t, path, sqliteOptions{})
	topic.Close()
	f, err := openSQLiteWriter(t.Context(), path, "", true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var synchronous int
	if err := f.scan("PRAGMA synchronous", nil, &synchronous); err != nil || synchronous != 2 {
		t.Errorf("synchronous is %d (%v), want 2: FULL", synchronous, err)
	}
}
