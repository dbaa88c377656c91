// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/telemetrygateway/telemetry/internal/command"
)

const queryHelp = `[-warehouse URL] [-format table|json|csv] [flags] SQL

Asks the warehouse one question and prints the answer. SQL is one statement, in
quotes, or - for what is on standard input. It may begin with a comment, and can
read and change nothing.

A DuckDB file that telemetry-pipeline run has open is asked through that process,
which goes on landing events; otherwise the file is opened. BigQuery runs the
statement itself, in its own dialect.

  telemetry-pipeline query "SELECT count(*) FROM events"
  telemetry-pipeline query "SELECT feature, action, count(*) AS n
      FROM events WHERE received_at > now() - INTERVAL 7 DAY GROUP BY ALL ORDER BY n DESC"
  telemetry-pipeline query "SELECT metadata['results'] FROM events WHERE feature = 'search'"
  telemetry-pipeline query "SELECT reason, count(*) FROM events_rejected GROUP BY ALL"
  telemetry-pipeline query -format json "SELECT event_id, payload FROM events" | jq .payload
  telemetry-pipeline query -format csv - < report.sql > report.csv

A table has no more rows than -max-rows and cuts long values, both visibly; NULL
is empty. JSON is one object a line, CSV quotes as RFC 4180 says, and both are whole:
in CSV, NULL is nothing at all and an empty text is "". Times are UTC.

The tables are events, events_rejected and events_duplicates, and there are views
to begin with: SHOW TABLES lists them, docs/warehouse.md describes them.
`

// queryConfig is what the flags of telemetry-pipeline query say.
type queryConfig struct {
	warehouse, format string
	timeout           time.Duration
	maxRows           int
	sql               string
}

func parseQuery(args []string, stdout, stderr io.Writer) (*queryConfig, error) {
	c := new(queryConfig)
	f := command.NewFlags("telemetry-pipeline query", queryHelp)
	f.Takes = "SQL"
	f.StringVar(&c.warehouse, "warehouse", defaultWarehouse, "`URL` of the warehouse: duckdb://PATH or bigquery://PROJECT/DATASET")
	f.StringVar(&c.format, "format", "table", "`table|json|csv`")
	f.DurationVar(&c.timeout, "timeout", time.Minute, "how long it may take")
	f.IntVar(&c.maxRows, "max-rows", 1000, "`NUMBER` of rows that a table has at most")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return nil, err
	}
	if newWriter(c.format, 0, nil) == nil {
		return nil, command.BadConfig("-format is %q: it must be table, json or csv", c.format)
	}
	if c.timeout <= 0 {
		return nil, command.BadConfig("-timeout is %v: it must be more than 0", c.timeout)
	}
	if c.maxRows < 1 {
		return nil, command.BadConfig("-max-rows is %d: it must be 1 or more", c.maxRows)
	}
	switch sql := f.Args(); len(sql) {
	case 0:
		return nil, command.BadConfig(`what is the question? Give one SQL statement, such as "SELECT count(*) FROM events", or - for standard input`)
	case 1:
		c.sql = sql[0]
	default:
		return nil, command.BadConfig("there are %d arguments besides flags, not one: put the whole statement in quotes", len(sql))
	}
	return c, nil
}

func runQuery(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseQuery(args, stdout, stderr)
	if err != nil {
		return err
	}
	if c.sql == "-" {
		sql, err := io.ReadAll(os.Stdin)
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		c.sql = string(sql)
	}
	if strings.TrimSpace(c.sql) == "" {
		return command.BadConfig("the statement is empty")
	}
	asked, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err = c.print(asked, stdout, stderr)
	switch {
	case errors.Is(err, syscall.EPIPE):
		return nil // whoever reads has had enough, as with | head
	case err != nil && ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil && asked.Err() != nil:
		return fmt.Errorf("it took more than %v; set -timeout to wait longer", c.timeout)
	}
	return err
}

// print prints the answer, as it comes.
func (c *queryConfig) print(ctx context.Context, stdout, stderr io.Writer) (err error) {
	r, err := openReader(ctx, c.warehouse, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	rows, err := r.Query(ctx, c.sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	out := bufio.NewWriterSize(stdout, 64<<10)
	w := newWriter(c.format, c.maxRows, out)
	w.begin(rows.Columns())
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = w.row(row)
		}
		if err != nil {
			// What has come is printed: it tells how far it got.
			return errors.Join(err, out.Flush())
		}
	}
	if err := errors.Join(w.end(), out.Flush()); err != nil {
		return err
	}
	if t, ok := w.(*tableWriter); ok && t.more > 0 {
		fmt.Fprintf(stderr, "%d more rows are not shown; set -max-rows, or -format json or csv for all of them\n", t.more)
	}
	return nil
}
