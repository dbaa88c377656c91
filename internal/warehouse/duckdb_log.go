// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// recoverLog makes what another process left in a file, and in its write-ahead
// log, what a power cut would leave too. A process that was killed while it
// committed may have left a commit that has not reached the disk: whoever reads
// it there takes its events for landed.
//
// And it cuts from the log what follows its last commit. DuckDB 1.5.5 ignores
// that too, save for one thing: whole row groups, which are in the file already
// and which the log only refers to, are taken for committed. Without the rest of
// their transaction; and after a power cut, when the file may not even have them.
// A log that is not as DuckDB 1.5 writes it is left as it is.
func recoverLog(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	// Whoever holds DuckDB's lock may be in the middle of a commit.
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(file.Fd(), unix.F_SETLK, &lock); err != nil {
		return nil // DuckDB says who has it
	}
	log, err := os.OpenFile(path+".wal", os.O_RDWR, 0)
	switch {
	case err == nil:
		defer log.Close()
		err = trimLog(log)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), syncDir(filepath.Dir(path)))
}

func trimLog(log *os.File) error {
	info, err := log.Stat()
	if err != nil {
		return err
	}
	if end := lastCommit(log, info.Size()); end < info.Size() {
		if err := log.Truncate(end); err != nil {
			return fmt.Errorf("cut the log after its last commit: %w", err)
		}
	}
	return log.Sync()
}

// lastCommit returns where the last commit in a log ends; if there is none,
// where the log's header does; and in a log that it does not understand, where
// the log ends.
//
// The header is an entry that has the version, 2, what identifies the file, 16
// numbers, and the number of the checkpoint that the log follows. Every other
// entry comes after its size and a checksum, 8 bytes each. Entries are fields,
// each after its own number in 2 bytes, and end with ff ff; other numbers are in
// LEB128. Field 100 is what an entry is: the header is 98, a commit 100.
func lastCommit(log io.Reader, size int64) (end int64) {
	r := bufio.NewReaderSize(log, 1<<20)
	at := int64(0)
	expect := func(want ...byte) bool {
		got := make([]byte, len(want))
		_, err := io.ReadFull(r, got)
		at += int64(len(got))
		return err == nil && bytes.Equal(want, got)
	}
	number := func() bool {
		for {
			b, err := r.ReadByte()
			at++
			if err != nil || b < 0x80 {
				return err == nil
			}
		}
	}
	if !expect(100, 0, 98, 101, 0, 2, 102, 0, 16) {
		return size
	}
	for range 16 {
		if !number() {
			return size
		}
	}
	if !expect(103, 0) || !number() || !expect(255, 255) {
		return size
	}
	end = at
	commit := []byte{100, 0, 100, 255, 255}
	for {
		var head [16]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return end
		}
		length := int64(binary.LittleEndian.Uint64(head[:]))
		if at += int64(len(head)); length < 0 || length > size-at {
			return end
		}
		if length == 0 {
			return end
		}
		entry, _ := r.Peek(int(min(length, int64(len(commit)))))
		if !bytes.HasPrefix(entry, commit[:2]) {
			return size
		}
		isCommit := length == int64(len(commit)) && bytes.Equal(entry, commit)
		if _, err := io.CopyN(io.Discard, r, length); err != nil {
			return end
		}
		if at += length; isCommit {
			end = at
		}
	}
}
