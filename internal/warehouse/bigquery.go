// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/managedwriter"
)

// bigQueryBatchBytes leaves room for what rows have besides their payloads, so
// that a batch is usually one request.
const bigQueryBatchBytes = 6 << 20

// bigQuery lands rows in BigQuery. What has landed can only be added to, and
// asking whether a key is known would cost a query for each batch: so every row
// goes into a table events_raw, and the view events shows each key once. Result
// therefore counts each row as landed.
//
// Rows are appended to a write stream of this process's own, at offsets. When it
// is not known whether a request arrived, it is sent again to the same offset of
// the same stream, where BigQuery takes it only once. Only when a stream is lost
// do copies come to be.
type bigQuery struct {
	project, dataset string
	log              *slog.Logger
	rest             *bigquery.Client
	write            *managedwriter.Client
	queries          chan struct{} // holds one for each query under way
	closed           chan struct{}

	mu        sync.Mutex // held by Insert
	events    *bigQueryStream
	rejected  *bigQueryStream
	tables    bool // they have been checked since the last doubt
	closeOnce sync.Once
}

// Names as BigQuery has them. A project may have a domain in front.
var (
	bigQueryProject = regexp.MustCompile(`^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{2,}$`)
	bigQueryDataset = regexp.MustCompile(`^[A-Za-z0-9_]{1,1000}$`)
)

func parseBigQuery(rawURL string) (project, dataset string, err error) {
	rest, ok := strings.CutPrefix(rawURL, "bigquery://")
	if !ok {
		return "", "", errors.New("want bigquery://PROJECT/DATASET")
	}
	path, params, hasParams := strings.Cut(rest, "?")
	project, dataset, _ = strings.Cut(path, "/")
	switch {
	case !bigQueryProject.MatchString(project):
		return "", "", fmt.Errorf("want bigquery://PROJECT/DATASET; %q is not the ID of a project", project)
	case !bigQueryDataset.MatchString(dataset):
		return "", "", fmt.Errorf("want bigquery://PROJECT/DATASET; the name of a dataset has letters, digits and underscores, unlike %q", dataset)
	}
	if hasParams {
		q, err := url.ParseQuery(params)
		if err != nil {
			return "", "", err
		}
		for name := range q {
			return "", "", fmt.Errorf("unknown parameter %q; bigquery: takes none", name)
		}
	}
	return project, dataset, nil
}

func checkBigQuery(rawURL string) error {
	_, _, err := parseBigQuery(rawURL)
	return err
}

func openBigQuery(ctx context.Context, rawURL string, o Options) (Warehouse, error) {
	w, err := connectBigQuery(ctx, rawURL, o)
	if err != nil {
		return nil, err
	}
	if w.write, err = dialBigQueryWrite(ctx, w.project); err != nil {
		w.Close()
		return nil, err
	}
	w.events = w.newStream("events_raw", rowColumns)
	w.rejected = w.newStream("events_rejected_raw", rejectedTable().columns)
	if err := w.prepare(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func openBigQueryReader(ctx context.Context, rawURL string, o Options) (Reader, error) {
	w, err := connectBigQuery(ctx, rawURL, o)
	if err != nil {
		return nil, err
	}
	if err := w.findDataset(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func connectBigQuery(ctx context.Context, rawURL string, o Options) (*bigQuery, error) {
	project, dataset, err := parseBigQuery(rawURL)
	if err != nil {
		return nil, err
	}
	rest, err := dialBigQuery(ctx, project)
	if err != nil {
		return nil, err
	}
	return &bigQuery{
		project: project, dataset: dataset, log: o.Log, rest: rest,
		queries: make(chan struct{}, 2), closed: make(chan struct{}),
	}, nil
}

// Insert appends the rows to the raw tables. A batch that fits into one request
// for each table, as batches of [BatchBytes] usually do, lands whole or not at
// all; of a larger one a part may have landed when it fails.
func (w *bigQuery) Insert(ctx context.Context, b *Batch) (Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isClosed() {
		return Result{}, ErrClosed
	}
	if !w.tables {
		if err := w.prepare(ctx); err != nil {
			return Result{}, err
		}
	}
	var r Result
	events := make([]bigQueryRow, len(b.Events))
	for i := range b.Events {
		events[i] = bigQueryRow{index: i, forms: w.events.eventForms(&b.Events[i])}
	}
	refused, err := w.events.insert(ctx, events)
	if err != nil {
		return Result{}, w.failed(err)
	}
	rejected := make([]bigQueryRow, len(b.Rejected))
	for i := range b.Rejected {
		rejected[i] = bigQueryRow{index: i, mustLand: true, forms: w.rejected.rejectedForms(&b.Rejected[i])}
	}
	unwanted, err := w.rejected.insert(ctx, rejected)
	if err == nil && len(unwanted) > 0 {
		// All there is of these is an ID, a reason and a time.
		err = fmt.Errorf("%s takes no rows: %s", w.rejected.table, unwanted[0].Message)
	}
	if err != nil {
		return Result{}, w.failed(err)
	}
	r.Landed, r.Refused, r.Rejected = len(b.Events)-len(refused), refused, len(b.Rejected)
	return r, nil
}

// failed notes that the tables have to be looked at again if err may mean that
// somebody has changed them, and explains it.
func (w *bigQuery) failed(err error) error {
	if v := outcomeOf(err); v != outcomeAgain && v != outcomeQuota {
		w.tables = false
	}
	return w.explain(err)
}

// Ping asks the Storage Write API for the default stream of the table.
func (w *bigQuery) Ping(ctx context.Context) error {
	if w.isClosed() {
		return ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, bigQueryPingTimeout)
	defer cancel()
	return w.explain(w.events.ping(ctx))
}

func (w *bigQuery) isClosed() bool {
	select {
	case <-w.closed:
		return true
	default:
		return false
	}
}

// Close ends queries and waits for Insert.
func (w *bigQuery) Close() error {
	var err error
	w.closeOnce.Do(func() {
		close(w.closed)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.write != nil {
			w.events.drop()
			w.rejected.drop()
			err = w.write.Close()
		}
		err = errors.Join(err, w.rest.Close())
	})
	return err
}
