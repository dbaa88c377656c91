// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

const (
	// duckDBVersion is the schema's. It goes up with every table, column or view
	// that is added or changed.
	duckDBVersion = 1

	// duckDBFormat tells our files from others that happen to have such tables.
	duckDBFormat = "telemetrygateway"
)

var duckDBTypes = map[columnType]string{
	textType:      "VARCHAR",
	integerType:   "BIGINT",
	boolType:      "BOOLEAN",
	timeType:      "TIMESTAMP",
	jsonType:      "JSON",
	bytesType:     "BLOB",
	keyType:       "UUID",
	textsType:     "VARCHAR[]",
	numberMapType: "MAP(VARCHAR, DOUBLE)",
	textMapType:   "MAP(VARCHAR, VARCHAR)",
}

// duckDBCompression is how columns are compressed for which DuckDB would not
// choose well. Payloads are alike, of which dictionaries of symbols make less,
// and take more memory for. IDs are not, and looking for what they have in common
// takes a quarter of the time of an insert.
var duckDBCompression = map[string]string{
	"payload":        "zstd",
	"event_id":       "uncompressed",
	"trace_id":       "uncompressed",
	"interaction_id": "uncompressed",
}

// duckDBSchema returns the statements that make a new warehouse.
func duckDBSchema() []string {
	ddl := []string{
		"CREATE TABLE warehouse (format VARCHAR NOT NULL, version INTEGER NOT NULL)",
		fmt.Sprintf("INSERT INTO warehouse VALUES (%s, %d)", quote(duckDBFormat), duckDBVersion),
	}
	for _, t := range tables() {
		ddl = append(ddl, createTable(t))
	}
	for _, v := range views {
		ddl = append(ddl, createView(v))
	}
	return ddl
}

func createTable(t table) string {
	var ddl strings.Builder
	fmt.Fprintf(&ddl, "CREATE TABLE %s (", t.name)
	for i, c := range t.columns {
		if i > 0 {
			ddl.WriteString(", ")
		}
		fmt.Fprintf(&ddl, "%s %s", c.name, duckDBTypes[c.typ])
		if method, ok := duckDBCompression[c.name]; ok {
			ddl.WriteString(" USING COMPRESSION " + method)
		}
		if c.required {
			ddl.WriteString(" NOT NULL")
		}
	}
	return ddl.String() + ")"
}

func createView(v view) string {
	return fmt.Sprintf("CREATE OR REPLACE VIEW %s AS %s", v.name, v.query)
}

// version returns the version of the schema of the file that is attached, or an
// error if it is no warehouse.
func (f *duckDBFile) version(ctx context.Context) (int, error) {
	notOurs := fmt.Errorf("%s is a DuckDB file that belongs to another application; name another path", f.path)
	var found int
	err := f.conn.QueryRowContext(ctx,
		"SELECT count(*) FROM duckdb_columns() WHERE database_name = 'telemetry' AND schema_name = 'main' AND table_name = 'warehouse' AND column_name IN ('format', 'version')").Scan(&found)
	if err != nil {
		return 0, err
	}
	if found != 2 {
		return 0, notOurs
	}
	var format string
	var version int
	if err := f.conn.QueryRowContext(ctx, "SELECT CAST(min(format) AS VARCHAR), CAST(max(version) AS INTEGER) FROM telemetry.main.warehouse HAVING count(*) > 0").Scan(&format, &version); err != nil || format != duckDBFormat {
		return 0, notOurs
	}
	return version, nil
}

// evolve adds what an older file has not. A file of a newer version stays as it
// is: what this one does not know stays NULL.
func (f *duckDBFile) evolve(ctx context.Context) error {
	version, err := f.version(ctx)
	if err != nil || version >= duckDBVersion {
		return err
	}
	ddl := []string{"USE telemetry", "BEGIN TRANSACTION"}
	for _, t := range tables() {
		have, err := f.columns(ctx, t.name)
		if err != nil {
			return err
		}
		if len(have) == 0 {
			ddl = append(ddl, createTable(t))
			continue
		}
		for _, c := range t.columns {
			if !slices.Contains(have, c.name) {
				ddl = append(ddl, fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", t.name, c.name, duckDBTypes[c.typ]))
			}
		}
	}
	for _, v := range views {
		ddl = append(ddl, createView(v))
	}
	return f.exec(ctx, append(ddl, fmt.Sprintf("UPDATE warehouse SET version = %d", duckDBVersion), "COMMIT")...)
}

func (f *duckDBFile) columns(ctx context.Context, table string) (names []string, err error) {
	rows, err := f.conn.QueryContext(ctx, "SELECT column_name FROM duckdb_columns() WHERE database_name = 'telemetry' AND schema_name = 'main' AND table_name = ?", table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
