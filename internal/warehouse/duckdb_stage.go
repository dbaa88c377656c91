// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/duckdb/duckdb-go/v2"
)

// Rows get into DuckDB by a statement that selects them from a table function of
// ours. DuckDB calls it in the thread that inserts, and it writes values to where
// DuckDB reads them; the driver's appender would box and copy each of them twice.
//
// Most texts of a batch are those of other rows as well, and each that is handed
// over costs a call to C. So a second function returns one row, with the distinct
// texts of each column in a list, and rows have only the numbers of theirs; where
// all rows have the same, not even that.

// staging is how a writer's rows get into a table.
type staging struct {
	table     table
	forms     []string // of each column, the SQL of its value, with verbs for its parts
	parts     []part
	perRow    []*part // parts in which the rows that are being inserted differ
	rows      relation
	lists     relation // one row
	functions string   // both

	// field points to what a row has for a column. It is set during an insertion.
	field func(row int, c *column) any
}

// A part of a staged row: a column's values, or half of a map's.
type part struct {
	column *column
	stager
}

// stager hands a part's values over.
type stager interface {
	// add takes note of what the next row has, before any row is handed over. It
	// returns errNotText for what is no text.
	add(field any) error
	// sql returns the part's value, and whether set has to be called for it.
	sql() (value string, perRow bool)
	// set writes what a row has to a row of a chunk.
	set(chunk duckdb.DataChunk, at, row int, field any) error
	// reset forgets what add has noted.
	reset()
}

// stage makes the functions for a table.
func (w *writer) stage(to table) (*staging, error) {
	s := &staging{table: to}
	b := stagingBuilder{staging: s}
	for i := range to.columns {
		b.column = &to.columns[i]
		s.forms = append(s.forms, b.form())
	}
	if b.err != nil {
		return nil, b.err
	}
	s.rows.fill = s.fillRows
	s.lists.fill, s.lists.count = b.fillLists, 1
	rows, err := w.register("rows_of_"+to.name, &s.rows)
	if err != nil {
		return nil, err
	}
	lists, err := w.register("lists_of_"+to.name, &s.lists)
	s.functions = rows + " r, " + lists + " l"
	return s, err
}

// run inserts so many rows. Field points to what a row has for a column.
func (s *staging) run(ctx context.Context, w *writer, rows int, field func(row int, c *column) any) error {
	s.rows.count, s.field = rows, field
	defer func() {
		s.rows.count, s.field = 0, nil
		for i := range s.parts {
			s.parts[i].reset()
		}
	}()
	for row := range rows {
		for i := range s.parts {
			if err := s.parts[i].add(field(row, s.parts[i].column)); err != nil {
				return err
			}
		}
	}
	return w.exec(ctx, s.statement())
}

// statement returns what inserts the rows that were added.
func (s *staging) statement() string {
	var names, values []string
	var parts []any
	for i := range s.table.columns {
		names = append(names, s.table.columns[i].name)
	}
	s.perRow = s.perRow[:0]
	for i := range s.parts {
		value, perRow := s.parts[i].sql()
		if perRow {
			s.perRow = append(s.perRow, &s.parts[i])
		}
		parts = append(parts, value)
	}
	for _, form := range s.forms {
		n := strings.Count(form, "%s")
		values = append(values, fmt.Sprintf(form, parts[:n]...))
		parts = parts[n:]
	}
	return fmt.Sprintf("INSERT INTO telemetry.main.%s (%s) SELECT %s FROM %s",
		s.table.name, strings.Join(names, ", "), strings.Join(values, ", "), s.functions)
}

func (s *staging) fillRows(chunk duckdb.DataChunk, from, n int) error {
	for at := range n {
		for _, p := range s.perRow {
			if err := p.set(chunk, at, from+at, s.field(from+at, p.column)); err != nil {
				return err
			}
		}
	}
	return nil
}

// stagingBuilder decides how the values of columns are staged.
type stagingBuilder struct {
	*staging
	column   *column
	numbered []*numbered
	err      error
}

// alone names the columns whose texts are hardly ever those of other rows.
var alone = map[string]bool{"event_id": true, "anonymous_user_id": true, "trace_id": true, "interaction_id": true}

// form adds the column's parts, and returns its form.
func (b *stagingBuilder) form() string {
	switch b.column.typ {
	case textType:
		if alone[b.column.name] {
			return b.single(duckdb.TYPE_VARCHAR)
		}
		return b.texts(nil)
	case integerType:
		return b.single(duckdb.TYPE_BIGINT)
	case boolType:
		return b.single(duckdb.TYPE_BOOLEAN)
	case timeType:
		return "make_timestamp(" + b.single(duckdb.TYPE_BIGINT) + ")"
	case jsonType:
		if b.table.name == "events_rejected" {
			return "TRY_CAST(" + b.single(duckdb.TYPE_VARCHAR) + " AS JSON)" // what is no JSON is in bytes
		}
		return "CAST(" + b.single(duckdb.TYPE_VARCHAR) + " AS JSON)"
	case bytesType:
		return b.single(duckdb.TYPE_BLOB)
	case keyType:
		return b.single(duckdb.TYPE_UUID)
	case textsType:
		return b.texts(func(dst []string, field any) ([]string, bool) {
			texts := *field.(*[]string)
			return append(dst, texts...), texts != nil
		})
	case numberMapType:
		return "map(" + b.texts(func(dst []string, field any) ([]string, bool) {
			entries := *field.(*[]Metadatum)
			for i := range entries {
				dst = append(dst, entries[i].Key)
			}
			return dst, entries != nil
		}) + ", " + b.doubles() + ")"
	case textMapType:
		return "map(" + b.texts(func(dst []string, field any) ([]string, bool) {
			entries := *field.(*[]Flag)
			for i := range entries {
				dst = append(dst, entries[i].Name)
			}
			return dst, entries != nil
		}) + ", " + b.texts(func(dst []string, field any) ([]string, bool) {
			entries := *field.(*[]Flag)
			for i := range entries {
				dst = append(dst, entries[i].Value)
			}
			return dst, entries != nil
		}) + ")"
	}
	panic(fmt.Sprintf("column %s has an unknown type", b.column.name))
}

// single adds a part whose values are handed over one by one.
func (b *stagingBuilder) single(t duckdb.Type) string {
	b.parts = append(b.parts, part{b.column, &single{b.column, len(b.rows.columns)}})
	b.rows.add(b.info(t))
	return "%s"
}

// doubles adds the numbers of maps.
func (b *stagingBuilder) doubles() string {
	b.parts = append(b.parts, part{b.column, &doubles{to: len(b.rows.columns)}})
	b.rows.add(b.listOf(b.info(duckdb.TYPE_DOUBLE)))
	return "%s"
}

// texts adds texts, or if of is not nil lists of them, by their numbers.
func (b *stagingBuilder) texts(of func(dst []string, field any) ([]string, bool)) string {
	n := &numbered{column: b.column, to: len(b.rows.columns), from: len(b.lists.columns), of: of, known: map[string]int32{}}
	b.parts = append(b.parts, part{b.column, n})
	b.numbered = append(b.numbered, n)
	b.rows.add(b.info(duckdb.TYPE_INTEGER))
	list := b.listOf(b.info(duckdb.TYPE_VARCHAR))
	if of != nil {
		list = b.listOf(list)
	}
	b.lists.add(list)
	return "%s"
}

func (b *stagingBuilder) info(t duckdb.Type) duckdb.TypeInfo {
	info, err := duckdb.NewTypeInfo(t)
	b.err = errors.Join(b.err, err)
	return info
}

func (b *stagingBuilder) listOf(t duckdb.TypeInfo) duckdb.TypeInfo {
	info, err := duckdb.NewListInfo(t)
	b.err = errors.Join(b.err, err)
	return info
}

// fillLists writes the one row of lists.
func (b *stagingBuilder) fillLists(chunk duckdb.DataChunk, _, _ int) error {
	for i, n := range b.numbered {
		if err := duckdb.SetChunkValue(chunk, i, 0, n.distinct); err != nil {
			return err
		}
	}
	return nil
}
