// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Export lets DuckDB write into its scratch folder, the only one that it may
// write to, and moves the files from there. It takes the place of a query.
func (w *duckDB) Export(ctx context.Context, dir string) error {
	if err := w.export(ctx, dir); err != nil {
		return fmt.Errorf("export to %s: %w", dir, err)
	}
	return nil
}

func (w *duckDB) export(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return errors.New("the folder is not empty; name another one, or empty it")
	}
	file, err := w.open(ctx)
	if err != nil {
		return err
	}
	// Somebody who tried to open the file may have removed the folder, empty.
	if err := os.Mkdir(scratch(file.path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	made, err := os.MkdirTemp(scratch(file.path), "export-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	// One transaction, so that the tables are of the same moment.
	rows, err := file.acquire(ctx)
	if err != nil {
		return err
	}
	defer rows.Close()
	rows.mu.Lock()
	err = rows.why(rows.export(made))
	rows.mu.Unlock()
	if err != nil {
		return hintDuckDB(file.path, err)
	}
	for _, t := range exported {
		if err := move(ctx, filepath.Join(made, t), filepath.Join(dir, t)); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// exported are the tables that Export writes.
var exported = []string{"events", "events_rejected"}

func (r *duckDBRows) export(dir string) error {
	if err := r.exec("BEGIN TRANSACTION READ ONLY"); err != nil {
		return err
	}
	for _, t := range exported {
		if err := r.exec(fmt.Sprintf("COPY (SELECT *, CAST(received_at AS DATE) AS received_on FROM telemetry.main.%s) TO %s (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048, PARTITION_BY (received_on))",
			t, quote(filepath.Join(dir, t)))); err != nil {
			return err
		}
	}
	return r.exec("COMMIT")
}

// move moves a folder of files to where none is, if need be to another file
// system. Each file appears whole.
func move(ctx context.Context, from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if entry.IsDir() {
			return os.Mkdir(target, 0o700)
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to+".part", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			target.Close()
			os.Remove(to + ".part")
		}
	}()
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	if err := target.Sync(); err != nil {
		return err
	}
	if err := target.Close(); err != nil {
		return err
	}
	return os.Rename(to+".part", to)
}
