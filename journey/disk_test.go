// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk is an ext4 file system in a file, whose power can be cut: what was
// written and not flushed is gone then, just as after a real cut. Killing
// processes proves nothing of the kind, since the kernel still has what they
// wrote.
type disk struct {
	image  string
	folder string // where it is mounted
}

// newDisk makes a disk and attaches it. It returns nil where a disk cannot be
// had, for want of rights: then it says so loudly, and fails the test if this is
// a run whose result counts (CI=true).
func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{image: filepath.Join(t.TempDir(), "disk"), folder: filepath.Join(t.TempDir(), "mnt")}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("no %s: install it with “apt-get install e2fsprogs mount”", tool)
		}
	}
	if err := os.Mkdir(d.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 256<<20); err != nil {
		t.Fatal(err)
	}
	if err := command("mkfs.ext4", "-q", "-F", d.image); err != nil {
		t.Fatal(err)
	}
	if err := d.attach(); err != nil {
		const consequence = "POWER CUTS ARE NOT TESTED HERE"
		fmt.Fprintf(os.Stderr, "\n*** %s: %v\n*** It takes root and loop devices (/dev/loop-control).\n\n", consequence, err)
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s, and CI=true demands them: %v", consequence, err)
		}
		t.Logf("%s: %v", consequence, err)
		return nil
	}
	t.Cleanup(func() {
		if mounted(d.folder) {
			if err := d.detach(); err != nil {
				t.Error(err)
				// Let go of it as soon as whoever uses it ends.
				_ = unix.Unmount(d.folder, unix.MNT_DETACH)
			}
		}
	})
	return d
}

// attach mounts the disk and, after a power cut, lets ext4 recover it. The loop
// device goes away with the mount.
func (d *disk) attach() error { return command("mount", "-o", "loop", "-t", "ext4", d.image, d.folder) }

// detach unmounts the disk. A process that another test is just starting has files
// of this one open, and with them the disk, until it runs its program, which takes
// seconds when all tests read and write at once.
func (d *disk) detach() (err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); ; {
		if err = command("umount", d.folder); err == nil {
			return nil
		}
		select {
		case <-late:
			return fmt.Errorf("%w; used by %q", err, d.users())
		case <-tick.C:
		}
	}
}

// users are the processes that have something of the disk open.
func (d *disk) users() (users []string) {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		links, _ := filepath.Glob(process + "/fd/*")
		for _, link := range append(links, process+"/cwd", process+"/root") {
			if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, d.folder) {
				command, _ := os.ReadFile(process + "/cmdline")
				users = append(users, fmt.Sprintf("%s has %s: %s", link, target, bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
			}
		}
		if maps, err := os.ReadFile(process + "/maps"); err == nil && bytes.Contains(maps, []byte(d.folder)) {
			users = append(users, process+" maps it")
		}
	}
	return users
}

// cut cuts the power: from now on nothing reaches the disk, and what ext4 has
// not yet written to its journal never does.
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
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush); err != nil {
		return fmt.Errorf("shut %s down: %w", d.folder, err)
	}
	return nil
}

func mounted(folder string) bool {
	mounts, err := os.ReadFile("/proc/self/mounts")
	return err == nil && strings.Contains(string(mounts), " "+folder+" ")
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
