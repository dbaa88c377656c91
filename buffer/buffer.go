// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package buffer holds the events of a service in memory on their way to a
// telemetry gateway: recorder → buffer → client → gateway.
//
//	b := buffer.New(c, buffer.Options{})
//	go b.Run(ctx) // until Close
//	recorder := telemetry.New(telemetry.Options{}, b)
//	...
//	err := b.Close(shutdownCtx) // sends what is left
//
// A nil error of Add does NOT mean that the events are durable. It means that
// they are in this process's memory: a crash, a kill or a power cut loses what
// is there, by default the events of about a second while all is well and up to
// ten thousand while the gateway is away. That is right for services that
// rather lose a little than own a disk. For those that must not, package queue
// is the store to use, with package exporter to send; that the two are
// exchanged for this one is all that changes.
//
// What holds:
//   - Nothing is dropped in silence. When memory is used up Add says so, with
//     ErrFull, and takes none of the events. What Close could not send, its
//     error holds.
//   - Every event that was added is accepted, dead-lettered, unsendable, given
//     back by Close, or still here: Stats adds up at any moment.
//   - Nothing is given up while the buffer is open: after an error there is
//     another attempt, without end. The pause grows, is random, and is never
//     shorter than the gateway asks for.
//   - An event that the gateway does not take holds up nothing behind it.
//   - The content of events is in no error and no log line.
package buffer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// Defaults of Options.
const (
	DefaultMaxEvents = 10_000
	DefaultMaxBytes  = 16 << 20
	DefaultInterval  = time.Second
)

var (
	// ErrFull is that there is no room for more events until some are sent.
	ErrFull = errors.New("the buffer is full: events come faster than the gateway takes them, or it cannot be reached")
	// ErrClosed is that Close was called before.
	ErrClosed = errors.New("the buffer is closed")
)

// Options change how a Buffer works. The zero value is right for most.
type Options struct {
	// MaxEvents is the most events that are held: DefaultMaxEvents if 0.
	MaxEvents int
	// MaxBytes is the most bytes of events that are held, as they are on the wire:
	// DefaultMaxBytes if 0. It takes about as much memory.
	MaxBytes int
	// Interval is how long an event waits for company: DefaultInterval if 0.
	Interval time.Duration
	// Logger has a line when sending begins to fail and when it works again, and
	// one for events that no attempt will ever bring through. Nil means
	// slog.Default.
	Logger *slog.Logger
	// OnResult, if set, is called after every call to the gateway with what came
	// of it, never twice at once. It must not call Close.
	OnResult func(client.Result, error)
}

// Stats counts the events of a Buffer. Added is the sum of Accepted,
// DeadLettered, Unsendable, Unsent and Pending.
type Stats struct {
	// Added is what Add took, and Refused what it did not, with ErrFull.
	Added, Refused int64
	// Accepted, DeadLettered and Unsendable are what became of events, as in
	// client.Outcome.
	Accepted, DeadLettered, Unsendable int64
	// Unsent is what Close gave back.
	Unsent int64
	// Pending is what is held, Bytes its size, and Oldest when the oldest of it
	// was added; zero if nothing is held.
	Pending, Bytes int64
	Oldest         time.Time
	// Failures is the number of calls in a row that failed. One that brings some
	// events through begins the count anew.
	Failures int
}

// UnsentError is that a Buffer was closed and could not send everything before.
type UnsentError struct {
	// Events are what the gateway has not acknowledged. It may have some of them.
	Events []*telemetrygatewayv1.Event
	// Cause is why the last attempt failed.
	Cause error
}

// Error says how many events there are, and nothing of what is in them.
func (e *UnsentError) Error() string {
	return fmt.Sprintf("%d events are not sent: %v", len(e.Events), e.Cause)
}

// Unwrap returns Cause.
func (e *UnsentError) Unwrap() error { return e.Cause }

// Buffer holds events until a gateway has them. It may be used by several
// goroutines at once.
type Buffer struct {
	client *client.Client
	o      Options
	log    *slog.Logger

	wake    chan struct{} // has an element when a call may be due earlier than it was
	closing chan struct{} // closed by Close
	// life is what every call is made under. The Close that is at it ends it when
	// its time is up.
	life context.Context
	end  context.CancelCauseFunc

	// closer has an element while a Close is at it, and turn while someone sends,
	// who has what follows.
	closer  chan struct{}
	turn    chan struct{}
	limit   int  // events in the next call
	failing bool // calls fail, and that has been logged

	mu     sync.Mutex
	closed bool
	// events are what is held. Only who has the turn takes any out; those on
	// their way to the gateway are the first in here.
	events []event
	stats  Stats
}

// event is one that is held.
type event struct {
	wire  []byte
	added time.Time
}

// New returns a buffer that sends with c, once Run is called.
func New(c *client.Client, o Options) *Buffer {
	setDefault(&o.MaxEvents, DefaultMaxEvents)
	setDefault(&o.MaxBytes, DefaultMaxBytes)
	setDefault(&o.Interval, DefaultInterval)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	b := &Buffer{
		client: c, o: o, log: o.Logger, limit: callEvents,
		wake: make(chan struct{}, 1), closing: make(chan struct{}), closer: make(chan struct{}, 1), turn: make(chan struct{}, 1),
	}
	b.life, b.end = context.WithCancelCause(context.Background())
	return b
}

func setDefault[T int | time.Duration](value *T, def T) {
	if *value <= 0 {
		*value = def
	}
}

// Add takes events into memory, all of them or none. Its nil is no promise that
// they survive this process; see the package comment.
//
// It never waits for the gateway. Its error is ErrFull if there is no room now,
// ErrClosed after Close, or another one if there never will be room for so many
// or an event cannot be encoded. The events may be changed afterwards.
func (b *Buffer) Add(_ context.Context, events ...*telemetrygatewayv1.Event) error {
	added, bytes := make([]event, len(events)), 0
	now := time.Now()
	for i, e := range events {
		wire, err := proto.Marshal(e)
		if err != nil {
			// The text of err is left out: it may quote the event.
			return fmt.Errorf("add to buffer: a text in event %d is not valid UTF-8", i)
		}
		added[i] = event{wire, now}
		bytes += len(wire)
	}
	if len(events) > b.o.MaxEvents || bytes > b.o.MaxBytes {
		return fmt.Errorf("add to buffer: %d events of %d bytes are more than it ever holds, which is %d of %d: add fewer at once", len(events), bytes, b.o.MaxEvents, b.o.MaxBytes)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return ErrClosed
	case len(b.events)+len(events) > b.o.MaxEvents, b.stats.Bytes+int64(bytes) > int64(b.o.MaxBytes):
		b.stats.Refused += int64(len(events))
		return ErrFull
	}
	news := len(b.events) == 0
	b.events = append(b.events, added...)
	b.stats.Added += int64(len(events))
	b.stats.Bytes += int64(bytes)
	if news || b.full() {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// Stats returns the present numbers. It does not wait for anything.
func (b *Buffer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Pending = int64(len(b.events))
	for _, e := range b.events {
		if s.Oldest.IsZero() || e.added.Before(s.Oldest) {
			s.Oldest = e.added
		}
	}
	return s
}
