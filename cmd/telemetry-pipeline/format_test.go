// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

// formatted returns rows as a format has them.
func formatted(t *testing.T, format string, columns []string, rows ...[]any) string {
	t.Helper()
	var b strings.Builder
	out := bufio.NewWriter(&b)
	w := newWriter(format, 3, out)
	w.begin(columns)
	for _, r := range rows {
		if err := w.row(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var at = time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)

func TestTable(t *testing.T) {
	for name, c := range map[string]struct {
		columns []string
		rows    [][]any
		want    string
	}{
		"numbers to the right, texts to the left": {
			[]string{"feature", "n"},
			[][]any{{"search", int64(12)}, {"sign-up", int64(3)}},
			"feature   n\n───────  ──\nsearch   12\nsign-up   3\n",
		},
		"NULL is empty, whatever the others are": {
			[]string{"n", "s"},
			[][]any{{nil, nil}, {int64(1), "x"}, {2.5, nil}},
			"  n  s\n───  ─\n\n  1  x\n2.5\n",
		},
		"without rows": {[]string{"a", "bc"}, nil, "a  bc\n─  ──\n"},
		"everything else": {
			[]string{"t", "b", "bytes", "m", "l", "j"},
			[][]any{{at, true, []byte{0xff}, map[string]any{"b": 1.0, "a": nil}, []any{"x", nil, int64(1)}, json.RawMessage(`{"a":"<"}`)}},
			"t                      b     bytes  m       l             j\n" +
				"─────────────────────  ────  ─────  ──────  ────────────  ─────────\n" +
				"2026-01-02 03:04:05.6  true  /w==   a= b=1  [\"x\",null,1]  {\"a\":\"<\"}\n",
		},
		// A terminal must take nothing of it for a command.
		"what a sender wrote": {
			[]string{"s"},
			[][]any{{"\x1b[31m\r\n\u202e\u2028\x00"}},
			"s\n────────────────────────────\n" + `\x1b[31m\r\n\u202e\u2028\x00` + "\n",
		},
		"umlauts are one column wide": {[]string{"s", "n"}, [][]any{{"äöü", int64(1)}, {"abcd", int64(2)}}, "s     n\n────  ─\näöü   1\nabcd  2\n"},
		"what is too long is cut":     {[]string{"s"}, [][]any{{strings.Repeat("x", 121)}}, "s\n" + strings.Repeat("─", 121) + "\n" + strings.Repeat("x", 120) + "…\n"},
	} {
		if got := formatted(t, "table", c.columns, c.rows...); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", name, got, c.want)
		}
	}
	w := &tableWriter{w: bufio.NewWriter(&strings.Builder{}), max: 1}
	w.begin([]string{"n"})
	for range 3 {
		_ = w.row([]any{int64(1)})
	}
	if len(w.rows) != 1 || w.more != 2 {
		t.Errorf("%d rows and %d more", len(w.rows), w.more)
	}
}

func TestJSON(t *testing.T) {
	got := formatted(t, "json", []string{"b", "a", "a", "a"},
		[]any{int64(math.MaxInt64), nil, "<\u2028\x00", true},
		[]any{math.Copysign(0, -1), 5e-324, math.Inf(1), math.NaN()},
		[]any{at, []byte{0xff}, json.RawMessage(`{"z":1e400, "a":[]}`), json.RawMessage(`{`)},
		[]any{[]any{math.NaN(), nil}, map[string]any{"y": math.Inf(-1), "x": []any{}}, "", "\xff"})
	want := `{"b":9223372036854775807,"a":null,"a_2":"<\u2028\u0000","a_3":true}
{"b":-0,"a":5e-324,"a_2":"+Inf","a_3":"NaN"}
{"b":"2026-01-02T03:04:05.6Z","a":"/w==","a_2":{"z":1e400,"a":[]},"a_3":"{"}
{"b":["NaN",null],"a":{"x":[],"y":"-Inf"},"a_2":"","a_3":"\ufffd"}
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for line := range strings.Lines(got) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

func TestCSV(t *testing.T) {
	values := []string{"plain", "a,b", `"q"`, "two\nlines", "two\r\nlines", "\rx", "", " x ", "\x00"}
	row := []any{nil, int64(1), at}
	for _, v := range values {
		row = append(row, v)
	}
	got := formatted(t, "csv", make([]string, len(row)), row)
	wantLine := `,1,2026-01-02T03:04:05.6Z,plain,"a,b","""q""","two` + "\n" + `lines","two` + "\r\n" + `lines","` + "\r" + `x",""`
	if _, line, _ := strings.Cut(got, "\n"); !strings.HasPrefix(line, wantLine) || !strings.HasSuffix(line, "\n") {
		t.Errorf("got  %q\nwant %q", line, wantLine)
	}
	// A reader that does not alter line breaks has the same values.
	records, err := csv.NewReader(strings.NewReader(strings.ReplaceAll(got, "\r\nlines", "|lines"))).ReadAll()
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, v := range values {
		if got := strings.ReplaceAll(records[1][i+3], "|", "\r\n"); got != v {
			t.Errorf("%q became %q", v, got)
		}
	}
}
