// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package bigqueryfake

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	bigquery "google.golang.org/api/bigquery/v2"
)

// tableName names a table or view, or a dataset if it has no table.
type tableName struct{ project, dataset, table string }

func (n tableName) String() string {
	if n.table == "" {
		return n.project + ":" + n.dataset
	}
	return n.project + ":" + n.dataset + "." + n.table
}

// sql is how DuckDB has it: a dataset is a schema whose name has a dot.
func (n tableName) sql() string { return quote(n.project+"."+n.dataset) + "." + quote(n.table) }

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// table is a table or view. Its fields are replaced, never changed.
type table struct {
	meta *bigquery.Table
	// was is the schema before the last change, which writers see lag more times.
	was *bigquery.TableSchema
	lag int
}

// isView reports whether it is one, which nothing can be written to.
func (t *table) isView() bool { return t.meta.View != nil }

// apiError is an error of the REST API.
type apiError struct {
	status  int
	reason  string
	message string
}

func (e *apiError) Error() string { return e.message }

func notFound(kind string, n tableName) error {
	return &apiError{http.StatusNotFound, "notFound", "Not found: " + kind + " " + n.String()}
}

func invalid(format string, a ...any) error {
	return &apiError{http.StatusBadRequest, "invalid", fmt.Sprintf(format, a...)}
}

func (s *Server) allowed(permission string, n tableName) error {
	if !slices.Contains(s.denied, permission) {
		return nil
	}
	kind := "Table"
	if n.table == "" {
		kind = "Dataset"
	}
	return &apiError{http.StatusForbidden, "accessDenied", fmt.Sprintf("Access Denied: %s %s: Permission %s denied on %s %s (or it may not exist).",
		kind, n, permission, strings.ToLower(kind), n)}
}

func (s *Server) getDataset(n tableName) (*bigquery.Dataset, error) {
	if err := s.allowed("bigquery.datasets.get", n); err != nil {
		return nil, err
	}
	if s.tables[n] == nil {
		return nil, notFound("Dataset", n)
	}
	return &bigquery.Dataset{Id: n.String(), Location: "US", DatasetReference: &bigquery.DatasetReference{ProjectId: n.project, DatasetId: n.dataset}}, nil
}

func (s *Server) getTable(n tableName) (*bigquery.Table, error) {
	if err := s.allowed("bigquery.tables.get", n); err != nil {
		return nil, err
	}
	if s.tables[tableName{n.project, n.dataset, ""}] == nil {
		return nil, notFound("Dataset", tableName{n.project, n.dataset, ""})
	}
	if s.tables[n] == nil {
		return nil, notFound("Table", n)
	}
	return s.tables[n].meta, nil
}

func (s *Server) createTable(dataset tableName, meta *bigquery.Table) (*bigquery.Table, error) {
	n := dataset
	if meta.TableReference != nil {
		n.table = meta.TableReference.TableId
	}
	if err := s.allowed("bigquery.tables.create", dataset); err != nil {
		return nil, err
	}
	if s.tables[dataset] == nil {
		return nil, notFound("Dataset", dataset)
	}
	if n.table == "" {
		return nil, invalid("Required parameter is missing: tableId")
	}
	if s.tables[n] != nil {
		return nil, &apiError{http.StatusConflict, "duplicate", "Already Exists: Table " + n.String()}
	}
	meta.Type = "TABLE"
	if meta.View != nil {
		meta.Type = "VIEW"
		if err := s.defineView(n, meta.View); err != nil {
			return nil, err
		}
	} else {
		if err := validTable(meta); err != nil {
			return nil, err
		}
		if _, err := s.db.Exec(createSQL(n, meta.Schema)); err != nil {
			return nil, invalid("%v", err)
		}
	}
	return s.store(n, meta, &table{}), nil
}

// store keeps meta as the table's, with a new etag.
func (s *Server) store(n tableName, meta *bigquery.Table, t *table) *bigquery.Table {
	s.serial++
	meta.Id, meta.Etag = n.String(), strconv.Itoa(s.serial)
	meta.TableReference = &bigquery.TableReference{ProjectId: n.project, DatasetId: n.dataset, TableId: n.table}
	t.meta = meta
	s.tables[n] = t
	return meta
}

func (s *Server) patchTable(n tableName, etag string, patch *bigquery.Table) (*bigquery.Table, error) {
	if _, err := s.getTable(n); err != nil {
		return nil, err
	}
	if err := s.allowed("bigquery.tables.update", n); err != nil {
		return nil, err
	}
	t := s.tables[n]
	if etag != "" && etag != t.meta.Etag {
		return nil, &apiError{http.StatusPreconditionFailed, "conditionNotMet", "Precondition check failed."}
	}
	meta, changed := *t.meta, *t
	if patch.View != nil {
		if !t.isView() {
			return nil, invalid("Cannot add view definition to a table: %s", n)
		}
		if err := s.defineView(n, patch.View); err != nil {
			return nil, err
		}
		meta.View = patch.View
	}
	if patch.Schema != nil && !t.isView() {
		added, err := addedFields(n, t.meta.Schema.Fields, patch.Schema.Fields)
		if err != nil {
			return nil, err
		}
		for _, f := range added {
			if _, err := s.db.Exec(fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", n.sql(), quote(f.Name), duckType(f))); err != nil {
				return nil, invalid("%v", err)
			}
		}
		if len(added) > 0 {
			changed.was, changed.lag = t.meta.Schema, s.lag
			s.lag = 0
		}
		meta.Schema = patch.Schema
	}
	for name, value := range patch.Labels {
		if meta.Labels == nil {
			meta.Labels = map[string]string{}
		}
		meta.Labels[name] = value
	}
	if patch.Description != "" {
		meta.Description = patch.Description
	}
	return s.store(n, &meta, &changed), nil
}

// addedFields returns what is in fields beyond those that are there, all of which
// must stay as they are, and in their order.
func addedFields(n tableName, there, fields []*bigquery.TableFieldSchema) ([]*bigquery.TableFieldSchema, error) {
	if len(fields) < len(there) {
		return nil, invalid("Provided Schema does not match Table %s. Field %s is missing in new schema", n, there[len(fields)].Name)
	}
	for i, f := range there {
		if fields[i].Name != f.Name || fieldType(fields[i]) != fieldType(f) {
			return nil, invalid("Provided Schema does not match Table %s. Field %s has changed type from %s to %s", n, f.Name, f.Type, fields[i].Type)
		}
		if mode(fields[i]) != mode(f) && mode(f) != "REQUIRED" {
			return nil, invalid("Provided Schema does not match Table %s. Field %s has changed mode from %s to %s", n, f.Name, mode(f), mode(fields[i]))
		}
	}
	for _, f := range fields[len(there):] {
		if mode(f) == "REQUIRED" {
			return nil, invalid("Provided Schema does not match Table %s. Cannot add required fields to an existing schema. (field: %s)", n, f.Name)
		}
	}
	return fields[len(there):], nil
}

func (s *Server) defineView(n tableName, v *bigquery.ViewDefinition) error {
	if _, err := s.db.Exec("CREATE OR REPLACE VIEW " + n.sql() + " AS " + translate(v.Query)); err != nil {
		return &apiError{http.StatusBadRequest, "invalidQuery", err.Error()}
	}
	return nil
}

// validTable checks what BigQuery would of a new table.
func validTable(meta *bigquery.Table) error {
	if meta.Schema == nil {
		return invalid("Schema has no fields.")
	}
	types := map[string]string{}
	for _, f := range meta.Schema.Fields {
		if duckType(f) == "" {
			return invalid("Invalid value for type: %s is not a valid value", f.Type)
		}
		if types[f.Name] != "" {
			return invalid("Duplicate field name: %s", f.Name)
		}
		types[f.Name] = fieldType(f)
		if mode(f) == "REPEATED" {
			types[f.Name] = "REPEATED"
		}
	}
	if p := meta.TimePartitioning; p != nil && types[p.Field] != "TIMESTAMP" && types[p.Field] != "DATE" {
		return invalid("The field specified for partitioning can only be of type TIMESTAMP, DATE or DATETIME: %s", p.Field)
	}
	if c := meta.Clustering; c != nil {
		if len(c.Fields) > 4 {
			return invalid("Clustering can have at most 4 fields")
		}
		for _, name := range c.Fields {
			if t := types[name]; t == "" || t == "REPEATED" || t == "RECORD" || t == "JSON" {
				return invalid("Clustering is not possible on field %s", name)
			}
		}
	}
	return nil
}

// fieldType is a field's type by the older of its two names.
func fieldType(f *bigquery.TableFieldSchema) string {
	switch f.Type {
	case "INT64":
		return "INTEGER"
	case "FLOAT64":
		return "FLOAT"
	case "BOOL":
		return "BOOLEAN"
	case "STRUCT":
		return "RECORD"
	}
	return f.Type
}

func mode(f *bigquery.TableFieldSchema) string {
	if f.Mode == "" {
		return "NULLABLE"
	}
	return f.Mode
}

func createSQL(n tableName, schema *bigquery.TableSchema) string {
	var columns []string
	for _, f := range schema.Fields {
		columns = append(columns, quote(f.Name)+" "+duckType(f))
	}
	return "CREATE TABLE " + n.sql() + " (" + strings.Join(columns, ", ") + ")"
}

// duckType is the type in DuckDB, or empty if there is none here.
func duckType(f *bigquery.TableFieldSchema) string {
	// TIMESTAMP is without a time zone there, and all times are UTC.
	t := map[string]string{
		"STRING": "VARCHAR", "BYTES": "BLOB", "INTEGER": "BIGINT", "FLOAT": "DOUBLE", "BOOLEAN": "BOOLEAN",
		"TIMESTAMP": "TIMESTAMP", "DATE": "DATE", "JSON": "JSON",
	}[fieldType(f)]
	if fieldType(f) == "RECORD" {
		var fields []string
		for _, sub := range f.Fields {
			fields = append(fields, quote(sub.Name)+" "+duckType(sub))
		}
		t = "STRUCT(" + strings.Join(fields, ", ") + ")"
	}
	if t != "" && mode(f) == "REPEATED" {
		t += "[]"
	}
	return t
}
