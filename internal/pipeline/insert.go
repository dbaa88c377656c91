// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// The two roads, as metrics name them.
const (
	events      = "events"
	deadLetters = "deadletter"
)

// landEvents lands a batch of payloads. It returns nil once each of them is
// committed or among the dead letters; until then it waits, or returns why it
// does no longer.
func (l *landing) landEvents(ctx context.Context, ms []topic.Message) error {
	b := l.take()
	defer l.give(b)
	b.decode(ms)
	invalid := len(ms) - len(b.rows)
	// Those that can land do so before anything is done about the others.
	result, err := l.insert(ctx, events, &warehouse.Batch{Events: b.rows})
	if err != nil {
		return err
	}
	l.committed(b.rows, result)
	b.judge(result)
	if err := l.bury(ctx, ms, b.violations); err != nil {
		return err
	}
	counted := l.o.Metrics.Events
	counted.Add(float64(invalid), "invalid")
	counted.Add(float64(len(result.Conflicts)), "conflict")
	counted.Add(float64(len(result.Refused)), "refused")
	return nil
}

// A batch is the rows of messages. All of its memory is used again.
type batch struct {
	rows       []warehouse.Row
	indexes    []int               // of each row's message
	violations []*limits.Violation // for each message, why it cannot land; nil if it can
}

// take returns an empty batch, with the memory of one that was given back. There
// are as many as were ever in flight at once: to make them anew takes more memory,
// for the garbage, and time.
func (p *Pipeline) take() *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spare) == 0 {
		return new(batch)
	}
	b := p.spare[len(p.spare)-1]
	p.spare = p.spare[:len(p.spare)-1]
	return b
}

func (p *Pipeline) give(b *batch) {
	b.reset()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spare = append(p.spare, b)
}

// decodeRun is how many messages are decoded at a stretch, so that processors
// share a batch evenly and still hardly meet.
const decodeRun = 128

// decode makes rows of the messages that have one.
func (b *batch) decode(ms []topic.Message) {
	b.rows = slices.Grow(b.rows[:0], len(ms))[:len(ms)]
	b.violations = slices.Grow(b.violations[:0], len(ms))[:len(ms)]
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (len(ms)+decodeRun-1)/decodeRun) {
		workers.Go(func() {
			var last origin
			for {
				end := int(next.Add(decodeRun))
				for i := end - decodeRun; i < min(end, len(ms)); i++ {
					b.violations[i] = decode(&ms[i], &b.rows[i], &last)
				}
				if end >= len(ms) {
					return
				}
			}
		})
	}
	workers.Wait()
	b.indexes = b.indexes[:0]
	for i, v := range b.violations {
		if v != nil {
			continue
		}
		// Exchanged, not copied: no two rows may share what their slices refer to.
		n := len(b.indexes)
		b.rows[n], b.rows[i] = b.rows[i], b.rows[n]
		b.indexes = append(b.indexes, i)
	}
	b.rows = b.rows[:len(b.indexes)]
}

// judge adds what the warehouse would not take.
func (b *batch) judge(r warehouse.Result) {
	for _, i := range r.Conflicts {
		b.violations[b.indexes[i]] = &limits.Violation{
			Reason: limits.ReasonIDConflict, Field: "id", Message: "is that of another event of this sender, which has landed",
		}
	}
	for _, refusal := range r.Refused {
		b.violations[b.indexes[refusal.Index]] = &limits.Violation{
			Reason: limits.ReasonWarehouseRejected, Message: refusal.Message,
		}
	}
}

// reset lets go of the messages.
func (b *batch) reset() {
	clear(b.rows[:len(b.violations)])
	clear(b.violations)
}

// insert inserts a batch, however long it takes. Its error is that ctx ended, or
// that another process has the warehouse now.
func (l *landing) insert(ctx context.Context, road string, b *warehouse.Batch) (warehouse.Result, error) {
	if len(b.Events)+len(b.Rejected) == 0 {
		return warehouse.Result{}, nil
	}
	work, done := l.finishing(ctx)
	defer done()
	inserting := &l.landingEvents
	if road == deadLetters {
		inserting = &l.landingDeadLetters
	}
	defer inserting.try()()
	for retry := (backoff{}); ; {
		result, err := l.tryInsert(work, road, inserting, b)
		if err == nil {
			return result, nil
		}
		if errors.Is(err, warehouse.ErrLocked) {
			// Whoever has it may be waiting for the messages that we hold.
			l.stop(err)
		}
		retry.wait(ctx)
		if ctx.Err() != nil {
			return warehouse.Result{}, fmt.Errorf("insert: %w", err)
		}
	}
}

func (l *landing) tryInsert(ctx context.Context, road string, inserting *outage, b *warehouse.Batch) (warehouse.Result, error) {
	began := l.o.Now()
	landedAt := began.UTC()
	for i := range b.Events {
		b.Events[i].LandedAt = landedAt
	}
	for i := range b.Rejected {
		b.Rejected[i].LandedAt = landedAt
	}
	result, err := l.warehouse.Insert(ctx, b)
	m := l.o.Metrics
	m.InsertDuration.Observe(l.o.Now().Sub(began).Seconds(), road)
	switch {
	case err == nil:
		inserting.over()
		l.measureUp()
		m.BatchRows.Observe(float64(len(b.Events)+len(b.Rejected)), road)
	case ctx.Err() == nil:
		inserting.failed(err)
		l.measureUp()
		m.InsertErrors.Add(1)
	}
	return result, err
}

// committed counts what an insertion came to.
func (l *landing) committed(rows []warehouse.Row, r warehouse.Result) {
	m := l.o.Metrics
	m.Events.Add(float64(r.Landed), "landed")
	m.Events.Add(float64(r.Duplicates), "duplicate")
	m.Events.Add(float64(r.Redelivered), "redelivered")
	now := l.o.Now()
	for i := range rows {
		m.LandingDelay.Observe(max(0, now.Sub(rows[i].ReceivedAt)).Seconds())
	}
	l.o.Log.Debug("batch committed", "rows", len(rows), "landed", r.Landed, "duplicates", r.Duplicates,
		"redelivered", r.Redelivered, "conflicts", len(r.Conflicts), "refused", len(r.Refused))
}
