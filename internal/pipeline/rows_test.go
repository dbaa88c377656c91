// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/golden"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// TestRows compares the rows of the messages that the documentation of the
// payload shows with files that a person has read.
func TestRows(t *testing.T) {
	for name, m := range published(t) {
		t.Run(name, func(t *testing.T) {
			row := warehouse.Rejected{}
			if isDeadLetter(name) {
				DecodeRejected(&m, &row)
			} else if v := Decode(&m, &row.Row); v != nil {
				t.Fatal(v)
			}
			row.Payload = nil // as published
			golden.Check(t, showRow(t, row), filepath.Join("testdata", "rows", name+".json"))
		})
	}
}

// showRow returns the columns that have a value, in order.
func showRow(t *testing.T, row warehouse.Rejected) []byte {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("{")
	var show func(reflect.Value)
	show = func(v reflect.Value) {
		for i := range v.NumField() {
			name, value := v.Type().Field(i).Name, v.Field(i)
			if name == "Row" {
				show(value)
				continue
			}
			if value.IsZero() {
				continue
			}
			shown := value.Interface()
			switch name {
			case "PrivateMetadata":
				shown = json.RawMessage(value.Bytes())
			case "KeyHash", "RejectedID":
				id := value.Interface().([16]byte)
				shown = hex.EncodeToString(id[:])
			}
			var text bytes.Buffer
			enc := json.NewEncoder(&text)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(shown); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if out.Len() > 1 {
				out.WriteByte(',')
			}
			out.WriteString(`"` + name + `":`)
			out.Write(text.Bytes())
		}
	}
	show(reflect.ValueOf(row))
	out.WriteString("}")
	var indented bytes.Buffer
	if err := json.Indent(&indented, out.Bytes(), "", "  "); err != nil {
		t.Fatal(err)
	}
	return append(indented.Bytes(), '\n')
}

// TestFullRow fails when a column is added that no payload fills, or a field of
// the contract that is in no column.
func TestFullRow(t *testing.T) {
	m := published(t)["licensed"]
	var row warehouse.Row
	if v := Decode(&m, &row); v != nil {
		t.Fatal(v)
	}
	v := reflect.ValueOf(row)
	for i := range v.NumField() {
		switch name := v.Type().Field(i).Name; name {
		case "Environment": // of a service
		case "ReplayOf", "LandedAt", "Incomplete": // of later
		default:
			if v.Field(i).IsZero() {
				t.Errorf("%s is not set", name)
			}
		}
	}
}
