// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// A logBook is a log that a test can read.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBook) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(line)
}

func (b *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// count returns how many lines have text in them.
func (b *logBook) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), text)
}

// metric returns the value of a series, as it is written.
func metric(t testing.TB, m *observe.PipelineMetrics, series string) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("there is no series %s", series)
	return ""
}

// deliveries counts how often a batch that begins with a message is delivered.
type deliveries struct {
	mu    sync.Mutex
	first map[string]int
}

func (d *deliveries) of(s topic.Subscription) topic.Subscription {
	d.first = map[string]int{}
	return tapped{s, func(ctx context.Context, ms []topic.Message, f receiver) error {
		d.mu.Lock()
		d.first[string(ms[0].Data)]++
		d.mu.Unlock()
		return f(ctx, ms)
	}}
}

func (d *deliveries) check(t testing.TB) {
	t.Helper()
	for data, n := range d.first {
		if n != 1 {
			t.Errorf("a batch was delivered %d times: %s", n, data)
		}
	}
}

var errDisk = errors.New("no space left on device")

// some publishes n good events and returns their ledger.
func some(t testing.TB, r *road, n int) *ledger {
	t.Helper()
	l := newLedger()
	for i := range n {
		publish(t, r.events, l.add(t, occurrence{sender: "site-1", n: i}))
	}
	return l
}

// TestWarehouseAway has attempts to insert fail for a while. Batches wait: none
// is delivered again, none is lost, and it is said once.
func TestWarehouseAway(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		l := some(t, r, 100)
		var book logBook
		var d deliveries
		o := r.options(t)
		o.Log, o.Events = book.logger(), d.of(o.Events)
		var done <-chan struct{}
		o.Events, done = handled(o.Events, 100)
		var attempts atomic.Int64
		var p *Pipeline
		o.Open = r.trouble(func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error) {
			switch n := attempts.Add(1); {
			case n == 5:
				if err := p.Ready(ctx); err == nil || !strings.Contains(err.Error(), errDisk.Error()) {
					t.Errorf("Ready = %v while nothing can be inserted", err)
				}
				if up := metric(t, o.Metrics, "telemetry_pipeline_warehouse_up"); up != "0" {
					t.Errorf("warehouse_up is %s while nothing can be inserted", up)
				}
				fallthrough
			case n <= 6:
				return warehouse.Result{}, errDisk
			}
			return insert(ctx, b)
		})
		p = New(o)
		stop := start(t, p)
		<-done
		if err := p.Ready(t.Context()); err != nil {
			t.Errorf("Ready = %v after all has landed", err)
		}
		stop()
		d.check(t)
		for _, text := range []string{"cannot insert events into the warehouse", "can insert events into the warehouse again"} {
			if n := book.count(text); n != 1 {
				t.Errorf("logged %d times: %s\n%s", n, text, &book.text)
			}
		}
		if n := metric(t, o.Metrics, "telemetry_pipeline_insert_errors_total"); n != "6" {
			t.Errorf("counted %s failed attempts, want 6", n)
		}
		r.drain(t)
		l.check(t, r)
	})
}

// TestCommittedWithoutAnswer has insertions succeed and say that they failed:
// what is inserted again is known.
func TestCommittedWithoutAnswer(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		l := some(t, r, 100)
		publish(t, r.events, l.addPoison(1))
		o := r.options(t)
		var calls atomic.Int64
		o.Open = r.trouble(func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error) {
			result, err := insert(ctx, b)
			if calls.Add(1)%2 == 1 {
				return warehouse.Result{}, errDisk
			}
			return result, err
		})
		var done <-chan struct{}
		o.Events, done = handled(o.Events, 101)
		stop := start(t, New(o))
		<-done
		stop()
		r.drain(t)
		l.check(t, r)
	})
}

// TestFileInUse has another process' warehouse, as it were, open: nothing is
// received, so that it gets the messages, until it is closed.
func TestFileInUse(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		l := some(t, r, 30)
		other, err := r.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var book logBook
		o := r.options(t)
		o.Log = book.logger()
		attempts := make(chan struct{}, 1000)
		o.Open = func(ctx context.Context) (warehouse.Warehouse, error) {
			w, err := r.open(ctx)
			attempts <- struct{}{}
			return w, err
		}
		received := make(chan struct{}, 1000)
		o.Events = tapped{o.Events, func(ctx context.Context, ms []topic.Message, f receiver) error {
			received <- struct{}{}
			return f(ctx, ms)
		}}
		p := New(o)
		stop := start(t, p)
		for range 3 {
			<-attempts
		}
		if len(received) > 0 {
			t.Error("messages were received without a warehouse")
		}
		if err := p.Ready(t.Context()); !errors.Is(err, warehouse.ErrLocked) {
			t.Errorf("Ready = %v, want that the file is in use", err)
		}
		if n := book.count("cannot open the warehouse"); n != 1 {
			t.Errorf("logged %d times that the file is in use\n%s", n, &book.text)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		<-received
		stop()
		if n := book.count("can open the warehouse again"); n != 1 {
			t.Errorf("logged %d times that the file is free\n%s", n, &book.text)
		}
		r.drain(t)
		l.check(t, r)
	})
}

// TestFileTaken has another process take the file between two batches. It waits
// for the messages, which the first one must let go.
func TestFileTaken(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		l := some(t, r, 100)
		o := r.options(t)
		var opened atomic.Int64
		again, free := make(chan struct{}), make(chan struct{})
		o.Open = func(ctx context.Context) (warehouse.Warehouse, error) {
			if opened.Add(1) == 2 {
				close(again)
				<-free
			}
			w, err := r.open(ctx)
			if err != nil || opened.Load() > 1 {
				return w, err
			}
			var calls atomic.Int64
			return troubled{w, func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error) {
				if calls.Add(1) > 2 {
					return warehouse.Result{}, fmt.Errorf("reopen: %w", warehouse.ErrLocked)
				}
				return insert(ctx, b)
			}}, nil
		}
		stop := start(t, New(o))
		<-again
		r.drain(t)
		l.check(t, r)
		close(free)
		stop()
	})
}

// TestFileTakenWhileDeadLettersAway has another process take the file, and all
// messages, while dead letters cannot be published. When the file is back nothing
// is wrong any more, although nobody here has published one since.
func TestFileTakenWhileDeadLettersAway(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		l := newLedger()
		publish(t, r.events, l.addPoison(0))
		for n := range 31 { // two batches, which are with the pipeline at once
			publish(t, r.events, l.add(t, occurrence{sender: "site-1", n: n}))
		}
		o := r.options(t)
		var burying, lost sync.Once
		buried, again, free := make(chan struct{}), make(chan struct{}), make(chan struct{})
		o.DeadLetterTopic = letters{r.deadLetters, func(_ context.Context, ms []topic.Message, _ func(context.Context, []topic.Message) []error) []error {
			burying.Do(func() { close(buried) })
			return slices.Repeat([]error{errDisk}, len(ms))
		}}
		o.Open = r.trouble(func(ctx context.Context, b *warehouse.Batch, insert inserter) (_ warehouse.Result, err error) {
			if len(b.Events) == 16 { // of the batch without poison
				<-buried
				lost.Do(func() { err = warehouse.ErrLocked })
			}
			if err != nil {
				return warehouse.Result{}, err
			}
			return insert(ctx, b)
		})
		open, opened := o.Open, 0
		o.Open = func(ctx context.Context) (warehouse.Warehouse, error) {
			if opened++; opened == 2 {
				close(again)
				<-free
			}
			return open(ctx)
		}
		last := occurrence{sender: "site-1", n: 31}
		handled := make(chan struct{})
		o.Events = tapped{o.Events, func(ctx context.Context, ms []topic.Message, f receiver) error {
			err := f(ctx, ms)
			if err == nil && slices.ContainsFunc(ms, func(m topic.Message) bool { return m.Key == last.message(t).Key }) {
				close(handled)
			}
			return err
		}}
		p := New(o)
		stop := start(t, p)
		<-again
		if err := p.Ready(t.Context()); err == nil {
			t.Error("ready without a warehouse")
		}
		r.drain(t)
		publish(t, r.events, l.add(t, last))
		close(free)
		<-handled
		if err := p.Ready(t.Context()); err != nil {
			t.Errorf("Ready = %v with nothing wrong", err)
		}
		stop()
		l.check(t, r)
	})
}

// TestRefusedRow has the warehouse refuse a row for good.
func TestRefusedRow(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		l := some(t, r, 20)
		refused := occurrence{sender: "site-2"}.message(t)
		publish(t, r.events, refused)
		o := r.options(t)
		o.DeadLetters = nil
		o.Open = r.trouble(func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error) {
			// It is the last one, so that no other index moves.
			n := len(b.Events)
			if b.Events[n-1].SourceID != "site-2" {
				return insert(ctx, b)
			}
			result, err := insert(ctx, &warehouse.Batch{Events: b.Events[:n-1]})
			result.Refused = []warehouse.Refusal{{Index: n - 1, Message: "is not to its taste"}}
			return result, err
		})
		var done <-chan struct{}
		o.Events, done = handled(o.Events, 21)
		stop := start(t, New(o))
		<-done
		stop()
		if n := metric(t, o.Metrics, `telemetry_pipeline_events_total{result="refused"}`); n != "1" {
			t.Errorf("%s refused events were counted", n)
		}
		r.drain(t)
		got := r.query(t, "SELECT reason, message, stage, source_id, event_id, bytes FROM events_rejected WHERE source_id IS NOT NULL")
		want := []string{limits.ReasonWarehouseRejected, "is not to its taste", "pipeline", "site-2", "event-0", string(refused.Data)}
		if len(got) != 1 || !slices.Equal(got[0], want) {
			t.Errorf("rejected: %q, want %q", got, want)
		}
		l.poison[string(refused.Data)] = true
		if n := len(r.query(t, "SELECT 1 FROM events")); n != 20 {
			t.Errorf("%d events landed, want 20", n)
		}
	})
}

// TestNeitherRoadBlocksTheOther has either events or dead letters not be inserted
// while the others are.
func TestNeitherRoadBlocksTheOther(t *testing.T) {
	for _, blocked := range []string{"events", "deadletter"} {
		t.Run(blocked, func(t *testing.T) {
			eachRoad(t, func(t *testing.T, r *road) {
				l := some(t, r, 20)
				for n := range 20 {
					publish(t, r.deadLetters, l.addPoison(n))
				}
				var book logBook
				o := r.options(t)
				o.Log = book.logger()
				var free atomic.Int64
				done := make(chan struct{})
				o.Open = r.trouble(func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error) {
					if (len(b.Events) > 0) == (blocked == "events") {
						return warehouse.Result{}, errDisk
					}
					result, err := insert(ctx, b)
					if free.Add(int64(len(b.Events)+len(b.Rejected))) == 20 {
						close(done)
					}
					return result, err
				})
				stop := start(t, New(o))
				<-done
				stop()
				if cannot, can := book.count("cannot insert"), book.count("can insert"); cannot > 1 || can > 0 {
					t.Errorf("logged %d times that it fails, and %d times that it works again\n%s", cannot, can, &book.text)
				}
				r.drain(t)
				l.check(t, r)
			})
		})
	}
}

// TestSubscriptionFails has a subscription not go on. The other one finishes.
func TestSubscriptionFails(t *testing.T) {
	r := newRoad(t, memoryCarrier)
	l := some(t, r, 10) // one batch
	gone := errors.New("the subscription has been removed")
	o := r.options(t)
	inserting := make(chan struct{})
	o.Open = r.trouble(func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error) {
		close(inserting)
		<-ctx.Done() // save for the grace, this would not wait for itself
		return insert(context.WithoutCancel(ctx), b)
	})
	o.Grace = 1
	o.DeadLetters = failing{gone, inserting}
	if err := New(o).Run(t.Context()); !errors.Is(err, gone) {
		t.Errorf("Run = %v, want that the subscription is gone", err)
	}
	r.drain(t)
	l.check(t, r)
}

// failing is a subscription that fails when it is told.
type failing struct {
	err  error
	when <-chan struct{}
}

func (s failing) Receive(context.Context, func(context.Context, []topic.Message) error) error {
	<-s.when
	return s.err
}

func (failing) Close() error { return nil }
