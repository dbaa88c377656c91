// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import "context"

// window holds the batches that are with f, in the order in which they were
// read. They end in any order and leave in this one, so that a position that is
// acknowledged never covers a batch still under way. Its methods are called by
// one goroutine.
type window struct {
	f     func(context.Context, []Message) error
	size  BatchOptions
	out   []*batch
	spare []*batch
}

// batch is what one call to f gets.
type batch struct {
	messages []Message
	arena    []byte // what the data of the messages points into, if it is ours
	last     int64  // position of the last message
	done     chan struct{}
	err      error // of f, once done is closed
}

func (w *window) empty() bool { return len(w.out) == 0 }
func (w *window) room() bool  { return len(w.out) < w.size.InFlight }

// next returns an empty batch, with the memory of one that has left.
func (w *window) next() *batch {
	if len(w.spare) == 0 {
		return new(batch)
	}
	b := w.spare[0]
	w.spare = w.spare[1:]
	return b
}

// send calls f with b.
func (w *window) send(ctx context.Context, b *batch) {
	b.done = make(chan struct{})
	w.out = append(w.out, b)
	go func() {
		defer close(b.done)
		b.err = w.f(ctx, b.messages)
	}()
}

// first returns a channel that is closed when f is done with the first batch,
// or nil if there is none.
func (w *window) first() <-chan struct{} {
	if w.empty() {
		return nil
	}
	return w.out[0].done
}

// leave takes out the first batch, with which f must be done.
func (w *window) leave() (last int64, err error) {
	b := w.out[0]
	w.out = w.out[1:]
	last, err = b.last, b.err
	w.reuse(b)
	return last, err
}

// reuse keeps the memory of a batch, save what an unusually large message needed.
func (w *window) reuse(b *batch) {
	clear(b.messages)
	b.messages, b.arena = b.messages[:0], b.arena[:0]
	if cap(b.arena) > 2*w.size.Bytes {
		b.arena = nil
	}
	w.spare = append(w.spare, b)
}
