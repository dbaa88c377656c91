// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"
)

const (
	// bigQueryVersion is of the tables and views. It goes up with every column or
	// view that is added or changed.
	bigQueryVersion = 1
	// bigQueryLabel is on our tables and views and has their version as its value.
	bigQueryLabel = "telemetrygateway"
)

// bigQueryField returns the type of a column. Keys are texts as DuckDB's UUIDs
// show them. The payload is a text and no JSON, because BigQuery's JSON keeps
// neither −0 nor numbers beyond 64 bits.
func bigQueryField(c column) *bigquery.FieldSchema {
	f := &bigquery.FieldSchema{Name: c.name, Description: c.doc, Required: c.required}
	pair := func(value bigquery.FieldType) bigquery.Schema {
		return bigquery.Schema{{Name: "key", Type: bigquery.StringFieldType}, {Name: "value", Type: value}}
	}
	switch c.typ {
	case textType, keyType:
		f.Type = bigquery.StringFieldType
	case integerType:
		f.Type = bigquery.IntegerFieldType
	case boolType:
		f.Type = bigquery.BooleanFieldType
	case timeType:
		f.Type = bigquery.TimestampFieldType
	case jsonType:
		f.Type = bigquery.JSONFieldType
		if c.name == "payload" {
			f.Type = bigquery.StringFieldType
		}
	case bytesType:
		f.Type = bigquery.BytesFieldType
	case textsType:
		f.Type, f.Repeated = bigquery.StringFieldType, true
	case numberMapType:
		f.Type, f.Repeated, f.Schema = bigquery.RecordFieldType, true, pair(bigquery.FloatFieldType)
	case textMapType:
		f.Type, f.Repeated, f.Schema = bigquery.RecordFieldType, true, pair(bigquery.StringFieldType)
	}
	return f
}

func bigQuerySchema(columns []column) bigquery.Schema {
	var s bigquery.Schema
	for _, c := range columns {
		s = append(s, bigQueryField(c))
	}
	return s
}

func rejectedTable() table {
	all := tables()
	return all[slices.IndexFunc(all, func(t table) bool { return t.name == "events_rejected" })]
}

// prepare looks at the dataset and makes the tables, columns and views that it
// has not. The dataset has to be there: where it is and who may read it are not
// for us to choose.
func (w *bigQuery) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bigQueryOpenTimeout)
	defer cancel()
	if err := w.findDataset(ctx); err != nil {
		return err
	}
	for _, t := range []table{
		{"events_raw", "Every event each time that it was written. Read events instead.", rowColumns},
		{"events_rejected_raw", "Every rejected event each time that it was written. Read events_rejected instead.", rejectedTable().columns},
	} {
		if err := w.prepareTable(ctx, t); err != nil {
			return err
		}
	}
	for _, v := range bigQueryViews(w.project, w.dataset) {
		if err := w.prepareView(ctx, v); err != nil {
			return err
		}
	}
	w.tables = true
	return nil
}

func (w *bigQuery) findDataset(ctx context.Context) error {
	_, err := w.rest.Dataset(w.dataset).Metadata(ctx)
	if isNotFound(err) {
		return fmt.Errorf("the dataset does not exist: make it where its data shall stay, with “bq --location=LOCATION mk --dataset %s:%s” (%w)", w.project, w.dataset, err)
	}
	return w.explain(err)
}

func (w *bigQuery) prepareTable(ctx context.Context, t table) error {
	ref := w.rest.Dataset(w.dataset).Table(t.name)
	meta, err := ref.Metadata(ctx)
	if isNotFound(err) {
		w.log.Info("making a table", "table", ref.FullyQualifiedName())
		err = ref.Create(ctx, &bigquery.TableMetadata{
			Description: t.doc,
			Schema:      bigQuerySchema(t.columns),
			// By our clock: that of senders may say any day, and partitions are
			// limited.
			TimePartitioning: &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType, Field: "received_at"},
			Clustering:       &bigquery.Clustering{Fields: []string{"source_id", "feature", "action"}},
			Labels:           map[string]string{bigQueryLabel: strconv.Itoa(bigQueryVersion)},
		})
		if !isConflict(err) {
			return w.explain(err)
		}
		meta, err = ref.Metadata(ctx) // another process was faster
	}
	if err != nil {
		return w.explain(err)
	}
	if meta.Type != bigquery.RegularTable {
		return fmt.Errorf("%s is not a table (%s): name another dataset, or drop it", ref.FullyQualifiedName(), meta.Type)
	}
	missing, err := missingFields(meta.Schema, t.columns)
	if err != nil {
		return fmt.Errorf("%s is not a table of ours: %w; name another dataset, or drop the table", ref.FullyQualifiedName(), err)
	}
	if len(missing) == 0 {
		return nil
	}
	w.log.Info("adding columns to a table", "table", ref.FullyQualifiedName(), "columns", len(missing))
	update := bigquery.TableMetadataToUpdate{Schema: append(meta.Schema, missing...)}
	update.SetLabel(bigQueryLabel, strconv.Itoa(bigQueryVersion))
	_, err = ref.Update(ctx, update, meta.ETag)
	if hasStatus(err, http.StatusPreconditionFailed) {
		return fmt.Errorf("%s has just been changed by another process: try again (%w)", ref.FullyQualifiedName(), err)
	}
	return w.explain(err)
}

// missingFields returns the fields that a table has to be given, or in what it
// differs so that rows would not fit. Of what we do not know, nothing may be
// required.
func missingFields(have bigquery.Schema, columns []column) (missing bigquery.Schema, err error) {
	var differ []string
	for _, want := range bigQuerySchema(columns) {
		i := slices.IndexFunc(have, func(f *bigquery.FieldSchema) bool { return strings.EqualFold(f.Name, want.Name) })
		switch {
		case i >= 0 && !sameField(have[i], want):
			differ = append(differ, fmt.Sprintf("column %s is %s, not %s", want.Name, describeField(have[i]), describeField(want)))
		case i < 0 && want.Required:
			differ = append(differ, fmt.Sprintf("there is no column %s", want.Name))
		case i < 0:
			missing = append(missing, want)
		}
	}
	for _, f := range have {
		if f.Required && !slices.ContainsFunc(columns, func(c column) bool { return strings.EqualFold(c.name, f.Name) }) {
			differ = append(differ, fmt.Sprintf("column %s is required and not known", f.Name))
		}
	}
	if len(differ) > 0 {
		return nil, errors.New(strings.Join(differ, ", "))
	}
	return missing, nil
}

// sameField reports whether what we write as want fits into have.
func sameField(have, want *bigquery.FieldSchema) bool {
	if have.Type != want.Type || have.Repeated != want.Repeated || have.Required && !want.Required || len(have.Schema) < len(want.Schema) {
		return false
	}
	for i := range want.Schema {
		if have.Schema[i].Name != want.Schema[i].Name || !sameField(have.Schema[i], want.Schema[i]) {
			return false
		}
	}
	return true
}

func describeField(f *bigquery.FieldSchema) string {
	switch {
	case f.Repeated:
		return "REPEATED " + string(f.Type)
	case f.Required:
		return "REQUIRED " + string(f.Type)
	}
	return string(f.Type)
}

// prepareView makes a view, or replaces one of an older version. One of a newer
// version stays.
func (w *bigQuery) prepareView(ctx context.Context, v view) error {
	ref := w.rest.Dataset(w.dataset).Table(v.name)
	meta, err := ref.Metadata(ctx)
	if isNotFound(err) {
		w.log.Info("making a view", "view", ref.FullyQualifiedName())
		err = ref.Create(ctx, &bigquery.TableMetadata{
			Description: v.doc, ViewQuery: v.query, UseStandardSQL: true,
			Labels: map[string]string{bigQueryLabel: strconv.Itoa(bigQueryVersion)},
		})
		if isConflict(err) {
			return nil // another process was faster
		}
		return w.explain(err)
	}
	if err != nil {
		return w.explain(err)
	}
	version, err := strconv.Atoi(meta.Labels[bigQueryLabel])
	if meta.Type != bigquery.ViewTable || err != nil {
		return fmt.Errorf("%s is not a view of ours: name another dataset, or drop it", ref.FullyQualifiedName())
	}
	if version > bigQueryVersion || version == bigQueryVersion && meta.ViewQuery == v.query {
		return nil
	}
	w.log.Info("replacing a view", "view", ref.FullyQualifiedName())
	update := bigquery.TableMetadataToUpdate{ViewQuery: v.query, UseLegacySQL: false, Description: v.doc}
	update.SetLabel(bigQueryLabel, strconv.Itoa(bigQueryVersion))
	_, err = ref.Update(ctx, update, "")
	return w.explain(err)
}

func isNotFound(err error) bool { return hasStatus(err, http.StatusNotFound) }
func isConflict(err error) bool { return hasStatus(err, http.StatusConflict) }

func hasStatus(err error, code int) bool {
	var api *googleapi.Error
	return errors.As(err, &api) && api.Code == code
}
