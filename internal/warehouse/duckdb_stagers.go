// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/duckdb/duckdb-go/v2"
)

// errNotText marks a row that has a text which is none.
var errNotText = errors.New("a text is not valid UTF-8")

// single hands values over one by one.
type single struct {
	column *column
	to     int // column of the chunk
}

func (s *single) add(field any) error {
	switch v := field.(type) {
	case *string:
		if !utf8.ValidString(*v) {
			return errNotText
		}
	case *[]byte:
		if s.column.typ == jsonType && !utf8.Valid(*v) {
			return errNotText
		}
	}
	return nil
}

func (s *single) set(chunk duckdb.DataChunk, at, _ int, field any) error {
	var null bool
	switch v := field.(type) {
	case *string:
		if null = *v == "" && !s.column.required; !null {
			// Of a string the driver would make a copy first.
			return duckdb.SetChunkValue(chunk, s.to, at, unsafe.Slice(unsafe.StringData(*v), len(*v)))
		}
	case *[]byte:
		if null = *v == nil; !null {
			return duckdb.SetChunkValue(chunk, s.to, at, *v)
		}
	case *int64:
		return duckdb.SetChunkValue(chunk, s.to, at, *v)
	case *int32:
		return duckdb.SetChunkValue(chunk, s.to, at, *v)
	case **int64:
		if null = *v == nil; !null {
			return duckdb.SetChunkValue(chunk, s.to, at, **v)
		}
	case *bool:
		if null = !*v; !null {
			return duckdb.SetChunkValue(chunk, s.to, at, true)
		}
	case *time.Time:
		if null = v.IsZero(); !null {
			return duckdb.SetChunkValue(chunk, s.to, at, moment(*v).UnixMicro())
		}
	case *[16]byte:
		if null = *v == [16]byte{} && !s.column.required; !null {
			return duckdb.SetChunkValue(chunk, s.to, at, (*duckdb.UUID)(v))
		}
	}
	if !null {
		return fmt.Errorf("no form for a %T in DuckDB", field)
	}
	return chunk.SetValue(s.to, at, nil)
}

func (s *single) sql() (value string, perRow bool) { return "r." + columnName(s.to), true }

func (s *single) reset() {}

// doubles hands over the numbers of maps.
type doubles struct {
	to  int
	row []any // kept for its memory
}

func (d *doubles) add(any) error { return nil }

func (d *doubles) set(chunk duckdb.DataChunk, at, _ int, field any) error {
	entries := *field.(*[]Metadatum)
	if entries == nil {
		return chunk.SetValue(d.to, at, nil)
	}
	d.row = d.row[:0]
	for i := range entries {
		d.row = append(d.row, entries[i].Value)
	}
	return duckdb.SetChunkValue(chunk, d.to, at, d.row)
}

func (d *doubles) sql() (value string, perRow bool) { return "r." + columnName(d.to), true }

func (d *doubles) reset() {}

// numbered numbers distinct texts, or distinct lists of texts, in the order in
// which they come, from one on; zero is NULL.
type numbered struct {
	column *column
	to     int // column of rows
	from   int // column of lists
	// of appends the texts of a list, and reports whether there is one. It is nil
	// where fields are texts.
	of func(dst []string, field any) ([]string, bool)

	distinct []any
	known    map[string]int32
	numbers  []int32 // of each row
	differ   bool    // some are not that of the first row

	// The last text and its number, which the next row often has as well.
	last       string
	lastNumber int32

	list []string // kept for their memory
	key  []byte
}

func (n *numbered) add(field any) error {
	var number int32
	var err error
	if n.of != nil {
		number, err = n.addList(field)
	} else {
		number, err = n.addText(*field.(*string))
	}
	n.numbers = append(n.numbers, number)
	n.differ = n.differ || number != n.numbers[0]
	return err
}

// Of an index that a list does not have, NULL is extracted.
func (n *numbered) sql() (value string, perRow bool) {
	if !n.differ {
		return fmt.Sprintf("list_extract(l.%s, %d)", columnName(n.from), n.numbers[0]), false
	}
	return fmt.Sprintf("list_extract(l.%s, r.%s)", columnName(n.from), columnName(n.to)), true
}

func (n *numbered) addText(text string) (int32, error) {
	switch {
	case text == "" && !n.column.required:
		return 0, nil
	case text == n.last && n.lastNumber > 0:
		return n.lastNumber, nil
	}
	number := n.known[text]
	if number == 0 {
		if !utf8.ValidString(text) {
			return 0, errNotText
		}
		number = n.learn(text, text)
	}
	n.last, n.lastNumber = text, number
	return number, nil
}

func (n *numbered) addList(field any) (int32, error) {
	var ok bool
	if n.list, ok = n.of(n.list[:0], field); !ok {
		return 0, nil
	}
	n.key = n.key[:0]
	for _, text := range n.list {
		n.key = append(binary.AppendUvarint(n.key, uint64(len(text))), text...)
	}
	if number := n.known[string(n.key)]; number > 0 {
		return number, nil
	}
	list := make([]any, len(n.list))
	for i, text := range n.list {
		if !utf8.ValidString(text) {
			return 0, errNotText
		}
		list[i] = text
	}
	return n.learn(string(n.key), list), nil
}

func (n *numbered) learn(key string, value any) int32 {
	n.distinct = append(n.distinct, value)
	number := int32(len(n.distinct))
	n.known[key] = number
	return number
}

func (n *numbered) set(chunk duckdb.DataChunk, at, row int, _ any) error {
	return duckdb.SetChunkValue(chunk, n.to, at, n.numbers[row])
}

// reset also lets go of the texts, which point into messages.
func (n *numbered) reset() {
	clear(n.distinct)
	clear(n.known)
	clear(n.list[:cap(n.list)])
	n.distinct, n.numbers, n.differ = n.distinct[:0], n.numbers[:0], false
	n.last, n.lastNumber = "", 0
}
