// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/queue"
)

const (
	// markTimeout bounds a write of marks, which does not end with the pass's
	// context: what the gateway has acknowledged is marked also when stopping.
	markTimeout = 10 * time.Second
	// maxReasons and maxReasonBytes bound Pass.Reasons.
	maxReasons     = 32
	maxReasonBytes = 64
)

var (
	errStopped = errors.New("the exporter was told to stop, and its grace is over")
	errChanged = errors.New("the policy has changed")
)

// marks is what is to be written down about events that were sent.
type marks struct {
	exported []string
	dead     []queue.Dead
}

// A call is one batch on its way to the gateway.
type call struct {
	rows   []queue.Row
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the call has ended with what follows
	as     string
	result client.Result
	err    error
}

// Export makes one pass now and then leaves the queue to others. It returns the
// pass's Err as well. When ctx ends, it finishes the batch in flight, within
// Options.Grace, and returns.
func (e *Exporter) Export(ctx context.Context) (Pass, error) {
	e.turn.Lock()
	defer e.turn.Unlock()
	p := e.pass(ctx, 0)
	e.release(ctx)
	return p, p.Err
}

// pass makes one pass, which ends early when it has taken longer than most, if
// that is not 0. The caller has the turn.
func (e *Exporter) pass(ctx context.Context, most time.Duration) Pass {
	p := Pass{Started: time.Now(), Reasons: map[string]int{}}
	e.began()
	e.sender.refused = nil
	err := errChanged
	for errors.Is(err, errChanged) {
		err = e.export(ctx, &p, most)
	}
	p.Err, p.Kind = err, kindOf(err)
	p.LicenseRefused = e.sender.refused
	p.Duration = time.Since(p.Started)
	e.ended(ctx, p)
	if e.o.OnPass != nil {
		e.o.OnPass(p)
	}
	return p
}

// export applies the policy and sends what it allows. Its error is errChanged
// if the policy became another one meanwhile.
func (e *Exporter) export(ctx context.Context, p *Pass, most time.Duration) error {
	policy := e.q.Policy()
	p.Mode, p.Complete, p.whole = policy.Mode, false, false
	filtered, err := e.q.ApplyPolicy(ctx)
	p.Filtered += filtered
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("apply policy: %w", err)
	}
	if p.Mode != queue.All && p.Mode != queue.Limited {
		e.sender.close()
		p.Complete = true
		return nil
	}
	p.Leased, err = e.take(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil || !p.Leased {
		return err
	}
	if err := e.sender.begin(e.identity); err != nil {
		return err
	}
	if !e.walk.onward {
		e.fromOldest(p)
	}
	work, done := e.graceful(ctx)
	defer done()
	err = e.drain(ctx, work, policy, p, most)
	if !errors.Is(err, queue.ErrFenced) {
		err = errors.Join(err, e.mark(ctx))
	}
	if errors.Is(err, queue.ErrFenced) {
		e.lease, e.unmarked = nil, marks{}
	}
	return err
}

// identity is who the instance says it is now.
func (e *Exporter) identity() Identity {
	id := e.o.Identity()
	if id.InstanceID == "" {
		id.InstanceID = e.q.InstanceID()
	}
	return id
}

// fromOldest goes back to the oldest event.
func (e *Exporter) fromOldest(p *Pass) {
	e.walk.begin()
	e.lease.Rewind()
	p.whole = true
}

// drain sends batch after batch until the queue is empty, or the policy is
// another one, or something makes it better to come back later. What it has
// not marked when it returns is in e.unmarked. Calls are made under work, which
// outlives ctx a little.
func (e *Exporter) drain(ctx, work context.Context, policy queue.Policy, p *Pass, most time.Duration) error {
	err := e.mark(ctx) // what the database did not take in the last pass
	var rows []queue.Row
	for err == nil {
		if len(rows) == 0 {
			if err = e.mark(ctx); err != nil {
				return err
			}
			if rows, err = e.claim(ctx); err != nil {
				return err
			}
			if len(rows) == 0 && p.Sent == 0 && !p.whole {
				e.walk.end()
				e.fromOldest(p)
				continue
			}
		}
		switch now := e.q.Policy(); {
		case ctx.Err() != nil:
			return nil
		case now.Mode != policy.Mode, now.Allow != policy.Allow, now.Vendor != policy.Vendor, !slices.Equal(now.Features, policy.Features):
			return errChanged
		case len(rows) == 0:
			e.walk.end()
			p.Complete = p.whole
			return nil
		case most > 0 && p.Sent > 0 && time.Since(p.Started) > most:
			p.More = true
			return nil
		}
		rows, err = e.round(ctx, work, rows, p)
		if p.RetryAfter > 0 {
			return err
		}
	}
	return err
}

// round sends rows, or a sample of them, while it marks what was sent before
// and reads ahead. It returns the rows to send next, if it has them already.
func (e *Exporter) round(ctx, work context.Context, rows []queue.Row, p *Pass) ([]queue.Row, error) {
	sample, rest := e.walk.sample(rows)
	c := e.launch(work, sample)
	err := e.mark(ctx)
	var ahead []queue.Row
	if err == nil && e.walk.ahead() {
		ahead, err = e.claim(ctx)
	}
	if lost := e.wait(ctx, c, err); lost != nil {
		return nil, lost
	}
	progress := e.judge(c, p)
	rewind := e.walk.made(progress, len(sample), c.err)
	switch {
	case rewind:
		e.lease.Rewind()
		p.whole, rest = true, nil
	case len(ahead) > 0:
		rest = ahead
	case !progress:
		rest = nil // passed over
	}
	return rest, errors.Join(c.err, err)
}

// launch begins a call.
func (e *Exporter) launch(ctx context.Context, rows []queue.Row) *call {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &call{rows: rows, cancel: cancel, done: make(chan struct{})}
	events := make([][]byte, len(rows))
	for i := range rows {
		events[i] = rows[i].Event
	}
	go func() {
		defer close(c.done)
		defer cancel(nil)
		c.result, c.err = e.sender.send(ctx, events)
		c.as = e.sender.as()
	}()
	return c
}

// wait waits for a call to end, and keeps the lease meanwhile. It returns an
// error, and ends the call, if the lease is lost; err is one that is known
// already.
func (e *Exporter) wait(ctx context.Context, c *call, err error) error {
	renew := time.NewTicker(e.o.LeaseFor / 3)
	defer renew.Stop()
	for {
		if errors.Is(err, queue.ErrFenced) {
			c.cancel(err)
			<-c.done
			return err
		}
		select {
		case <-c.done:
			return nil
		case <-renew.C:
			err = e.renew(ctx)
		}
	}
}

// judge takes down the verdicts of a call, and says whether there was one that
// is final.
func (e *Exporter) judge(c *call, p *Pass) (progress bool) {
	p.Identity = c.as
	p.Sent += len(c.rows)
	p.RetryAfter = max(p.RetryAfter, c.result.RetryAfter)
	for i, v := range c.result.Verdicts {
		row := &c.rows[i]
		p.Bytes += int64(len(row.Event))
		if v.Outcome != client.Accepted {
			p.reason(v.Reason)
		}
		switch v.Outcome {
		case client.Accepted:
			p.Accepted++
			e.unmarked.exported = append(e.unmarked.exported, row.ID)
		case client.DeadLettered, client.Unsendable:
			p.DeadLettered++
			e.unmarked.dead = append(e.unmarked.dead, queue.Dead{ID: row.ID, Reason: v.Reason, Field: v.Field, Message: v.Message})
		default:
			p.Failed++
			continue
		}
		progress = true
	}
	if progress {
		p.Batches++
	}
	return progress
}

// reason counts one verdict. A gateway that makes up a new reason for every
// event must not fill memory, or a metric's labels.
func (p *Pass) reason(reason string) {
	if _, known := p.Reasons[reason]; !known && (len(p.Reasons) >= maxReasons || len(reason) > maxReasonBytes) {
		reason = "other"
	}
	p.Reasons[reason]++
}

// claim reads the next batch.
func (e *Exporter) claim(ctx context.Context) ([]queue.Row, error) {
	rows, err := e.lease.Claim(ctx, e.walk.limit, e.o.BatchBytes)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil // to be told to stop is no failure
		}
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	return rows, nil
}

// mark writes down what was acknowledged. What could not be written is kept for
// the next time, so that it need not be sent again.
func (e *Exporter) mark(ctx context.Context) error {
	if len(e.unmarked.exported)+len(e.unmarked.dead) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markTimeout)
	defer cancel()
	if err := e.lease.Done(ctx, e.unmarked.exported, e.unmarked.dead); err != nil {
		return fmt.Errorf("mark events in the queue: %w", err)
	}
	e.unmarked = marks{}
	return nil
}

// graceful returns a context that ends a while after ctx does.
func (e *Exporter) graceful(ctx context.Context) (context.Context, func()) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		grace := time.NewTimer(e.o.Grace)
		defer grace.Stop()
		select {
		case <-grace.C:
			cancel(errStopped)
		case <-work.Done():
		}
	})
	return work, func() { stop(); cancel(nil) }
}
