// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/iterator"
)

// Query runs a statement as a job, with the dataset as the default one. That it
// only reads is asked of BigQuery first, which costs nothing.
func (w *bigQuery) Query(ctx context.Context, sql string) (Rows, error) {
	select {
	case w.queries <- struct{}{}:
	case <-w.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &bigQueryRows{release: sync.OnceFunc(func() { cancel(); <-w.queries })}
	go func() {
		select {
		case <-w.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := w.startQuery(ctx, sql, r); err != nil {
		r.release()
		if w.isClosed() {
			return nil, ErrClosed
		}
		return nil, err
	}
	return r, nil
}

func (w *bigQuery) startQuery(ctx context.Context, sql string, r *bigQueryRows) error {
	query := w.rest.Query(sql)
	query.DefaultProjectID, query.DefaultDatasetID = w.project, w.dataset
	query.DryRun = true
	plan, err := query.Run(ctx)
	if err != nil {
		return w.explain(err)
	}
	if s, ok := plan.LastStatus().Statistics.Details.(*bigquery.QueryStatistics); !ok || s.StatementType != "SELECT" {
		return errors.New("only one statement, and one that reads, can be run: begin it with SELECT or WITH")
	}
	query.DryRun = false
	job, err := query.Run(ctx)
	if err != nil {
		return w.explain(err)
	}
	if r.rows, err = job.Read(ctx); err == nil {
		// The first row is read now: the columns are known with it.
		r.err = r.rows.Next(&r.first)
		if r.err != nil && !errors.Is(r.err, iterator.Done) {
			err = r.err
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			cancelJob(ctx, job)
		}
		return w.explain(err)
	}
	r.schema = r.rows.Schema
	return nil
}

// cancelJob stops a job that nobody waits for: until then it costs.
func cancelJob(ctx context.Context, job *bigquery.Job) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bigQueryPingTimeout)
	defer cancel()
	job.Cancel(ctx) // as well as we can
}

// bigQueryRows is the answer to a query.
type bigQueryRows struct {
	rows    *bigquery.RowIterator
	schema  bigquery.Schema
	first   []bigquery.Value
	err     error // of reading the first
	release func()
}

func (r *bigQueryRows) Columns() []string {
	names := make([]string, len(r.schema))
	for i, f := range r.schema {
		names[i] = f.Name
	}
	return names
}

func (r *bigQueryRows) Next() ([]any, error) {
	values := r.first
	if r.first = nil; values == nil && r.err == nil {
		r.err = r.rows.Next(&values)
	}
	switch {
	case errors.Is(r.err, iterator.Done):
		return nil, io.EOF
	case r.err != nil:
		return nil, r.err
	}
	row := make([]any, len(values))
	for i, v := range values {
		row[i] = bigQueryValue(r.schema[i], v)
	}
	return row, nil
}

func (r *bigQueryRows) Close() error {
	r.release()
	return nil
}

// bigQueryValue makes of a value one of those that Rows has.
func bigQueryValue(f *bigquery.FieldSchema, v bigquery.Value) any {
	switch v := v.(type) {
	case nil:
		return nil
	case []bigquery.Value:
		if !f.Repeated {
			fields := make(map[string]any, len(v))
			for i, sub := range f.Schema {
				fields[sub.Name] = bigQueryValue(sub, v[i])
			}
			return fields
		}
		element := *f
		element.Repeated = false
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = bigQueryValue(&element, e)
		}
		return list
	case string:
		if f.Type == bigquery.JSONFieldType {
			return json.RawMessage(v)
		}
		return v
	case bool, int64, float64, []byte:
		return v
	case time.Time:
		return v.UTC()
	case *big.Rat:
		if n, exact := v.Float64(); exact {
			return n
		}
		return bigquery.BigNumericString(v)
	}
	return fmt.Sprint(v) // DATE, TIME, INTERVAL and others: as BigQuery writes them
}
