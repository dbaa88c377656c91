// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// received returns the rows that a client makes of an answer.
func received(answer []byte) (*rows, error) {
	r := &rows{ctx: context.Background(), body: io.NopCloser(nil), r: reader{bufio.NewReader(bytes.NewReader(answer))}}
	return r, r.begin()
}

// all returns all rows, and the error that ends them.
func all(r interface{ Next() ([]any, error) }) (list [][]any, err error) {
	for {
		row, err := r.Next()
		if err != nil {
			return list, err
		}
		list = append(list, row)
	}
}

func TestValuesKeepTheirTypes(t *testing.T) {
	row := []any{
		nil, true, false,
		int64(0), int64(math.MaxInt64), int64(math.MinInt64), int64(1<<53 + 1),
		0.5, math.Copysign(0, -1), 5e-324, math.MaxFloat64, math.Inf(-1),
		"", "a\x00b\u2028\u202e\n", "\xff not UTF-8", strings.Repeat("long ", 100_000),
		[]byte{},
		[]byte{0, 255},
		json.RawMessage(`{"a":1e400}`),
		time.Date(2026, 1, 2, 3, 4, 5, 999_999_000, time.UTC),
		time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		[]any{},
		[]any{int64(1), nil, []any{"x"}},
		map[string]any{},
		map[string]any{"a": 1.5, "": nil, "m": map[string]any{"b": []byte("x")}},
	}
	answer := appendColumns(nil, make([]string, len(row)))
	answer, err := appendRow(answer, row)
	if err != nil {
		t.Fatal(err)
	}
	r, err := received(append(answer, frameEnd))
	if err != nil {
		t.Fatal(err)
	}
	got, err := all(r)
	if err != io.EOF || len(got) != 1 {
		t.Fatalf("got %d rows and %v", len(got), err)
	}
	for i := range row {
		if diff := cmp.Diff(row[i], got[0][i]); diff != "" {
			t.Errorf("value %d (-want +got):\n%s", i, diff)
		}
	}
	if z := got[0][8].(float64); !math.Signbit(z) {
		t.Error("-0 became 0")
	}
	// NaN is unlike everything, itself included.
	answer, _ = appendRow(appendColumns(nil, []string{"n"}), []any{math.NaN()})
	if r, _ = received(append(answer, frameEnd)); true {
		if got, _ := all(r); len(got) != 1 || !math.IsNaN(got[0][0].(float64)) {
			t.Errorf("NaN became %v", got)
		}
	}
}

// An answer that just stops, wherever, is not taken for a whole one.
func TestAnAnswerThatStopsIsNotWhole(t *testing.T) {
	whole, err := appendRow(appendColumns(nil, []string{"a", "b"}),
		[]any{[]any{int64(300), "text", time.Unix(1, 2)}, map[string]any{"key": json.RawMessage("1")}})
	if err != nil {
		t.Fatal(err)
	}
	whole = append(whole, frameEnd)
	for n := range len(whole) {
		r, err := received(whole[:n])
		if err == nil {
			_, err = all(r)
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func TestValuesWithoutAForm(t *testing.T) {
	deep := any("bottom")
	for range maxDepth {
		deep = []any{deep}
	}
	for _, v := range []any{int32(1), struct{}{}, []any{uint8(1)}, map[string]any{"a": complex(1, 1)}, deep} {
		if _, err := appendRow(nil, []any{v}); err == nil {
			t.Errorf("%T was sent", v)
		}
	}
}

// Whatever comes instead of an answer is an error, and costs memory in
// proportion to its own size.
func FuzzAnswer(f *testing.F) {
	columns := appendColumns(nil, []string{"a"})
	row, _ := appendRow(columns, []any{[]any{nil, true, int64(-1), 1.5, "s", []byte("b"), json.RawMessage("{}"), time.Unix(0, 0), map[string]any{"k": false}}})
	f.Add(append(row, frameEnd))
	f.Add(appendString(append(columns, frameError), "what is wrong"))
	f.Add([]byte{frameColumns, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add(append(columns, frameRow, tagString, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f))
	f.Add(append(columns, frameRow, tagMap, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f))
	f.Add(append(columns, bytes.Repeat([]byte{frameRow, tagList, 1}, 200)...))
	f.Add(append(append(columns, frameRow), bytes.Repeat([]byte{tagList, 1}, 200)...))
	f.Fuzz(func(t *testing.T, answer []byte) {
		r, err := received(answer)
		if err != nil {
			return
		}
		list, err := all(r)
		if err == nil {
			t.Fatal("rows without an end")
		}
		again := appendColumns(nil, r.Columns())
		for _, row := range list {
			if again, err = appendRow(again, row); err != nil {
				t.Fatalf("what was received cannot be sent: %v", err)
			}
		}
		if r, err = received(append(again, frameEnd)); err != nil {
			t.Fatal(err)
		}
		if same, err := all(r); err != io.EOF || len(same) != len(list) {
			t.Fatalf("%d rows became %d, %v", len(list), len(same), err)
		}
	})
}
