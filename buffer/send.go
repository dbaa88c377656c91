// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package buffer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/telemetrygateway/telemetry/client"
)

const (
	// callEvents and callBytes are how much goes in one call, unless a single
	// event is larger. As much is sent at once, without waiting for company.
	callEvents = 1000
	callBytes  = 1 << 20
	// step is the factor by which calls get smaller when they break, and larger
	// again. With one that is smaller for the latter, calls of which some break
	// would end up with an event each.
	step = 4
	// callTimeout is how long one call may take.
	callTimeout = time.Minute

	firstPause = time.Second
	maxPause   = time.Minute
	// maxRetryAfter bounds what a gateway may ask for, so that a wrong unit or
	// clock there does not silence a service for good.
	maxRetryAfter = time.Hour
)

var errSilent = fmt.Errorf("the call has taken longer than %s", callTimeout)

// send makes one call with the first events. It returns how long to wait before
// the next one, with a random part of at most most, and why events of this one
// are left. The caller has the turn.
func (b *Buffer) send(ctx context.Context, most time.Duration) (time.Duration, error) {
	batch := b.first()
	events := make([][]byte, len(batch))
	for i := range batch {
		events[i] = batch[i].wire
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSilent)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(b.life, func() { end(context.Cause(b.life)) })()

	r, err := b.client.SendEncoded(ctx, events...)
	failures, left := b.judge(batch, r, err)
	b.report(r, left)
	if b.o.OnResult != nil {
		b.o.OnResult(r, err)
	}
	pause := min(max(r.RetryAfter, 0), maxRetryAfter)
	if failures > 0 {
		pause += rand.N(min(most, firstPause<<min(failures-1, 20))) // full jitter
	}
	return pause, left
}

// first returns the events of the next call. They stay where they are.
func (b *Buffer) first() []event {
	b.mu.Lock()
	defer b.mu.Unlock()
	bytes := 0
	for i, e := range b.events {
		if bytes += len(e.wire); i == b.limit || i > 0 && bytes > callBytes {
			return slices.Clone(b.events[:i])
		}
	}
	return slices.Clone(b.events)
}

// judge takes out what is settled, and returns how many calls in a row have
// failed, and why something is left. What the gateway looked at and did not take
// goes behind all others, which it must not hold up.
func (b *Buffer) judge(batch []event, r client.Result, err error) (failures int, left error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var unheard, failed []event
	for i, v := range r.Verdicts {
		switch e := batch[i]; {
		case v.Outcome == client.Accepted:
			b.stats.Accepted++
		case v.Outcome == client.DeadLettered:
			b.stats.DeadLettered++
		case v.Outcome == client.Unsendable:
			b.stats.Unsendable++
		case v.Reason == client.ReasonNotSent || v.Reason == client.ReasonUnanswered:
			unheard = append(unheard, e)
			continue
		default:
			failed = append(failed, e)
			if left == nil {
				left = fmt.Errorf("the gateway does not take an event now: %s: %s", v.Reason, v.Message)
			}
			continue
		}
		b.stats.Bytes -= int64(len(batch[i].wire))
	}
	if err != nil {
		left = err
	}
	progress := len(unheard)+len(failed) < len(batch)
	switch {
	case progress:
		b.limit = min(step*b.limit, callEvents)
		b.stats.Failures = 0
	case !broke(err):
	case b.limit > 1:
		b.limit = max(1, min(b.limit, len(batch))/step)
	default:
		// The call broke at this event alone.
		unheard, failed = nil, append(failed, unheard...)
	}
	if !progress || err != nil {
		b.stats.Failures++
	}
	b.events = slices.Concat(unheard, b.events[len(batch):], failed)
	return b.stats.Failures, left
}

// broke says whether a call failed in a way that an event in it may have caused.
// It is then tried with fewer, so that one at which something on the way breaks
// does not stop those behind it.
func broke(err error) bool {
	var e *client.Error
	return errors.Is(err, errSilent) ||
		errors.As(err, &e) && (e.Kind == client.Broken || e.Kind == client.NotGateway)
}

// report logs what a call came to, if it is news.
func (b *Buffer) report(r client.Result, left error) {
	if n := r.Count(client.DeadLettered) + r.Count(client.Unsendable); n > 0 {
		first := slices.IndexFunc(r.Verdicts, func(v client.Verdict) bool {
			return v.Outcome == client.DeadLettered || v.Outcome == client.Unsendable
		})
		v := r.Verdicts[first]
		b.log.Warn("the gateway can never take some telemetry events", "events", n, "first_reason", v.Reason, "first_field", v.Field, "request_id", r.RequestID)
	}
	switch {
	case left != nil && !b.failing:
		b.log.Error("sending telemetry events failed; they stay in memory and are tried again", "error", left)
	case left != nil:
		b.log.Debug("sending telemetry events failed again", "error", left)
	case b.failing:
		b.log.Info("sending telemetry events works again")
	}
	b.failing = left != nil
}
