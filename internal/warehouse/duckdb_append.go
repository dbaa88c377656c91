// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/duckdb/duckdb-go/v2"
)

var (
	// errAppend marks errors of append: DuckDB does not say which of them are
	// about a row that it never takes, as it does of statements.
	errAppend = errors.New("append")
	// errNotText marks a row that has a text which is none.
	errNotText = errors.New("a text is not valid UTF-8")
)

// append appends rows, given by indexes, to a table.
//
// DuckDB's driver has another way into a table, without a statement between.
// But that takes a JSON document apart and puts it together again, and makes a
// JSON string of a Go string; and it makes a Go map of each entry of a map.
func (t *insertion) append(to table, indexes []int, value func(i int, c *column) any) error {
	if len(indexes) == 0 {
		return nil
	}
	s := stagingFor(to)
	if s.err != nil {
		return s.err
	}
	err := t.f.writer.Raw(func(conn any) error {
		a, err := duckdb.NewQueryAppender(conn.(driver.Conn), s.insert+"staged", "staged", s.types, nil)
		if err != nil {
			return err
		}
		return t.stage(a, to, indexes, value)
	})
	if err != nil {
		return fmt.Errorf("%w to %s: %w", errAppend, to.name, err)
	}
	return nil
}

// stage gives an appender rows of a table, as staging has them, and closes it.
func (t *insertion) stage(a *duckdb.Appender, to table, indexes []int, value func(i int, c *column) any) error {
	var args []driver.Value
	for _, i := range indexes {
		var err error
		args = args[:0]
		for c := range to.columns {
			if args, err = staged(args, to.columns[c].typ, value(i, &to.columns[c])); err != nil {
				break
			}
		}
		if err == nil {
			err = a.AppendRow(args...)
		}
		if err != nil {
			return errors.Join(err, a.Clear(), a.Close())
		}
	}
	return a.CloseWithCancel(t.ctx)
}

// staging is how rows get into a table: in columns col1, col2 and so on, for
// which the driver has a fast way, and from there by a statement.
type staging struct {
	types  []duckdb.TypeInfo
	ddl    []string // of the same columns
	insert string   // the statement, with the name of what has the columns as parameter
	err    error
}

func stagingFor(to table) staging {
	var s staging
	var names, values []string
	for _, c := range to.columns {
		var v string
		switch c.typ {
		case textType:
			v = s.column("VARCHAR", duckdb.TYPE_VARCHAR)
		case integerType:
			v = s.column("BIGINT", duckdb.TYPE_BIGINT)
		case boolType:
			v = s.column("BOOLEAN", duckdb.TYPE_BOOLEAN)
		case timeType:
			v = s.column("TIMESTAMP", duckdb.TYPE_TIMESTAMP)
		case jsonType:
			v = "CAST(" + s.column("VARCHAR", duckdb.TYPE_VARCHAR) + " AS JSON)"
			if to.name == "events_rejected" {
				v = "TRY_" + v // what is no JSON is in bytes
			}
		case bytesType:
			v = s.column("BLOB", duckdb.TYPE_BLOB)
		case keyType:
			v = s.column("UUID", duckdb.TYPE_UUID)
		case textsType:
			v = s.list("VARCHAR", duckdb.TYPE_VARCHAR)
		case numberMapType:
			v = "map(" + s.list("VARCHAR", duckdb.TYPE_VARCHAR) + ", " + s.list("DOUBLE", duckdb.TYPE_DOUBLE) + ")"
		case textMapType:
			v = "map(" + s.list("VARCHAR", duckdb.TYPE_VARCHAR) + ", " + s.list("VARCHAR", duckdb.TYPE_VARCHAR) + ")"
		}
		names, values = append(names, c.name), append(values, v)
	}
	s.insert = fmt.Sprintf("INSERT INTO telemetry.main.%s (%s) SELECT %s FROM ", to.name, strings.Join(names, ", "), strings.Join(values, ", "))
	return s
}

// column adds a column and returns its name.
func (s *staging) column(sql string, t duckdb.Type) string {
	info, err := duckdb.NewTypeInfo(t)
	return s.add(sql, info, err)
}

func (s *staging) list(sql string, t duckdb.Type) string {
	info, err := duckdb.NewTypeInfo(t)
	if err == nil {
		info, err = duckdb.NewListInfo(info)
	}
	return s.add(sql+"[]", info, err)
}

func (s *staging) add(sql string, info duckdb.TypeInfo, err error) string {
	s.types = append(s.types, info)
	s.err = errors.Join(s.err, err)
	name := fmt.Sprintf("col%d", len(s.types))
	s.ddl = append(s.ddl, name+" "+sql)
	return name
}

// staged appends a column's value to args, as staging has it.
func staged(args []driver.Value, typ columnType, v any) ([]driver.Value, error) {
	switch v := v.(type) {
	case nil:
		if typ == numberMapType || typ == textMapType {
			args = append(args, nil)
		}
		return append(args, nil), nil
	case string:
		if !utf8.ValidString(v) {
			return args, errNotText
		}
		return append(args, v), nil
	case []byte:
		if typ == jsonType && !utf8.Valid(v) {
			return args, errNotText
		}
		return append(args, v), nil
	case [16]byte:
		return append(args, duckdb.UUID(v)), nil
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			if !utf8.ValidString(s) {
				return args, errNotText
			}
			list[i] = s
		}
		return append(args, list), nil
	case []Metadatum:
		keys, values := make([]any, len(v)), make([]any, len(v))
		for i, m := range v {
			if !utf8.ValidString(m.Key) {
				return args, errNotText
			}
			keys[i], values[i] = m.Key, m.Value
		}
		return append(args, keys, values), nil
	case []Flag:
		keys, values := make([]any, len(v)), make([]any, len(v))
		for i, f := range v {
			if !utf8.ValidString(f.Name) || !utf8.ValidString(f.Value) {
				return args, errNotText
			}
			keys[i], values[i] = f.Name, f.Value
		}
		return append(args, keys, values), nil
	default: // int64, bool, time.Time
		return append(args, v), nil
	}
}

// valid makes of a rejected event's value what DuckDB always takes, since a
// rejected event must land: its bytes have what is lost.
func valid(v any) any {
	text := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	switch v := v.(type) {
	case string:
		return text(v)
	case []string:
		list := make([]string, len(v))
		for i, s := range v {
			list[i] = text(s)
		}
		return list
	case []Metadatum:
		var list []Metadatum
		seen := map[string]bool{}
		for _, m := range v {
			if m.Key = text(m.Key); !seen[m.Key] {
				seen[m.Key] = true
				list = append(list, m)
			}
		}
		return list
	case []Flag:
		var list []Flag
		seen := map[string]bool{}
		for _, f := range v {
			if f.Name, f.Value = text(f.Name), text(f.Value); !seen[f.Name] {
				seen[f.Name] = true
				list = append(list, f)
			}
		}
		return list
	}
	return v
}

// isVerdict says whether err is about a row that DuckDB never takes.
func isVerdict(err error) bool {
	var e *duckdb.Error
	if errors.As(err, &e) {
		switch e.Type {
		case duckdb.ErrorTypeConversion, duckdb.ErrorTypeConstraint, duckdb.ErrorTypeInvalidInput,
			duckdb.ErrorTypeInvalidType, duckdb.ErrorTypeMismatchType, duckdb.ErrorTypeObjectSize, duckdb.ErrorTypeOutOfRange:
			return true
		}
	}
	return errors.Is(err, errNotText)
}

// refusals adds to refused the events, among those from one index to before
// another, that DuckDB never takes. It finds them by trying ever smaller parts.
func (t *insertion) refusals(from, to int) error {
	var indexes []int
	for i := from; i < to; i++ {
		if _, ok := t.refused[i]; !ok {
			indexes = append(indexes, i)
		}
	}
	if len(indexes) == 0 {
		return nil
	}
	err := t.transaction(func() error { return t.attempt(indexes) }, "ROLLBACK")
	switch {
	case !isVerdict(err):
		return err
	case to-from == 1:
		t.refused[from] = verdict(err)
		return nil
	}
	middle := (from + to) / 2
	if err := t.refusals(from, middle); err != nil {
		return err
	}
	return t.refusals(middle, to)
}

// attempt inserts events by a statement, whose errors tell what they are about.
func (t *insertion) attempt(indexes []int) error {
	events := tables()[0]
	s := stagingFor(events)
	if err := t.f.exec(t.ctx, "CREATE TEMP TABLE attempted ("+strings.Join(s.ddl, ", ")+")"); err != nil {
		return err
	}
	err := t.f.writer.Raw(func(conn any) error {
		a, err := duckdb.NewAppender(conn.(driver.Conn), "temp", "main", "attempted")
		if err != nil {
			return err
		}
		return t.stage(a, events, indexes, func(i int, c *column) any { return c.value(&t.batch.Events[i]) })
	})
	if err != nil {
		return err
	}
	return t.f.exec(t.ctx, s.insert+"temp.main.attempted")
}
