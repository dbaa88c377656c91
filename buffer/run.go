// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package buffer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// grace is how long the call under way may still take when Run's context ends.
const grace = 5 * time.Second

var errStopped = errors.New("the buffer was told to stop, and its grace is over")

// Run sends what is added until ctx ends or Close is called. It then finishes
// the call under way, within 5 seconds if ctx ended, and returns nil; what is
// left is for Close. Its error is that it runs already.
func (b *Buffer) Run(ctx context.Context) error {
	select {
	case b.turn <- struct{}{}:
	case <-b.closing:
		return nil
	default:
		return errors.New("run buffer: it runs already")
	}
	defer func() { <-b.turn }()
	work, done := graceful(ctx)
	defer done()
	pause := time.Duration(0)
	for b.idle(ctx, pause) {
		pause, _ = b.send(work, maxPause)
	}
	return nil
}

// graceful returns a context that ends a while after ctx does.
func graceful(ctx context.Context) (context.Context, func()) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(errStopped)
		case <-work.Done():
		}
	})
	return work, func() { stop(); cancel(nil) }
}

// idle waits for a pause to be over, and then for a call to be due. It returns
// false when it is time to stop.
func (b *Buffer) idle(ctx context.Context, pause time.Duration) bool {
	going := b.wait(ctx, pause, nil) // what is added does not shorten the pause
	for due := b.due(); going && due != 0; due = b.due() {
		going = b.wait(ctx, due, b.wake)
	}
	return going
}

// wait waits until d is over, without end if that is negative, or there is
// something in wake. It returns false when it is time to stop.
func (b *Buffer) wait(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	var over <-chan time.Time
	if d >= 0 {
		over = time.After(d)
	}
	select {
	case <-ctx.Done():
	case <-b.closing:
	case <-wake:
	case <-over:
	}
	select {
	case <-b.closing:
		return false
	default:
		return ctx.Err() == nil
	}
}

// due is how long until the next call is to be made; negative if there is
// nothing to send.
func (b *Buffer) due() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(b.events) == 0:
		return -1
	case b.full():
		return 0
	default:
		return max(0, time.Until(b.events[0].added.Add(b.o.Interval)))
	}
}

// full reports whether there is as much as goes in one call.
func (b *Buffer) full() bool { return len(b.events) >= callEvents || b.stats.Bytes >= callBytes }

// Close ends Run and sends what is left, until ctx ends. From then on nothing
// can be added. If everything was sent it returns nil, and otherwise an
// *UnsentError with the rest, which the gateway may or may not have: to send an
// event twice is safe. It tries again after errors, but does not wait for as
// long as the gateway asks for if ctx ends before that.
//
// What is left is given back once: if another call of Close has not ended when
// ctx does, that one has it, and the error of this one is that of ctx.
//
// Stop what records first, so that nothing is turned away.
func (b *Buffer) Close(ctx context.Context) error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}
	b.mu.Unlock()
	select {
	case b.closer <- struct{}{}:
	default:
		select {
		case b.closer <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("close buffer: another Close is at it: %w", context.Cause(ctx))
		}
	}
	defer func() { <-b.closer }()
	stop := context.AfterFunc(ctx, func() { b.end(context.Cause(ctx)) })
	defer stop()
	b.turn <- struct{}{} // Run ends when its call has ended
	defer func() { <-b.turn }()
	return b.giveBack(b.drain(ctx))
}

// drain sends until nothing is left, and returns why if something is.
func (b *Buffer) drain(ctx context.Context) error {
	var err error
	for b.due() >= 0 {
		if ctx.Err() != nil || b.life.Err() != nil {
			return cmp.Or(err, context.Cause(ctx), context.Cause(b.life))
		}
		pause, sendErr := b.send(ctx, firstPause)
		if err == nil || b.life.Err() == nil {
			err = sendErr // and not that time was up, which says less
		}
		if pause == 0 {
			continue
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) < pause {
			return cmp.Or(err, fmt.Errorf("the gateway asks to wait for %s", pause))
		}
		select {
		case <-time.After(pause):
		case <-b.life.Done():
		}
	}
	return nil
}

// giveBack returns what is still held as an error, or nil if nothing is.
func (b *Buffer) giveBack(cause error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.events) == 0 {
		return nil
	}
	unsent := &UnsentError{Events: make([]*telemetrygatewayv1.Event, len(b.events)), Cause: cause}
	for i, e := range b.events {
		unsent.Events[i] = new(telemetrygatewayv1.Event)
		_ = proto.Unmarshal(e.wire, unsent.Events[i]) // was encoded by Add
	}
	b.stats.Unsent += int64(len(b.events))
	b.stats.Bytes, b.events = 0, nil
	return unsent
}
