// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/golden"
)

func TestParse(t *testing.T) {
	for _, row := range []struct {
		args string
		want string // of the error; empty for none
	}{
		{"", ""},
		{"-quick -run ^discard/ -json a.json -svg a.svg", ""},
		{"-from a.json", ""},
		{"-from a.json -svg a.svg", ""},
		{"-from a.json -quick", "-from measures nothing"},
		{"-from a.json -run x", "-from measures nothing"},
		{"-from a.json -json b.json", "-from measures nothing"},
		{"-from a.json -profile x", "-from measures nothing"},
		{"-run (", "-run: "},
		{"discard", `unexpected argument "discard"`},
		{"-slow", "-slow"},
	} {
		_, err := parse(strings.Fields(row.args), io.Discard)
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", row.args, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: %v, want %q", row.args, err, row.want)
		}
	}
	var out bytes.Buffer
	if _, err := parse([]string{"-help"}, &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-from") {
		t.Errorf("-help: %v and %q", err, out.String())
	}
}

// TestReport prints and draws a run whose figures are made up.
func TestReport(t *testing.T) {
	printed, drawn := fromFile(t, filepath.Join("testdata", "run.json"))
	golden.Check(t, printed, filepath.Join("testdata", "run.txt"))
	golden.Check(t, drawn, filepath.Join("testdata", "run.svg"))
}

// TestReportOfLess prints what a run of few cells has, and draws it if it can.
func TestReportOfLess(t *testing.T) {
	whole, err := readReport(filepath.Join("testdata", "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	r := &report{Rows: []*row{whole.row("streams-1000/gateway"), whole.row("sqlite/bare")}}
	var out bytes.Buffer
	r.print(&out)
	for _, heading := range []string{"By stage", "What the gateway is to keep", "Latency", "Memory", "Encoding"} {
		if strings.Contains(out.String(), "\n"+heading) {
			t.Errorf("%q is there, of which nothing was measured", heading)
		}
	}
	if _, err := r.chart(); err == nil || !strings.Contains(err.Error(), "measure discard/") {
		t.Errorf("a chart of nothing: %v", err)
	}
	for name, content := range map[string]string{"empty": "", "no object": "[]", "nothing measured": "{}"} {
		file := filepath.Join(t.TempDir(), "run.json")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readReport(file); err == nil || !strings.Contains(err.Error(), "-json") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSpeedDocument keeps docs/speed.svg and the tables in docs/speed.md what
// docs/speed.json says, and that a whole run.
func TestSpeedDocument(t *testing.T) {
	const document = "../docs/speed.md"
	r, err := readReport("../docs/speed.json")
	if err != nil {
		t.Fatal(err)
	}
	if r.Quick {
		t.Error("the figures are of a quick run")
	}
	for _, b := range r.bounds() {
		if b.found.Median <= 0 {
			t.Errorf("%s was not measured", b.what)
		}
	}
	for _, s := range stages() {
		if r.stage(s) == (spread{}) {
			t.Errorf("%s was not measured", s.name)
		}
	}
	for _, row := range r.Rows {
		if len(row.Samples) != rounds {
			t.Errorf("%s was measured %d times, want %d", row.Name, len(row.Samples), rounds)
		}
	}
	printed, drawn := fromFile(t, "../docs/speed.json")
	golden.Check(t, drawn, "../docs/speed.svg")
	written, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "```text\n", "```\n"
	before, rest, _ := bytes.Cut(written, []byte(begin))
	_, after, ok := bytes.Cut(rest, []byte(end))
	if !ok {
		t.Fatalf("%s has no block of text for the tables", document)
	}
	golden.Check(t, bytes.Join([][]byte{before, []byte(begin), printed, []byte(end), after}, nil), document)
}

// fromFile returns what -from -svg prints and draws.
func fromFile(t *testing.T, file string) (printed, drawn []byte) {
	t.Helper()
	svg := filepath.Join(t.TempDir(), "chart.svg")
	var out bytes.Buffer
	if err := run(options{from: file, svg: svg}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	drawn, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	checkSVG(t, drawn)
	return out.Bytes(), drawn
}

// checkSVG fails unless a chart is well-formed, has a name and a description,
// and neither runs nor loads anything.
func checkSVG(t *testing.T, svg []byte) {
	t.Helper()
	seen := map[string]bool{}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the chart is not well-formed: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok {
			seen[e.Name.Local] = true
			for _, a := range e.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" {
					t.Errorf("the chart has an attribute %s", a.Name.Local)
				}
			}
		}
	}
	if !seen["title"] || !seen["desc"] || !seen["rect"] || seen["script"] || seen["image"] {
		t.Errorf("the chart has the elements %v", seen)
	}
}
