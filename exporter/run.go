// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/telemetrygateway/telemetry/queue"
)

// passTime is how long one of Run's passes may take. What a pass did is told when
// it ends; with as much coming in as goes out, it never would.
const passTime = time.Minute

// releaseTimeout bounds giving the lease back, which only saves others a wait.
const releaseTimeout = 5 * time.Second

// Run makes a pass at every interval, and cleans the queue up, until ctx ends.
// It then finishes the batch in flight, within Options.Grace, gives the queue
// to others and returns nil. Nothing else ends it: errors are logged, shown by
// Status and tried again.
func (e *Exporter) Run(ctx context.Context) error {
	var cleanup sync.WaitGroup
	cleanup.Go(func() { e.cleanUp(ctx) })
	defer cleanup.Wait()

	wait := upTo(min(e.o.Interval, startWithin))
	failures := 0 // in a row, without anything having been taken
	for e.idle(ctx, wait) {
		e.turn.Lock()
		p := e.pass(ctx, passTime)
		e.turn.Unlock()
		wait, failures = e.next(p, failures)
	}
	e.turn.Lock()
	defer e.turn.Unlock()
	e.release(ctx)
	e.sender.close()
	return nil
}

// next is how long to wait after a pass, and how many failures in a row there
// now are.
func (e *Exporter) next(p Pass, failures int) (time.Duration, int) {
	switch {
	case p.More && p.ok():
		return 0, 0
	case p.ok():
		return around(e.o.Interval), 0
	case p.Err == nil && !p.Leased:
		// The other may die, and its lease then ends.
		return min(around(e.o.Interval), around(e.o.LeaseFor)), 0
	case !p.Complete && p.Accepted+p.DeadLettered > 0:
		failures = 0 // it goes on, and is to go on soon
	}
	failures++
	return pause(failures, e.o.Interval, p.RetryAfter), failures
}

// idle waits for the next pass, and keeps the lease meanwhile. It returns false
// when ctx has ended.
func (e *Exporter) idle(ctx context.Context, d time.Duration) bool {
	e.mu.Lock()
	e.status.Next = time.Now().Add(d)
	e.mu.Unlock()
	pass := time.NewTimer(d)
	defer pass.Stop()
	renew := time.NewTicker(e.o.LeaseFor / 3)
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-pass.C:
			return ctx.Err() == nil
		case <-renew.C:
			e.turn.Lock()
			e.keep(ctx)
			e.turn.Unlock()
		}
	}
}

// cleanUp prunes the queue until ctx ends, whatever becomes of the passes.
func (e *Exporter) cleanUp(ctx context.Context) {
	last := "" // error
	for {
		timer := time.NewTimer(around(e.o.CleanupInterval))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		began := time.Now()
		pruned, err := e.q.Prune(ctx)
		if ctx.Err() != nil {
			return
		}
		took := time.Since(began)
		if pruned.Expired > 0 {
			e.log.Warn("events expired before they were exported", "events", pruned.Expired)
		}
		if text := same(err); text != last {
			last = text
			if err != nil {
				e.log.Error("the queue was not cleaned up", "error", err)
			}
		}
		if e.o.OnPrune != nil {
			e.o.OnPrune(pruned, took, err)
		}
	}
}

// take makes sure of the lease, and says whether it is this exporter's.
func (e *Exporter) take(ctx context.Context) (bool, error) {
	if e.lease != nil {
		return true, nil // or Claim will say that it is lost
	}
	l, err := e.q.Lease(ctx, e.o.Holder, e.o.LeaseFor)
	var leased *queue.LeasedError
	switch {
	case errors.As(err, &leased):
		e.standby(leased.Holder)
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lease the queue: %w", err)
	}
	e.standby("")
	e.lease = l
	e.walk.begin()
	return true, nil
}

// keep renews the lease. When it has been lost, others may have done anything
// to the queue, so what was not marked is forgotten: it is sent again.
func (e *Exporter) keep(ctx context.Context) {
	if e.lease == nil {
		return
	}
	if errors.Is(e.renew(ctx), queue.ErrFenced) {
		e.lease, e.unmarked = nil, marks{}
	}
	// After another error the database is likely down, and the next use of the
	// lease will say so.
}

// renew extends the lease.
func (e *Exporter) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markTimeout)
	defer cancel()
	return e.lease.Done(ctx, nil, nil)
}

// release gives the queue to others.
func (e *Exporter) release(ctx context.Context) {
	if e.lease == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := e.lease.Release(ctx); err != nil && !errors.Is(err, queue.ErrFenced) {
		e.log.Warn("the queue's lease was not given back, and runs out by itself", "error", err, "within", e.o.LeaseFor)
	}
	e.lease = nil
}
