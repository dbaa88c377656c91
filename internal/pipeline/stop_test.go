// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// TestStopFinishesWhatItBegan stops a pipeline in the middle of an insertion. It
// is finished and acknowledged.
func TestStopFinishesWhatItBegan(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		l := some(t, r, 16)
		publish(t, r.events, l.addPoison(1))
		o := r.options(t)
		o.Events = r.events.subscribe(t, topic.BatchOptions{})
		inserting, stopped := make(chan struct{}), make(chan struct{})
		o.Open = r.trouble(func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error) {
			if len(b.Events) > 0 {
				close(inserting)
				<-stopped
			}
			return insert(ctx, b)
		})
		p := New(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		<-inserting
		cancel()
		close(stopped)
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		again := r.drain(t)
		for _, result := range []string{"landed", "redelivered"} {
			if n := metric(t, again, `telemetry_pipeline_events_total{result="`+result+`"}`); n != "0" {
				t.Errorf("%s events were %s after the pipeline had stopped", n, result)
			}
		}
		l.check(t, r)
	})
}

// away is a warehouse that nothing can be inserted into.
type away struct {
	warehouse.Warehouse
	insert func(context.Context) error
}

func (w away) Insert(ctx context.Context, _ *warehouse.Batch) (warehouse.Result, error) {
	return warehouse.Result{}, w.insert(ctx)
}

func (away) Close() error { return nil }

// withoutWarehouse runs f with a pipeline that has a batch to insert, on a clock
// that goes by itself.
func withoutWarehouse(t *testing.T, insert func(context.Context) error, f func(t *testing.T, o Options)) {
	synctest.Test(t, func(t *testing.T) {
		r := &road{events: memoryCarrier(t), deadLetters: memoryCarrier(t)}
		some(t, r, 10)
		o := r.options(t)
		o.Open = func(context.Context) (warehouse.Warehouse, error) { return away{insert: insert}, nil }
		f(t, o)
	})
}

// TestStopWaitsForNothing stops a pipeline that waits for its warehouse.
func TestStopWaitsForNothing(t *testing.T) {
	withoutWarehouse(t, func(context.Context) error { return errDisk }, func(t *testing.T, o Options) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, cancel)
		began := time.Now()
		if err := New(o).Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(began); took != time.Hour {
			t.Errorf("it stopped after %v, want at once, after an hour", took)
		}
	})
}

// TestStopHasADeadline stops a pipeline whose insertion hangs.
func TestStopHasADeadline(t *testing.T) {
	withoutWarehouse(t, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, func(t *testing.T, o Options) {
		o.Grace = 20 * time.Second
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, cancel)
		began := time.Now()
		if err := New(o).Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(began); took != time.Hour+o.Grace {
			t.Errorf("it stopped after %v, want %v after an hour", took, o.Grace)
		}
	})
}

// TestBatchTaken has a batch be given to another receiver during its insertion,
// which then ends at once.
func TestBatchTaken(t *testing.T) {
	withoutWarehouse(t, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, func(t *testing.T, o Options) {
		ctx, cancel := context.WithCancel(t.Context())
		o.Events = tapped{o.Events, func(ctx context.Context, ms []topic.Message, f receiver) error {
			ours, taken := context.WithCancel(ctx)
			time.AfterFunc(time.Hour, taken)
			began := time.Now()
			if err := f(ours, ms); err == nil {
				t.Error("nothing was inserted, and it was acknowledged")
			}
			if took := time.Since(began); took != time.Hour {
				t.Errorf("work on the batch ended after %v, want an hour", took)
			}
			cancel()
			return nil
		}}
		if err := New(o).Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestWarehouseAwayForAWeek counts attempts: soon after the first failure, and
// then about four a minute for as long as it takes.
func TestWarehouseAwayForAWeek(t *testing.T) {
	const week = 7 * 24 * time.Hour
	var attempts atomic.Int64
	withoutWarehouse(t, func(context.Context) error { attempts.Add(1); return errDisk }, func(t *testing.T, o Options) {
		began := time.Now()
		var book logBook
		var d deliveries
		o.Log, o.Events = book.logger(), d.of(o.Events)
		ctx, cancel := context.WithTimeout(t.Context(), week)
		defer cancel()
		soon := time.AfterFunc(10*time.Second, func() {
			if n := attempts.Load(); n < 5 {
				t.Errorf("%d attempts in the first %v", n, time.Since(began))
			}
		})
		defer soon.Stop()
		if err := New(o).Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		d.check(t)
		if n, least := attempts.Load(), int64(week/mostWait); n < least || n > 3*least {
			t.Errorf("%d attempts in a week, want %d to %d", n, least, 3*least)
		}
		if n := book.count("cannot insert"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}
