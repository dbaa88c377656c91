// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// listed is what "go list" says about a package.
type listed struct {
	ImportPath string
	Export     string // file with what the compiler knows of its API
	Module     *struct{ Path string }
}

// list returns packages and all that they link.
func list(t *testing.T, flags []string, packages ...string) []listed {
	t.Helper()
	args := append([]string{"list", "-deps", "-json=ImportPath,Export,Module"}, flags...)
	cmd := exec.Command("go", append(args, packages...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// TestOnlyConstantsAreNames compiles what users might write. Were the type of
// names exported, or an alias of string, the second table would compile.
func TestOnlyConstantsAreNames(t *testing.T) {
	exports := map[string]string{}
	for _, p := range list(t, []string{"-export"}, ".") {
		exports[p.ImportPath] = p.Export
	}
	files := token.NewFileSet()
	compiled := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	compile := func(t *testing.T, statements string) error {
		t.Helper()
		source := `package outside
			import ("context"; "github.com/telemetrygateway/telemetry")
			type text string
			const name = "name"
			const typed string = "name"
			func named() string { return "name" }
			func f(ctx context.Context, r *telemetry.Recorder, variable string) { ` + statements + ` }`
		file, err := parser.ParseFile(files, "outside.go", source, 0)
		if err != nil {
			t.Fatal(err)
		}
		config := types.Config{Importer: compiled}
		_, err = config.Check("outside", files, []*ast.File{file}, nil)
		return err
	}
	for _, statements := range []string{
		`r.Record(ctx, "name", "name", telemetry.Params{})`,
		`r.Record(ctx, name, name, telemetry.Params{})`,
		`r.Record(ctx, name + "." + name, name, telemetry.Params{})`,
		`r.TryRecord(ctx, name, "name", telemetry.Params{})`,
		`r.RecordAll(ctx, telemetry.Entry{Feature: name, Action: "name"})`,
		`_ = telemetry.Metadata{"name": 1, "b": telemetry.Number(uint8(1)), "c": telemetry.Bool(true)}`,
		`m := telemetry.Metadata{}; m["name"] = 1`,
		`_ = telemetry.PrivateMetadata{name: variable}`,
		`_ = telemetry.Billing{Product: name, Category: "name"}`,
	} {
		if err := compile(t, statements); err != nil {
			t.Errorf("%s does not compile: %v", statements, err)
		}
	}
	for _, statements := range []string{
		`r.Record(ctx, variable, "name", telemetry.Params{})`,
		`r.Record(ctx, "name", variable, telemetry.Params{})`,
		`r.Record(ctx, "name" + variable, "name", telemetry.Params{})`,
		`r.Record(ctx, named(), "name", telemetry.Params{})`,
		`r.Record(ctx, text(variable), "name", telemetry.Params{})`,
		`r.Record(ctx, typed, "name", telemetry.Params{})`,
		`r.Record(ctx, telemetry.constant(variable), "name", telemetry.Params{})`,
		`r.TryRecord(ctx, variable, "name", telemetry.Params{})`,
		`r.TryRecord(ctx, "name", variable, telemetry.Params{})`,
		`r.RecordAll(ctx, telemetry.Entry{Feature: variable, Action: "name"})`,
		`r.RecordAll(ctx, telemetry.Entry{Feature: "name", Action: variable})`,
		`_ = telemetry.Metadata{variable: 1}`,
		`m := telemetry.Metadata{}; m[variable] = 1`,
		`_ = telemetry.Metadata(map[string]float64{variable: 1})`,
		`_ = telemetry.Metadata{"name": variable}`,
		`_ = telemetry.PrivateMetadata{variable: 1}`,
		`_ = telemetry.PrivateMetadata(map[string]any{variable: 1})`,
		`_ = telemetry.Billing{Product: variable}`,
		`_ = telemetry.Billing{Category: variable}`,
	} {
		err := compile(t, statements)
		if err == nil {
			t.Errorf("%s compiles", statements)
			continue
		}
		// It must be this that is wrong with it, and not a slip in this test.
		if message := err.Error(); !strings.Contains(message, "cannot use") && !strings.Contains(message, "cannot convert") && !strings.Contains(message, "constant not exported") {
			t.Errorf("%s does not compile for another reason: %v", statements, err)
		}
	}
}

// TestModules holds what importing the package costs a program: two modules.
func TestModules(t *testing.T) {
	linked := map[string]bool{}
	for _, p := range list(t, nil, ".", "./telemetrytest") {
		if p.Module != nil {
			linked[p.Module.Path] = true
		}
	}
	want := []string{"github.com/google/uuid", "github.com/telemetrygateway/telemetry", "google.golang.org/protobuf"}
	if got := slices.Sorted(maps.Keys(linked)); !slices.Equal(got, want) {
		t.Errorf("modules linked = %v, want %v", got, want)
	}
}
