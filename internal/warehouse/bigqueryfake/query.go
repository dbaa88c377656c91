// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package bigqueryfake

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"
	bigquery "google.golang.org/api/bigquery/v2"
)

// pageRows is how many rows one answer has, few enough that tests see several.
const pageRows = 1000

// job is a query's answer, kept until all of it has been read.
type job struct {
	schema *bigquery.TableSchema
	rows   []*bigquery.TableRow
}

// macros are functions that DuckDB has by another name.
var macros = []string{
	"CREATE MACRO DATE(t) AS CAST(t AS DATE)",
	"CREATE MACRO SAFE_DIVIDE(a, b) AS CASE WHEN b = 0 THEN NULL ELSE a / b END",
}

// tokens are what translate leaves alone or changes as a whole: quoted names,
// texts, comments, and words.
var tokens = regexp.MustCompile("`[^`]*`" + `|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|--[^\n]*|[A-Za-z_][A-Za-z_0-9]*`)

var (
	truncated  = regexp.MustCompile(`(?i)\bDATE_TRUNC\(((?:[^()]|\([^()]*\))*), *(?:ISO)?WEEK(?:\(MONDAY\))?\)`)
	duckDBWord = map[string]string{
		"EXCEPT": "EXCLUDE", "STRING": "VARCHAR", "FLOAT64": "DOUBLE", "INT64": "BIGINT", "BOOL": "BOOLEAN", "BYTES": "BLOB",
	}
)

// translate makes of a query for BigQuery one for DuckDB, as far as our own
// queries need it.
func translate(query string) string {
	query = truncated.ReplaceAllString(query, "CAST(date_trunc('week', $1) AS DATE)")
	query = strings.ReplaceAll(query, "TO_HEX(MD5(", "(MD5(") // which is in hexadecimal there
	return tokens.ReplaceAllStringFunc(query, func(token string) string {
		switch token[0] {
		case '`':
			parts := strings.Split(strings.Trim(token, "`"), ".")
			if len(parts) == 3 {
				return tableName{parts[0], parts[1], parts[2]}.sql()
			}
			return quote(strings.Join(parts, "."))
		case '\'', '"':
			text, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.ReplaceAll(token[1:len(token)-1], `\'`, `'`), `"`, `\"`) + `"`)
			if err != nil {
				return token
			}
			return "'" + strings.ReplaceAll(text, "'", "''") + "'"
		}
		if word, ok := duckDBWord[token]; ok {
			return word
		}
		return token
	})
}

// insertJob answers jobs.insert for queries. It is done when it answers.
func (s *Server) insertJob(ctx context.Context, project string, j *bigquery.Job) (*bigquery.Job, error) {
	if j.Configuration == nil || j.Configuration.Query == nil {
		return nil, &apiError{http.StatusNotImplemented, "notImplemented", "this fake has only jobs that are queries"}
	}
	conn, err := s.session(ctx, project, j.Configuration.Query.DefaultDataset)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	sql := translate(j.Configuration.Query.Query)
	kind, err := statementType(ctx, conn, sql)
	if err != nil {
		return nil, err
	}
	done := &bigquery.Job{
		Configuration: j.Configuration,
		JobReference:  &bigquery.JobReference{ProjectId: project, Location: "US"},
		Status:        &bigquery.JobStatus{State: "DONE"},
		Statistics:    &bigquery.JobStatistics{Query: &bigquery.JobStatistics2{StatementType: kind}},
	}
	if j.Configuration.DryRun {
		return done, nil
	}
	schema, err := resultSchema(ctx, conn, sql)
	if err != nil {
		return nil, err
	}
	rows, err := resultRows(ctx, conn, sql, schema)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if done.JobReference.JobId = j.JobReference.JobId; s.jobs[j.JobReference.JobId] != nil {
		return nil, &apiError{http.StatusConflict, "duplicate", "Already Exists: Job " + j.JobReference.JobId}
	}
	s.jobs[j.JobReference.JobId] = &job{schema, rows}
	return done, nil
}

// page answers jobs.getQueryResults.
func (s *Server) page(id, token, limit string) (*bigquery.GetQueryResultsResponse, error) {
	j := s.jobs[id]
	if j == nil {
		return nil, &apiError{http.StatusNotFound, "notFound", "Not found: Job " + id}
	}
	n, err := strconv.Atoi(limit)
	if err != nil || n > pageRows {
		n = pageRows
	}
	from, _ := strconv.Atoi(token) // none is the first page
	to := min(from+n, len(j.rows))
	answer := &bigquery.GetQueryResultsResponse{
		JobComplete: true, JobReference: &bigquery.JobReference{JobId: id, Location: "US"},
		Schema: j.schema, Rows: j.rows[from:to], TotalRows: uint64(len(j.rows)),
	}
	if to < len(j.rows) {
		answer.PageToken = strconv.Itoa(to)
	}
	return answer, nil
}

func (s *Server) session(ctx context.Context, project string, dataset *bigquery.DatasetReference) (*sql.Conn, error) {
	s.mu.Lock()
	err := s.allowed("bigquery.jobs.create", tableName{project: project})
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	path := "main"
	if dataset != nil {
		path = quote(project + "." + dataset.DatasetId)
	}
	if _, err := conn.ExecContext(ctx, "SET search_path = '"+path+"'"); err != nil {
		conn.Close()
		return nil, notFound("Dataset", tableName{project, dataset.DatasetId, ""})
	}
	return conn, nil
}

func statementType(ctx context.Context, conn *sql.Conn, query string) (kind string, err error) {
	err = conn.Raw(func(c any) error {
		stmt, err := c.(driver.ConnPrepareContext).PrepareContext(ctx, query)
		if err != nil {
			return &apiError{http.StatusBadRequest, "invalidQuery", err.Error()}
		}
		defer stmt.Close()
		t, err := stmt.(*duckdb.Stmt).StatementType()
		kind = map[duckdb.StmtType]string{
			duckdb.STATEMENT_TYPE_SELECT: "SELECT", duckdb.STATEMENT_TYPE_INSERT: "INSERT", duckdb.STATEMENT_TYPE_UPDATE: "UPDATE",
			duckdb.STATEMENT_TYPE_DELETE: "DELETE", duckdb.STATEMENT_TYPE_CREATE: "CREATE_TABLE", duckdb.STATEMENT_TYPE_DROP: "DROP_TABLE",
		}[t]
		if kind == "" {
			kind = "SCRIPT"
		}
		return err
	})
	return kind, err
}

// resultSchema asks DuckDB for the columns of a query's answer.
func resultSchema(ctx context.Context, conn *sql.Conn, query string) (*bigquery.TableSchema, error) {
	rows, err := conn.QueryContext(ctx, "SELECT column_name, column_type FROM (DESCRIBE "+query+"\n)")
	if err != nil {
		return nil, &apiError{http.StatusBadRequest, "invalidQuery", err.Error()}
	}
	defer rows.Close()
	schema := &bigquery.TableSchema{}
	for rows.Next() {
		var name, typ string
		if err := rows.Scan(&name, &typ); err != nil {
			return nil, err
		}
		schema.Fields = append(schema.Fields, resultField(name, typ))
	}
	return schema, rows.Err()
}

// structField is one field of what DuckDB writes as STRUCT("key" VARCHAR, …).
var structField = regexp.MustCompile(`"?(\w+)"? ([^,]+)`)

func resultField(name, typ string) *bigquery.TableFieldSchema {
	f := &bigquery.TableFieldSchema{Name: name, Mode: "NULLABLE"}
	if element, ok := strings.CutSuffix(typ, "[]"); ok {
		f.Mode, typ = "REPEATED", element
	}
	if fields, ok := strings.CutPrefix(typ, "STRUCT("); ok {
		f.Type = "RECORD"
		for _, m := range structField.FindAllStringSubmatch(strings.TrimSuffix(fields, ")"), -1) {
			f.Fields = append(f.Fields, resultField(m[1], strings.TrimSpace(m[2])))
		}
		return f
	}
	switch typ {
	case "VARCHAR", "TIMESTAMP", "DATE", "JSON", "BOOLEAN":
		f.Type = typ
	case "BLOB":
		f.Type = "BYTES"
	case "DOUBLE", "FLOAT":
		f.Type = "FLOAT"
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UBIGINT", "HUGEINT", "UINTEGER":
		f.Type = "INTEGER"
	case "TIMESTAMP WITH TIME ZONE":
		f.Type = "TIMESTAMP"
	}
	switch {
	case typ == "VARCHAR" || f.Type == "":
		f.Type = "STRING"
	case strings.HasPrefix(typ, "DECIMAL"):
		f.Type = "NUMERIC"
	}
	return f
}

func resultRows(ctx context.Context, conn *sql.Conn, query string, schema *bigquery.TableSchema) ([]*bigquery.TableRow, error) {
	// The driver would decode JSON, and lose digits of wide numbers.
	for _, f := range schema.Fields {
		if f.Type == "JSON" {
			query = fmt.Sprintf("SELECT * REPLACE (CAST(%[1]s AS VARCHAR) AS %[1]s) FROM (%[2]s\n)", quote(f.Name), query)
		}
	}
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return nil, &apiError{http.StatusBadRequest, "invalidQuery", err.Error()}
	}
	defer rows.Close()
	var all []*bigquery.TableRow
	values, into := make([]any, len(schema.Fields)), make([]any, len(schema.Fields))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := &bigquery.TableRow{}
		for i, f := range schema.Fields {
			row.F = append(row.F, &bigquery.TableCell{V: cell(f, values[i])})
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		return nil, &apiError{http.StatusBadRequest, "invalidQuery", err.Error()}
	}
	return all, nil
}

// cell is a value as BigQuery's answers have it: mostly a text.
func cell(f *bigquery.TableFieldSchema, v any) any {
	if f.Mode == "REPEATED" {
		// There is no list that is NULL: it is empty.
		cells := []any{}
		list, _ := v.([]any)
		element := *f
		element.Mode = "NULLABLE"
		for _, e := range list {
			cells = append(cells, map[string]any{"v": cell(&element, e)})
		}
		return cells
	}
	if v == nil {
		return nil
	}
	if f.Type == "RECORD" {
		cells := []any{}
		fields, _ := v.(map[string]any)
		for _, sub := range f.Fields {
			cells = append(cells, map[string]any{"v": cell(sub, fields[sub.Name])})
		}
		return map[string]any{"f": cells}
	}
	switch v := v.(type) {
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		if f.Type == "DATE" {
			return v.Format(time.DateOnly)
		}
		return strconv.FormatInt(v.UnixMicro(), 10)
	case string:
		return v
	case duckdb.Decimal:
		return v.String()
	}
	return fmt.Sprint(v)
}
