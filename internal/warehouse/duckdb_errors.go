// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/duckdb/duckdb-go/v2"
	"golang.org/x/sys/unix"
)

// hintDuckDB adds to an error which file it is about and, where something can be
// done, what. DuckDB tells errors of files apart by their texts alone.
func hintDuckDB(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return unwritable(path, err)
	}
	var e *duckdb.Error
	if !errors.As(err, &e) {
		return err
	}
	says := func(text string) bool { return strings.Contains(e.Msg, text) }
	switch {
	case says("Could not set lock"):
		holder := "another process has it"
		if _, by, ok := strings.Cut(e.Msg, "Conflicting lock is held in "); ok {
			by, _, _ = strings.Cut(by, ". ")
			holder = "it is held by " + by
		}
		return fmt.Errorf("%w: %s: %s; stop that, or ask the running pipeline with “telemetry-pipeline query”", ErrLocked, path, holder)
	case says("No space left on device"), says("Disk quota exceeded"):
		return fmt.Errorf("%s: the disk is full; free some space and inserting goes on by itself: %w", path, err)
	case says("Permission denied"), says("Read-only file system"), says("Operation not permitted"):
		return unwritable(path, err)
	case says("not a valid DuckDB database file"), says("Could not read enough bytes"), e.Type == duckdb.ErrorTypeSerialization, says("checksum"):
		return fmt.Errorf("%s is damaged or is no DuckDB file; name another path, or move it and its .wal aside: %w", path, err)
	case isOutOfMemory(err), isCheckpointOutOfMemory(err):
		return fmt.Errorf("%s: DuckDB needs more memory; give the warehouse's URL a larger memory_limit: %w", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

func isOutOfMemory(err error) bool {
	var e *duckdb.Error
	return errors.As(err, &e) && e.Type == duckdb.ErrorTypeOutOfMemory
}

// isCheckpointOutOfMemory says whether what was committed could not be moved from
// the log to its place, which DuckDB calls an I/O error.
func isCheckpointOutOfMemory(err error) bool {
	var e *duckdb.Error
	return errors.As(err, &e) && strings.Contains(e.Msg, "heckpoint") &&
		(strings.Contains(e.Msg, "failed to pin block") || strings.Contains(e.Msg, "could not allocate block"))
}

func unwritable(path string, err error) error {
	return fmt.Errorf("%s and its folder must be readable and writable by this user: %w", path, err)
}

// verdict says why DuckDB does not take a row, without what is in the row.
func verdict(err error) string {
	var e *duckdb.Error
	if errors.As(err, &e) {
		kind, _, _ := strings.Cut(e.Msg, ":")
		return "DuckDB cannot store one of its values: " + kind
	}
	return errNotText.Error()
}
