// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

const exportHelp = `-parquet DIR [-warehouse URL]

Writes the tables events and events_rejected of a DuckDB warehouse to Parquet
files, in a folder for each day on which events were received:

  DIR/events/received_on=2026-01-02/….parquet

DIR is made if there is none, and must be empty. It works while telemetry-pipeline
run does, too. Whatever reads Parquet can read the folders as one table with the
column received_on, DuckDB among them:

  telemetry-pipeline export -parquet out
  duckdb -c "SELECT count(*) FROM read_parquet('out/events/**/*.parquet', hive_partitioning = true)"
`

func runExport(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := command.NewFlags("telemetry-pipeline export", exportHelp)
	dir := f.String("parquet", "", "`DIR` for the files")
	url := f.String("warehouse", defaultWarehouse, "`URL` of the warehouse: duckdb://PATH")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	if *dir == "" {
		return command.BadConfig("where to? Set -parquet to a folder, which is made if there is none")
	}
	if entries, err := os.ReadDir(*dir); err == nil && len(entries) > 0 {
		return command.BadConfig("-parquet: %s is not empty; name a folder that is, or that is not there", *dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return command.BadConfig("-parquet: %w", err)
	}
	return export(ctx, *url, *dir, stdout, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
}

func export(ctx context.Context, url, dir string, stdout io.Writer, log *slog.Logger) (err error) {
	r, err := openReader(ctx, url, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	e, ok := r.(warehouse.Exporter)
	if !ok {
		return command.BadConfig("-warehouse: only a DuckDB file is exported by this command; BigQuery has EXPORT DATA")
	}
	if err := e.Export(ctx, dir); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return err
	}
	files, bytes := 0, int64(0)
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			files, bytes = files+1, bytes+info.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%d files with %d bytes in %s\n", files, bytes, dir)
	return err
}
