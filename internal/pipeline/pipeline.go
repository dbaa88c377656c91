// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package pipeline lands the events of a topic in a warehouse.
//
// These hold whatever arrives and whenever the process dies. A message is
// acknowledged only when its event is committed in the warehouse, or durable
// among the dead letters. Delivered any number of times, in any order, it lands
// once. What one message holds never changes what becomes of another. While the
// warehouse or the topic of dead letters is away nothing is acknowledged, and
// nothing is delivered again either: batches in hand wait.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// defaultGrace is shorter than what a subscription that is told to stop gives
// for acknowledging.
const defaultGrace = 8 * time.Second

// Options of New. Events, DeadLetterTopic, Open and Metrics must be set.
type Options struct {
	// Events is where payloads come from. A row and its message are in memory
	// until it is committed, so that what is delivered at once bounds memory.
	Events topic.Subscription
	// DeadLetters is where dead letters come from, the gateway's and this
	// pipeline's. Nil leaves them in their topic.
	DeadLetters topic.Subscription
	// DeadLetterTopic takes what can never land.
	DeadLetterTopic topic.Topic
	// Open opens the warehouse, which Run closes. It is called until it succeeds,
	// and again after another process has taken the file.
	Open func(context.Context) (warehouse.Warehouse, error)
	// Grace is how long what has begun may take once Run's context has ended;
	// zero means 8 s.
	Grace   time.Duration
	Metrics *observe.PipelineMetrics
	Log     *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Pipeline lands events.
type Pipeline struct {
	o Options
	// What may not work at the moment. One road's trouble is not the other's.
	opening, landingEvents, landingDeadLetters, burying outage

	mu     sync.Mutex
	opened warehouse.Warehouse // nil unless it is open
	spare  []*batch
}

// New returns a pipeline that uses what is in o. It closes nothing of it.
func New(o Options) *Pipeline {
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Pipeline{o: o}
	p.opening = outage{what: "open the warehouse", log: o.Log, now: o.Now}
	p.landingEvents = outage{what: "insert events into the warehouse", log: o.Log, now: o.Now}
	p.landingDeadLetters = outage{what: "insert dead letters into the warehouse", log: o.Log, now: o.Now}
	p.burying = outage{what: "publish to the topic of dead letters", log: o.Log, now: o.Now}
	return p
}

// Run lands what arrives until ctx ends. Then it finishes what it has begun,
// within Options.Grace, closes the warehouse and returns nil; batches that only
// wait are left to be delivered again. Errors of the warehouse and of the topic
// of dead letters end nothing: they are logged once, shown by Ready, and tried
// again for ever. Run returns an error if a subscription cannot go on.
//
// Nothing is received while the warehouse is not open, so that another process
// that has it also gets the messages.
func (p *Pipeline) Run(ctx context.Context) error {
	for {
		w, err := p.open(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		err = p.land(ctx, w)
		if !errors.Is(err, warehouse.ErrLocked) {
			return err
		}
	}
}

// open opens the warehouse, however long it takes. Its error is that ctx ended.
func (p *Pipeline) open(ctx context.Context) (warehouse.Warehouse, error) {
	for retry := (backoff{}); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w, err := p.o.Open(ctx)
		switch {
		case err == nil:
			p.opening.over()
			p.setOpened(w)
			p.measureUp()
			return w, nil
		case ctx.Err() == nil:
			p.opening.failed(err)
			p.measureUp()
		}
		retry.wait(ctx)
	}
}

func (p *Pipeline) setOpened(w warehouse.Warehouse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened = w
}

func (p *Pipeline) measureUp() {
	up := 1.0
	for _, o := range []*outage{&p.opening, &p.landingEvents, &p.landingDeadLetters} {
		if o.current() != nil {
			up = 0
		}
	}
	p.o.Metrics.WarehouseUp.Set(up)
}

// A landing is what happens between opening the warehouse and closing it.
type landing struct {
	*Pipeline
	warehouse warehouse.Warehouse
	// receiving ends when no more is to be received, for whatever cause, and
	// working some time later: what has begun is finished.
	receiving, working context.Context
	stop               context.CancelCauseFunc
}

// land receives until ctx ends, a subscription fails, or the warehouse turns out
// to be another process's, and closes the warehouse.
func (p *Pipeline) land(ctx context.Context, w warehouse.Warehouse) error {
	l := &landing{Pipeline: p, warehouse: w}
	l.receiving, l.stop = context.WithCancelCause(ctx)
	defer l.stop(nil)
	working, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	context.AfterFunc(l.receiving, func() {
		pause(working, p.o.Grace)
		abandon()
	})
	l.working = working
	var receivers errgroup.Group
	receive := func(s topic.Subscription, f func(context.Context, []topic.Message) error) {
		receivers.Go(func() error {
			err := s.Receive(l.receiving, f)
			if err != nil {
				l.stop(err)
			}
			return err
		})
	}
	receive(p.o.Events, l.landEvents)
	if p.o.DeadLetters != nil {
		receive(p.o.DeadLetters, l.landDeadLetters)
	}
	err := receivers.Wait()
	p.setOpened(nil)
	if closed := w.Close(); closed != nil {
		p.o.Log.Warn("the warehouse was not closed properly", "error", closed)
	}
	if cause := context.Cause(l.receiving); err == nil && errors.Is(cause, warehouse.ErrLocked) {
		return cause
	}
	return err
}

// finishing returns a context for work on a batch whose own context is ctx. When
// that ends because the pipeline stops, the work may go on for a while; when the
// batch is no longer ours, it ends at once.
func (l *landing) finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(l.working)
	stop := context.AfterFunc(ctx, func() {
		if l.receiving.Err() == nil {
			cancel()
		}
	})
	return work, func() {
		stop()
		cancel()
	}
}

// Ready returns an error that says why nothing can land at the moment.
func (p *Pipeline) Ready(ctx context.Context) error {
	for _, o := range []*outage{&p.opening, &p.landingEvents, &p.landingDeadLetters, &p.burying} {
		if err := o.current(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	w := p.opened
	p.mu.Unlock()
	if w == nil {
		return errors.New("the warehouse is not open")
	}
	if err := w.Ping(ctx); err != nil {
		return fmt.Errorf("the warehouse: %w", err)
	}
	if err := p.o.DeadLetterTopic.Ping(ctx); err != nil {
		return fmt.Errorf("the topic of dead letters: %w", err)
	}
	return nil
}
