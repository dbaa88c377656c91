// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/duckdb/duckdb-go/v2"
)

// Query runs a statement against what had landed when it began. DuckDB would
// keep the whole answer in memory, beyond its limit; so the answer goes into a
// temporary table, which may go to disk, and is read from there.
func (w *duckDB) Query(ctx context.Context, query string) (Rows, error) {
	file, err := w.open(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := file.query(ctx, query)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func (f *duckDBFile) query(ctx context.Context, query string) (*duckDBRows, error) {
	rows, err := f.acquire(ctx)
	if err != nil {
		return nil, err
	}
	rows.mu.Lock()
	err = rows.why(rows.begin(query))
	rows.mu.Unlock()
	if err != nil {
		rows.Close()
		return nil, err
	}
	return rows, nil
}

// acquire waits for a connection that reads. It is given back by Close, or taken
// away when the file is closed.
func (f *duckDBFile) acquire(ctx context.Context) (*duckDBRows, error) {
	rows := &duckDBRows{file: f}
	select {
	case rows.conn = <-f.readers:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-f.ending.Done():
		return nil, context.Cause(f.ending)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		return nil, context.Cause(f.ending)
	}
	f.open[rows] = struct{}{}
	rows.ctx, rows.cancel = context.WithCancelCause(ctx)
	return rows, nil
}

// duckDBRows reads an answer from a table of its connection, some rows at a time.
type duckDBRows struct {
	file   *duckDBFile
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex // held while conn is used
	conn    *sql.Conn  // nil when it has been given back
	columns []column
	names   []string
	page    string  // the query for rows, up to the number of the first
	next    int64   // number of the first row that has not been read
	rows    [][]any // read and not yet returned
	last    bool    // there are no more than those
}

// pageRows is how many rows are read at a time.
const pageRows = 256

// begin makes the answer. It reads in a transaction that cannot write to the
// file, and that has ended when it returns.
func (r *duckDBRows) begin(query string) error {
	table, err := r.check(query)
	if err != nil {
		return err
	}
	if err := r.exec("BEGIN TRANSACTION READ ONLY"); err != nil {
		return err
	}
	if table {
		err = r.exec("CREATE TEMP TABLE answer AS " + query)
		if e := new(duckdb.Error); errors.As(err, &e) && e.Type == duckdb.ErrorTypeParser {
			// DESCRIBE, SHOW and SUMMARIZE are no tables, and answer shortly.
			table = false
			err = errors.Join(r.exec("ROLLBACK"), r.exec("BEGIN TRANSACTION READ ONLY"))
		}
	}
	if err == nil && !table {
		r.last = true
		err = r.read(query)
	}
	if err != nil {
		return err
	}
	if err := r.exec("COMMIT"); err != nil || !table {
		return err
	}
	return r.plan()
}

// plan says how the answer's columns are read. What Go has no type for is read
// as text; JSON is too, since the driver would decode it and lose digits.
func (r *duckDBRows) plan() error {
	if err := r.read("SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = 'temp' AND table_name = 'answer' ORDER BY column_index"); err != nil {
		return err
	}
	var expressions []string
	r.names, r.columns = nil, nil
	for _, row := range r.rows {
		name, typ := row[0].(string), row[1].(string)
		quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		c := column{name: name}
		switch family, _, _ := strings.Cut(typ, "("); {
		case typ == "JSON":
			c.typ = jsonType
			quoted = "CAST(" + quoted + " AS VARCHAR)"
		case !slices.Contains(readable, family) && !strings.HasSuffix(typ, "]"):
			quoted = "CAST(" + quoted + " AS VARCHAR)"
		}
		r.names, r.columns = append(r.names, name), append(r.columns, c)
		expressions = append(expressions, quoted)
	}
	r.rows = nil
	r.page = "SELECT " + strings.Join(expressions, ", ") + " FROM temp.main.answer WHERE rowid >= "
	return nil
}

// readable are the types of DuckDB that have a counterpart in Go.
var readable = []string{
	"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
	"FLOAT", "DOUBLE", "DECIMAL", "VARCHAR", "BLOB", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "MAP", "STRUCT",
}

// read reads all rows of a query.
func (r *duckDBRows) read(query string) error {
	rows, err := r.conn.QueryContext(r.ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	if r.names == nil {
		if r.names, err = rows.Columns(); err != nil {
			return err
		}
		r.columns = make([]column, len(r.names))
	}
	r.rows = r.rows[:0]
	for rows.Next() {
		row, into := make([]any, len(r.names)), make([]any, len(r.names))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i := range row {
			if text, ok := row[i].(string); ok && r.columns[i].typ == jsonType {
				row[i] = json.RawMessage(text)
			} else {
				row[i] = plain(row[i])
			}
		}
		r.rows = append(r.rows, row)
	}
	return rows.Err()
}

func (r *duckDBRows) Columns() []string { return r.names }

func (r *duckDBRows) Next() ([]any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		return nil, r.why(ErrClosed)
	}
	if len(r.rows) == 0 && !r.last {
		if err := r.read(fmt.Sprint(r.page, r.next, " AND rowid < ", r.next+pageRows, " ORDER BY rowid")); err != nil {
			return nil, r.why(err)
		}
		r.next += pageRows
		r.last = len(r.rows) < pageRows
	}
	if len(r.rows) == 0 {
		return nil, io.EOF
	}
	row := r.rows[0]
	r.rows = r.rows[1:]
	return row, nil
}

// Close gives the connection to the next query.
func (r *duckDBRows) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		return nil
	}
	conn := r.conn
	r.conn = nil
	r.cancel(ErrClosed)
	// After a success there is no transaction to roll back.
	_, _ = conn.ExecContext(context.Background(), "ROLLBACK")
	_, err := conn.ExecContext(context.Background(), "DROP TABLE IF EXISTS temp.main.answer")
	r.file.mu.Lock()
	delete(r.file.open, r)
	r.file.mu.Unlock()
	r.file.readers <- conn
	return err
}

// stop ends a query whose file is closed, and waits until it no longer uses it.
func (r *duckDBRows) stop(cause error) {
	r.cancel(cause)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn = nil
}

func (r *duckDBRows) exec(statement string) error {
	_, err := r.conn.ExecContext(r.ctx, statement)
	return err
}

// why returns the reason why the query was ended, if it was, and else err.
func (r *duckDBRows) why(err error) error {
	if err != nil && r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	return err
}

// plain makes of a value of the driver one of those that Rows promises.
func plain(v any) any {
	switch v := v.(type) {
	case int8:
		return int64(v)
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case uint8:
		return int64(v)
	case uint16:
		return int64(v)
	case uint32:
		return int64(v)
	case uint64:
		return whole(new(big.Int).SetUint64(v))
	case *big.Int:
		return whole(v)
	case float32:
		return float64(v)
	case duckdb.Decimal:
		// 15 digits fit into a float64.
		if v.Width <= 15 {
			return v.Float64()
		}
		return v.String()
	case time.Time:
		return v.UTC()
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
		return v
	case map[string]any:
		for key := range v {
			v[key] = plain(v[key])
		}
		return v
	case duckdb.OrderedMap:
		m := make(map[string]any, v.Len())
		for i, value := range v.Values() {
			m[fmt.Sprint(plain(v.Keys()[i]))] = plain(value)
		}
		return m
	case fmt.Stringer:
		return v.String()
	}
	return v
}

func whole(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n.String()
}
