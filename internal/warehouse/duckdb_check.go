// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkDuckDB returns the mistakes in a duckdb: URL that do not pass by
// themselves. A file that cannot be read may be readable later.
func checkDuckDB(rawURL string) error {
	c, err := parseDuckDB(rawURL)
	if err != nil {
		return err
	}
	info, err := os.Stat(c.path)
	switch {
	case missing(err):
		return checkFolder(c.path)
	case err != nil:
		return nil
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", c.path)
	}
	// Closing the file would take the lock of a DuckDB in this process away.
	release, err := claim(info, c.path)
	if err != nil {
		return nil
	}
	defer release()
	f, err := os.Open(c.path)
	if err != nil {
		return nil
	}
	defer f.Close()
	// DuckDB's file header: a checksum of 8 bytes, then these.
	var header [12]byte
	if _, err := io.ReadFull(f, header[:]); err != nil || string(header[8:]) != "DUCK" {
		return fmt.Errorf("%s is not a DuckDB file; name another path", c.path)
	}
	return nil
}

// checkFolder looks at where a file would be made: at the nearest folder above
// it that is there.
func checkFolder(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	for missing(err) && dir != filepath.Dir(dir) {
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

// missing reports whether nothing has that name, nor can have it until a folder
// is made or something else gives way to one.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }
