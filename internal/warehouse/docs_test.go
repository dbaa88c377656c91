// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/telemetrygateway/telemetry/internal/golden"
)

// TestDocumentation writes docs/warehouse.md from its template and the columns.
func TestDocumentation(t *testing.T) {
	find := func(name string) (table, error) {
		for _, t := range tables() {
			if t.name == name {
				return t, nil
			}
		}
		return table{}, fmt.Errorf("no table is called %s", name)
	}
	page, err := template.New("warehouse.md.tmpl").Funcs(template.FuncMap{
		"columns": func(name string) (string, error) {
			t, err := find(name)
			return columnTable(t.columns), err
		},
		"more": func(name, than string) (string, error) {
			t, err := find(name)
			if err != nil {
				return "", err
			}
			other, err := find(than)
			return columnTable(t.columns[len(other.columns):]), err
		},
		"names": func(name string) (string, error) {
			t, err := find(name)
			var names []string
			for _, c := range t.columns {
				names = append(names, "`"+c.name+"`")
			}
			return strings.Join(names, ", "), err
		},
		"doc": func(name string) (string, error) {
			t, err := find(name)
			return t.doc, err
		},
		"views": func() string {
			var out strings.Builder
			for _, v := range views {
				fmt.Fprintf(&out, "### %s\n\n%s\n\n```sql\n%s\n```\n\n", v.name, v.doc, v.query)
			}
			return strings.TrimSuffix(out.String(), "\n\n")
		},
	}).ParseFiles("testdata/warehouse.md.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := page.Execute(&out, nil); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, out.Bytes(), "../../docs/warehouse.md")
}

func columnTable(columns []column) string {
	var out strings.Builder
	out.WriteString("| Column | DuckDB | BigQuery | Meaning |\n|---|---|---|---|\n")
	for _, c := range columns {
		field := bigQueryField(c)
		inBigQuery := string(field.Type)
		switch {
		case c.typ == numberMapType || c.typ == textMapType:
			inBigQuery = fmt.Sprintf("ARRAY<STRUCT<%s %s, %s %s>>", field.Schema[0].Name, field.Schema[0].Type, field.Schema[1].Name, field.Schema[1].Type)
		case field.Repeated:
			inBigQuery = "ARRAY<" + inBigQuery + ">"
		}
		always := ""
		if c.required {
			always = " Never NULL."
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s%s |\n", c.name, duckDBTypes[c.typ], inBigQuery, c.doc, always)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// TestEveryFieldHasAColumn sets each field of a row in turn: some column's value
// must change, and no two columns show the same field.
func TestEveryFieldHasAColumn(t *testing.T) {
	var r Rejected
	shown := map[string]string{}
	check := func(name string, field reflect.Value) {
		before := values(&r)
		fill(t, name, field)
		for column, v := range values(&r) {
			if !reflect.DeepEqual(before[column], v) {
				if other := shown[column]; other != "" {
					t.Errorf("column %s shows %s and %s", column, other, name)
				}
				shown[column] = name
			}
		}
		for _, by := range shown {
			if by == name {
				return
			}
		}
		t.Errorf("no column shows %s", name)
	}
	row, rejected := reflect.ValueOf(&r.Row).Elem(), reflect.ValueOf(&r).Elem()
	for i := range row.NumField() {
		check(row.Type().Field(i).Name, row.Field(i))
	}
	for i := range rejected.NumField() {
		if f := rejected.Type().Field(i); !f.Anonymous {
			check(f.Name, rejected.Field(i))
		}
	}
	for column := range values(&r) {
		if shown[column] == "" {
			t.Errorf("column %s shows no field", column)
		}
	}
}

// values returns what each column of events_rejected has.
func values(r *Rejected) map[string]any {
	all := map[string]any{}
	for _, c := range tables()[1].columns {
		all[c.name] = c.value(c.of(r))
	}
	return all
}

// fill gives a field a value that is not its zero.
func fill(t *testing.T, name string, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.Array:
		fill(t, name, v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Struct:
		v.Set(reflect.ValueOf(time.Unix(1, 0)))
	default:
		t.Fatalf("%s: the test cannot fill a %s", name, v.Kind())
	}
}
