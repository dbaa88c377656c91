// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Check returns the error with which Open would fail, as far as that can be
// known without changing anything. A program that opens several topics checks
// them all first, so that a mistake in one leaves no trace of the others.
func Check(ctx context.Context, rawURL string) error {
	if err := check(ctx, rawURL); err != nil {
		return fmt.Errorf("open topic %s: %w", rawURL, err)
	}
	return nil
}

func check(ctx context.Context, rawURL string) error {
	u, err := parse(rawURL)
	if err != nil {
		return err
	}
	if u.Scheme != "sqlite" {
		// To open one of the others changes nothing.
		t, err := open(ctx, rawURL, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return t.Close()
	}
	if _, err := parseSQLite(u); err != nil {
		return err
	}
	return checkSQLite(u.Path)
}

// checkSQLite looks at a file, or at where it would be made.
func checkSQLite(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return checkCreatable(path)
	}
	if err != nil {
		return fmt.Errorf("%w; name another path", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	// SQLite's file header; the application ID is at byte 68.
	var header [72]byte
	if _, err := io.ReadFull(f, header[:]); err != nil || binary.BigEndian.Uint32(header[68:]) != sqliteApplicationID {
		return fmt.Errorf("%s is not a topic's file; name another path", path)
	}
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, err)
	}
	return nil
}

// checkCreatable looks at the folder that is nearest above path.
func checkCreatable(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("no file can be made in %s: %w; name another path, or make the folder writable", dir, err)
	}
	return nil
}
