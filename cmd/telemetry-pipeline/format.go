// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A writer prints an answer. Errors of the bufio.Writer below it stay there
// until it is flushed.
type writer interface {
	begin(columns []string)
	row(values []any) error
	end() error
}

// newWriter returns the writer of a format, or nil if there is no such format.
func newWriter(format string, maxRows int, w *bufio.Writer) writer {
	switch format {
	case "table":
		return &tableWriter{w: w, max: maxRows}
	case "json":
		return &jsonWriter{w: w}
	case "csv":
		return &csvWriter{w: w}
	}
	return nil
}

// jsonWriter prints one object a row, with members in the order of the columns.
type jsonWriter struct {
	w    *bufio.Writer
	keys [][]byte // with the colon
}

// begin gives columns of one name different ones, because a reader of JSON keeps
// only the last of them.
func (j *jsonWriter) begin(columns []string) {
	var taken []string
	for _, c := range columns {
		name := c
		for n := 2; slices.Contains(taken, name); n++ {
			name = c + "_" + strconv.Itoa(n)
		}
		taken = append(taken, name)
		key, _ := appendJSON(nil, name)
		j.keys = append(j.keys, append(key, ':'))
	}
}

func (j *jsonWriter) row(values []any) error {
	line := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			line = append(line, ',')
		}
		var err error
		if line, err = appendJSON(append(line, j.keys[i]...), v); err != nil {
			return err
		}
	}
	_, err := j.w.Write(append(line, '}', '\n'))
	return err
}

func (j *jsonWriter) end() error { return nil }

// appendJSON appends a value as JSON. Integers have all their digits; numbers
// that JSON does not know are texts; bytes are base64.
func appendJSON(dst []byte, v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(jsonValue(v)); err != nil {
		return nil, err
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...), nil
}

func jsonValue(v any) any {
	switch v := v.(type) {
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	case json.RawMessage:
		if !json.Valid(v) {
			return string(v)
		}
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = jsonValue(v[i])
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k := range v {
			m[k] = jsonValue(v[k])
		}
		return m
	}
	return v
}

// csvWriter prints records as RFC 4180 has them, save that a line ends as lines
// do here, because shells compare what they read. Values are unaltered: the
// package encoding/csv would turn line breaks within them into others.
type csvWriter struct{ w *bufio.Writer }

func (c *csvWriter) begin(columns []string) {
	row := make([]any, len(columns))
	for i := range columns {
		row[i] = columns[i]
	}
	_ = c.row(row)
}

func (c *csvWriter) row(values []any) error {
	for i, v := range values {
		if i > 0 {
			_ = c.w.WriteByte(',')
		}
		if v == nil {
			continue
		}
		field := text(v)
		if field == "" || strings.ContainsAny(field, ",\"\r\n") {
			field = `"` + strings.ReplaceAll(field, `"`, `""`) + `"`
		}
		_, _ = c.w.WriteString(field)
	}
	return c.w.WriteByte('\n')
}

func (c *csvWriter) end() error { return nil }

// text writes a value in full.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case json.RawMessage:
		return string(v)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []any, map[string]any:
		if b, err := appendJSON(nil, v); err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(v)
}

// maxCell is how many characters of a value a table shows.
const maxCell = 120

// tableWriter prints columns of equal width, which it knows when it has all rows
// that it shows.
type tableWriter struct {
	w       *bufio.Writer
	max     int
	columns []string
	right   []bool // numbers are aligned to the right
	rows    [][]string
	more    int // rows that are not shown
}

func (t *tableWriter) begin(columns []string) {
	t.right = make([]bool, len(columns))
	for i, c := range columns {
		t.columns = append(t.columns, cell(c))
		t.right[i] = true
	}
}

func (t *tableWriter) row(values []any) error {
	if len(t.rows) == t.max {
		t.more++
		return nil
	}
	row := make([]string, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case nil, int64, float64:
			row[i] = text(v)
		case time.Time:
			t.right[i] = false
			row[i] = v.Format("2006-01-02 15:04:05.999999")
		case map[string]any:
			t.right[i] = false
			row[i] = cell(entries(v))
		default:
			t.right[i] = false
			row[i] = cell(text(v))
		}
	}
	t.rows = append(t.rows, row)
	return nil
}

// entries writes a map as a person would, in the order of its keys.
func entries(m map[string]any) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+text(m[k]))
	}
	return strings.Join(list, " ")
}

// cell writes a value on one line, with nothing in it that a terminal would take
// for a command or for another direction: what is in an event is its sender's.
func cell(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxCell {
			b.WriteRune('…')
			break
		}
		switch {
		case r == utf8.RuneError, unicode.IsGraphic(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

func (t *tableWriter) end() error {
	widths := make([]int, len(t.columns))
	for _, row := range append([][]string{t.columns}, t.rows...) {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	t.line(t.columns, widths)
	rule := make([]string, len(widths))
	for i, n := range widths {
		rule[i] = strings.Repeat("─", n)
	}
	t.line(rule, widths)
	for _, row := range t.rows {
		t.line(row, widths)
	}
	return nil
}

// line prints cells, and no blanks at its end.
func (t *tableWriter) line(cells []string, widths []int) {
	var b strings.Builder
	for i, c := range cells {
		if i > 0 {
			b.WriteString("  ")
		}
		blanks := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
		if t.right[i] {
			b.WriteString(blanks + c)
		} else {
			b.WriteString(c + blanks)
		}
	}
	_, _ = t.w.WriteString(strings.TrimRight(b.String(), " ") + "\n")
}
