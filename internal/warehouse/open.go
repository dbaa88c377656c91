// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Open opens the warehouse that a URL names, to insert into it:
//
//	duckdb://PATH               kept in a file, which is made if there is none
//	bigquery://PROJECT/DATASET  tables of Google BigQuery
//
// The path of duckdb: is relative, as in duckdb://data/warehouse.duckdb, unless a
// third slash begins it, as in duckdb:///var/lib/warehouse.duckdb; a % or ? in it
// is written %25 or %3F. Its parameters are
//
//	memory_limit=128MB  what DuckDB keeps of data; the process needs up to 300 MB
//	                    besides, and 100 MB more with ten million events
//	threads=2           how many threads it works with
//
// Open waits for nothing: when another process has the file the error is
// ErrLocked, and the caller may try again. An error says what to change. Nothing
// is written to a file or dataset that is not a warehouse of ours.
func Open(ctx context.Context, rawURL string, o Options) (Warehouse, error) {
	w, err := open(ctx, rawURL, o.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("open warehouse %s: %w", rawURL, err)
	}
	return w, nil
}

func open(ctx context.Context, rawURL string, o Options) (Warehouse, error) {
	switch scheme(rawURL) {
	case "duckdb":
		return openDuckDB(ctx, rawURL, o)
	case "bigquery":
		return openBigQuery(ctx, rawURL, o)
	}
	return nil, unknownScheme(rawURL)
}

// OpenReader opens a warehouse to query it and changes nothing. A file must
// exist, and any number of processes may read it, but none while one inserts.
func OpenReader(ctx context.Context, rawURL string, o Options) (Reader, error) {
	r, err := openReader(ctx, rawURL, o.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("open warehouse %s: %w", rawURL, err)
	}
	return r, nil
}

func openReader(ctx context.Context, rawURL string, o Options) (Reader, error) {
	switch scheme(rawURL) {
	case "duckdb":
		return openDuckDBReader(ctx, rawURL, o)
	case "bigquery":
		return openBigQueryReader(ctx, rawURL, o)
	}
	return nil, unknownScheme(rawURL)
}

// Check returns the mistakes in a warehouse's URL that can be seen without
// touching anything, such as that it names a file of another kind.
func Check(rawURL string) error {
	err := unknownScheme(rawURL)
	switch scheme(rawURL) {
	case "duckdb":
		err = checkDuckDB(rawURL)
	case "bigquery":
		err = checkBigQuery(rawURL)
	}
	if err != nil {
		return fmt.Errorf("warehouse %s: %w", rawURL, err)
	}
	return nil
}

// BatchBytes returns how many bytes of messages' data one call to Insert should
// be given at most.
func BatchBytes(rawURL string) int {
	if scheme(rawURL) == "bigquery" {
		return bigQueryBatchBytes
	}
	return duckDBBatchBytes
}

// Path returns the file of a duckdb: URL, and whether it is one.
func Path(rawURL string) (string, bool) {
	c, err := parseDuckDB(rawURL)
	return c.path, err == nil && scheme(rawURL) == "duckdb"
}

func scheme(rawURL string) string {
	s, _, _ := strings.Cut(rawURL, ":")
	return s
}

func unknownScheme(rawURL string) error {
	return fmt.Errorf("unknown kind of warehouse %q; known are duckdb and bigquery", scheme(rawURL))
}

// query returns parameters. One that is not known is an error, so that a
// misspelt one is not taken for none, and so is one that is given twice.
func query(params string, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(params)
	if err != nil {
		return nil, err
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown parameter %q; known are %s", name, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, fmt.Errorf("parameter %q is given %d times", name, len(values))
		}
	}
	return q, nil
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Same == nil {
		o.Same = func(_, _ []byte) bool { return false }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
