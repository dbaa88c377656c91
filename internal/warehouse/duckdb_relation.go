// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"fmt"

	"github.com/duckdb/duckdb-go/v2"
)

// chunkRows is how many rows DuckDB is given at once. It takes up to 2,048, but
// allocates for all of a chunk's JSON documents at once when it looks whether they
// are some: with fewer it needs less memory, which also stays in caches.
const chunkRows = 256

// relation is rows that a table function of ours returns to DuckDB.
type relation struct {
	columns []duckdb.ColumnInfo
	count   int // of rows
	// fill writes n rows, from one on, to the beginning of a chunk.
	fill func(chunk duckdb.DataChunk, from, n int) error
}

// add adds a column. Its name is what columnName returns for its index.
func (r *relation) add(t duckdb.TypeInfo) {
	r.columns = append(r.columns, duckdb.ColumnInfo{Name: columnName(len(r.columns)), T: t})
}

func columnName(i int) string { return fmt.Sprintf("c%d", i) }

// register makes a table function that returns what is in r when it is called,
// and returns how to call it. Only our own statements can: it is not among the
// functions that queries may have. All connections share their names.
func (w *writer) register(name string, r *relation) (call string, err error) {
	name = fmt.Sprintf("writer_%d_%s", w.number, name)
	return name + "()", duckdb.RegisterTableUDF(w.conn, name, duckdb.ChunkTableFunction{
		BindArguments: func(map[string]any, ...any) (duckdb.ChunkTableSource, error) { return &scan{relation: r}, nil },
	})
}

// scan is a call of a table function.
type scan struct {
	*relation
	next int
}

func (s *scan) ColumnInfos() []duckdb.ColumnInfo { return s.columns }

func (s *scan) Cardinality() *duckdb.CardinalityInfo {
	return &duckdb.CardinalityInfo{Cardinality: uint(s.count), Exact: true}
}

func (s *scan) Init() {}

func (s *scan) FillChunk(chunk duckdb.DataChunk) error {
	n := min(chunkRows, s.count-s.next)
	if n > 0 {
		if err := s.fill(chunk, s.next, n); err != nil {
			return err
		}
	}
	s.next += n
	return chunk.SetSize(n)
}
