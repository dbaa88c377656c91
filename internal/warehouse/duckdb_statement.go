// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/duckdb/duckdb-go/v2"
)

// A transaction that cannot write keeps a statement from changing tables, and
// locked settings from opening other files. Neither is enough: table functions
// do whatever they like. One opens the warehouse's own file, and the operating
// system takes DuckDB's lock away when that is closed; one prints each statement
// from then on; one has a log written to where nothing may be, which ends the
// process. So a statement is looked at before DuckDB prepares it, when functions
// begin to run, and has only functions that are known to read.

var tableFunctions = []string{
	"duckdb_columns", "duckdb_constraints", "duckdb_databases", "duckdb_functions", "duckdb_indexes", "duckdb_keywords",
	"duckdb_memory", "duckdb_schemas", "duckdb_settings", "duckdb_tables", "duckdb_temporary_files", "duckdb_types", "duckdb_views",
	"generate_series", "icu_calendar_names", "json_each", "json_tree", "pg_timezone_names",
	"pragma_database_size", "pragma_show", "pragma_storage_info", "pragma_table_info", "pragma_version",
	"range", "repeat", "repeat_row", "unnest",
}

// qualifiers are what the name of a table may be qualified with. DuckDB takes a
// name of which it has no table for a file's, if it has a dot or is qualified.
var qualifiers = []string{"", "telemetry", "temp", "memory", "system", "main", "information_schema", "pg_catalog"}

const (
	// maxDepth is how deep the tree of a statement may be, which is twice as deep
	// as its expressions: DuckDB takes hours to prepare what is much deeper, and
	// cannot be stopped then.
	maxDepth = 200
	// lambdaDepth is what a lambda counts for, since one within another doubles
	// the work.
	lambdaDepth = 20
)

var (
	errNotReading = errors.New("it does not only read; SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN do")
	errTooDeep    = errors.New("it is nested too deeply")
)

var explain = regexp.MustCompile(`(?is)^\s*EXPLAIN\s+(?:ANALYZE\s+)?`)

// check returns an error unless query is one statement that reads. It says
// whether that is a query whose answer may be long.
func (r *duckDBRows) check(query string) (table bool, err error) {
	if strings.Contains(query, "\x00") {
		return false, errors.New("a statement has no NUL") // DuckDB would not read on
	}
	explained := query[len(explain.FindString(query)):]
	var tree string
	if err := r.conn.QueryRowContext(r.ctx, "SELECT CAST(json_serialize_sql(CAST(? AS VARCHAR)) AS VARCHAR)", explained).Scan(&tree); err != nil {
		return false, err
	}
	if err := checkTree(tree); err != nil {
		return false, err
	}
	err = r.conn.Raw(func(conn any) error {
		// Without a context it prepares one statement, and executes none.
		prepared, err := conn.(*duckdb.Conn).Prepare(query)
		if err != nil {
			return err
		}
		defer prepared.Close()
		s := prepared.(*duckdb.Stmt)
		if s.NumInput() > 0 {
			return errors.New("a query has no parameters; write the values where they stand")
		}
		kind, err := s.StatementType()
		if err != nil {
			return err
		}
		table = kind == duckdb.STATEMENT_TYPE_SELECT
		if !table && kind != duckdb.STATEMENT_TYPE_EXPLAIN {
			return errNotReading
		}
		return nil
	})
	return table, err
}

// checkTree looks at what DuckDB has parsed.
func checkTree(text string) error {
	var tree struct {
		Error   bool   `json:"error"`
		Kind    string `json:"error_type"`
		Message string `json:"error_message"`

		Statements []any `json:"statements"`
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	switch err := d.Decode(&tree); {
	case err != nil:
		return errTooDeep // it is Go that reads no deeper than 10,000
	case tree.Error && tree.Kind == "parser":
		return fmt.Errorf("it cannot be parsed: %s", tree.Message)
	case tree.Error:
		return errNotReading
	case len(tree.Statements) != 1:
		return errors.New("it is more than one statement; ask one at a time")
	}
	return checkNode(tree.Statements[0], maxDepth)
}

// checkNode looks at a node and what is below.
func checkNode(node any, depth int) error {
	if depth <= 0 {
		return errTooDeep
	}
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			if err := checkNode(child, depth-1); err != nil {
				return err
			}
		}
	case map[string]any:
		text := func(of map[string]any, key string) string {
			s, _ := of[key].(string)
			return strings.ToLower(s)
		}
		switch node["type"] {
		case "LAMBDA":
			depth -= lambdaDepth
		case "TABLE_FUNCTION":
			function, _ := node["function"].(map[string]any)
			if name := text(function, "function_name"); !slices.Contains(tableFunctions, name) {
				return fmt.Errorf("the table function %q cannot be used here; %s can", name, strings.Join(tableFunctions, ", "))
			}
		case "BASE_TABLE":
			name := text(node, "table_name")
			if strings.Contains(name, ".") || !slices.Contains(qualifiers, text(node, "schema_name")) || !slices.Contains(qualifiers, text(node, "catalog_name")) {
				return fmt.Errorf("there is no table %q; SHOW TABLES lists those there are, and files cannot be read", name)
			}
		}
		for _, child := range node {
			if err := checkNode(child, depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}
