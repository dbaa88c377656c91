// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// TestOutageOfTwo has two batches fail for reasons of their own, in turn: not
// every attempt is worth a line, but a reason that stays is.
func TestOutageOfTwo(t *testing.T) {
	var book logBook
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	o := outage{what: "insert", log: book.logger(), now: func() time.Time { return now }}
	says := func(lines int) {
		t.Helper()
		if n := book.count("cannot insert"); n != lines {
			t.Errorf("logged %d times, want %d\n%s", n, lines, &book.text)
		}
	}
	for range 10 {
		o.failed(errors.New("of one"))
		o.failed(errors.New("of the other"))
		now = now.Add(time.Second)
	}
	says(1)
	now = now.Add(mostWait)
	o.failed(errors.New("of the other"))
	o.failed(errors.New("of the other"))
	says(2)
	if err := o.current(); err == nil || !strings.Contains(err.Error(), "of the other") {
		t.Errorf("current = %v", err)
	}
	o.over()
	o.failed(errors.New("of the other"))
	says(3) // another outage
}

// TestFileAwayIsSaidOnce moves a DuckDB file away for some attempts. Of all that
// take part one says so, once.
func TestFileAwayIsSaidOnce(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		l := some(t, r, 40)
		var book logBook
		o := r.options(t)
		o.Log = book.logger()
		path, _ := warehouse.Path(r.warehouse)
		var attempts atomic.Int64
		o.Open = func(ctx context.Context) (warehouse.Warehouse, error) {
			w, err := warehouse.Open(ctx, r.warehouse, warehouse.Options{Same: Same, Log: o.Log})
			if err != nil {
				return nil, err
			}
			return troubled{w, func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error) {
				var err error
				switch attempts.Add(1) {
				case 2: // there is a log by now
					err = os.Rename(path, path+".aside")
				case 7:
					err = os.Rename(path+".aside", path)
				}
				if err != nil {
					t.Error(err)
				}
				return insert(ctx, b)
			}}, nil
		}
		var done <-chan struct{}
		o.Events, done = handled(o.Events, 40)
		stop := start(t, New(o))
		<-done
		stop()
		if n := book.count("level=ERROR"); n != 1 {
			t.Errorf("said %d times that the file is away, want 1\n%s", n, &book.text)
		}
		r.drain(t)
		l.check(t, r)
	})
}
