// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// fails asserts that nothing can be inserted, and that the error and Ping's say
// why.
func fails(t *testing.T, w warehouse.Warehouse, b warehouse.Batch, why string) {
	t.Helper()
	for range 2 { // the second time the file is not open
		if result, err := w.Insert(t.Context(), &b); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("Insert: %+v, %v, want an error with %q", result, err, why)
		}
	}
	if err := w.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("Ping: %v, want an error with %q", err, why)
	}
}

func works(t *testing.T, w warehouse.Warehouse, rows []warehouse.Row, landed int) {
	t.Helper()
	insert(t, w, warehouse.Batch{Events: rows}, warehouse.Result{Landed: landed, Redelivered: len(rows) - landed})
	if n := number(t, w, "SELECT count(DISTINCT event_id) FROM events"); int(n) != len(rows) {
		t.Errorf("%d events, want %d", n, len(rows))
	}
	if n := number(t, w, "SELECT count(*) FROM events"); int(n) != len(rows) {
		t.Errorf("%d rows, want %d", n, len(rows))
	}
	if err := w.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

// TestFileInUse opens a file that this process has open: DuckDB would not notice.
func TestFileInUse(t *testing.T) {
	w, path := openFile(t)
	insert(t, w, warehouse.Batch{Events: events(2)}, warehouse.Result{Landed: 2})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, link} {
		if _, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{}); !errors.Is(err, warehouse.ErrLocked) {
			t.Errorf("Open: %v, want ErrLocked", err)
		}
		if _, err := warehouse.OpenReader(t.Context(), fileURL(path), warehouse.Options{}); !errors.Is(err, warehouse.ErrLocked) {
			t.Errorf("OpenReader: %v, want ErrLocked", err)
		}
		if err := warehouse.Check(fileURL(path)); err != nil {
			t.Error(err)
		}
	}
	locked(t, path)
	works(t, w, events(4), 2)
}

// locked asserts that no other process gets the file.
func locked(t *testing.T, path string) {
	t.Helper()
	for _, mode := range []string{"insert", "read"} {
		if out, err := child(t, mode, path).CombinedOutput(); err == nil || !strings.Contains(string(out), "is in use") || !strings.Contains(string(out), fmt.Sprint("PID ", os.Getpid())) {
			t.Errorf("%s in another process: %v: %s, want that it is in use, and by whom", mode, err, out)
		}
	}
}

// TestFileInUseElsewhere opens a file that another process has open, until that
// process dies.
func TestFileInUseElsewhere(t *testing.T) {
	w, path := openFile(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	holder := child(t, "hold", path)
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{}); !errors.Is(err, warehouse.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("PID ", holder.Process.Pid)) {
		t.Errorf("Open: %v, want ErrLocked with PID %d", err, holder.Process.Pid)
	}
	if _, err := warehouse.OpenReader(t.Context(), fileURL(path), warehouse.Options{}); !errors.Is(err, warehouse.ErrLocked) {
		t.Errorf("OpenReader: %v, want ErrLocked", err)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	w, err = warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	works(t, w, events(2), 2)
}

func TestFileMovedAway(t *testing.T) {
	w, path := openFile(t)
	works(t, w, events(2), 2)
	aside := path + ".aside"
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	fails(t, w, warehouse.Batch{Events: events(4)}, "")
	if _, err := os.Stat(path); err == nil {
		t.Error("the file was made anew, although its log is there")
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
	works(t, w, events(4), 2)
}

func TestFileReplaced(t *testing.T) {
	w, path := openFile(t)
	works(t, w, events(2), 2)
	other, otherPath := openFile(t)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + ".wal"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(otherPath, path); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Insert(t.Context(), &warehouse.Batch{Events: events(4)}); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("%v, want that the file has been replaced", err)
	}
	works(t, w, events(4), 4)
}

func TestDiskFull(t *testing.T) {
	d := newDisk(t)
	if d == nil {
		return
	}
	path := filepath.Join(d.folder, "warehouse.duckdb")
	w, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	m := newRowMix()
	rows := make([]warehouse.Row, 40_000)
	m.fill(rows)
	works(t, w, rows[:20_000], 20_000)
	empty := d.fill(t)
	fails(t, w, warehouse.Batch{Events: rows}, "the disk is full")
	empty()
	works(t, w, rows, 20_000)
}

// TestDiskFails takes the disk away, so that every write is an I/O error, and
// gives it back with what had been flushed.
func TestDiskFails(t *testing.T) {
	d := newDisk(t)
	if d == nil {
		return
	}
	path := filepath.Join(d.folder, "warehouse.duckdb")
	w, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	m := newRowMix()
	rows := make([]warehouse.Row, 30_000)
	m.fill(rows)
	landed := 0
	for _, n := range []int{100, 16_384, 18_000, 20_000} {
		insert(t, w, warehouse.Batch{Events: rows[landed:n]}, warehouse.Result{Landed: n - landed})
		landed = n
		if err := d.cut(); err != nil {
			t.Fatal(err)
		}
		fails(t, w, warehouse.Batch{Events: rows}, "")
		if err := d.detach(); err != nil {
			t.Fatal(err)
		}
		if err := d.attach("rw"); err != nil {
			t.Fatal(err)
		}
		works(t, w, rows[:landed], 0)
	}
	works(t, w, rows, 10_000)
}

func TestReadOnlyDisk(t *testing.T) {
	d := newDisk(t)
	if d == nil {
		return
	}
	path := filepath.Join(d.folder, "warehouse.duckdb")
	w, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	works(t, w, events(2), 2)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.detach(), d.attach("ro")); err != nil {
		t.Fatal(err)
	}
	if _, err := warehouse.Open(t.Context(), fileURL(path), warehouse.Options{}); err == nil || !strings.Contains(err.Error(), "writable by this user") {
		t.Errorf("%v, want that the file must be writable", err)
	}
	r, err := warehouse.OpenReader(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := number(t, r, "SELECT count(*) FROM events"); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(d.detach(), d.attach("rw")); err != nil {
		t.Fatal(err)
	}
	w, err = warehouse.Open(t.Context(), fileURL(path), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	works(t, w, events(4), 2)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// A disk is an ext4 file system in a file.
type disk struct{ image, folder string }

// newDisk makes a disk and attaches it. It returns nil, and says so loudly, where
// that takes rights that the test has not, unless the result of the run counts.
func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{image: filepath.Join(t.TempDir(), "disk"), folder: filepath.Join(t.TempDir(), "mnt")}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount", "dd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("no %s: install it with “apt-get install e2fsprogs mount coreutils”", tool)
		}
	}
	if err := errors.Join(os.Mkdir(d.folder, 0o755), os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 64<<20), run("mkfs.ext4", "-q", "-F", d.image)); err != nil {
		t.Fatal(err)
	}
	if err := d.attach("rw"); err != nil {
		fmt.Fprintf(os.Stderr, "\n*** FAULTS OF DISKS ARE NOT TESTED HERE: %v\n*** It takes root and loop devices (/dev/loop-control).\n\n", err)
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI=true demands tests of the faults of disks: %v", err)
		}
		return nil
	}
	t.Cleanup(func() { _ = unix.Unmount(d.folder, unix.MNT_DETACH) })
	return d
}

// fill leaves no room. What it returns makes room again.
func (d *disk) fill(t *testing.T) (empty func()) {
	t.Helper()
	filler := filepath.Join(d.folder, "filler")
	if out, err := exec.Command("dd", "if=/dev/zero", "of="+filler, "bs=64k").CombinedOutput(); err == nil {
		t.Fatalf("the disk is not full: %s", out)
	}
	return func() {
		t.Helper()
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

func (d *disk) attach(mode string) error {
	return run("mount", "-o", "loop,"+mode, "-t", "ext4", d.image, d.folder)
}

func (d *disk) detach() error { return run("umount", d.folder) }

// cut ends all access. What was not flushed is lost.
func (d *disk) cut() error {
	const (
		shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN: _IOR('X', 125, __u32)
		noLogFlush = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
	)
	f, err := os.Open(d.folder)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush)
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
