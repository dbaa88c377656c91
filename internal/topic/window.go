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
	// attributes is what those of the messages point into, if it is ours.
	attributes []Attribute
	chunks     [][]byte // what the data of the messages points into, if it is ours
	used       int      // chunks that are not empty
	last       int64    // position of the last message
	done       chan struct{}
	err        error // of f, once done is closed
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
	clear(b.attributes)
	b.messages, b.attributes, b.used = b.messages[:0], b.attributes[:0], 0
	for i := range b.chunks {
		b.chunks[i] = b.chunks[i][:0]
	}
	if b.memory() > 2*w.size.Bytes {
		b.chunks = nil
	}
	if cap(b.attributes) > 16*cap(b.messages) {
		b.attributes = nil
	}
	w.spare = append(w.spare, b)
}

// What a batch adds to its memory at once, unless a message is larger: as much
// as it has, within these bounds.
const minChunk, maxChunk = 4 << 10, 1 << 20

// keep copies data into memory of b. It comes in chunks, since one that grew
// would be copied again and again, and leave several times its size behind.
func (b *batch) keep(data []byte) []byte {
	if b.used == 0 || len(data) > cap(b.chunks[b.used-1])-len(b.chunks[b.used-1]) {
		if b.used == len(b.chunks) || len(data) > cap(b.chunks[b.used]) {
			size := max(len(data), min(max(b.memory(), minChunk), maxChunk))
			b.chunks = append(b.chunks[:b.used], make([]byte, 0, size))
		}
		b.used++
	}
	chunk := &b.chunks[b.used-1]
	start := len(*chunk)
	*chunk = append(*chunk, data...)
	return (*chunk)[start:len(*chunk):len(*chunk)]
}

// keepAttributes parses attributes into memory of b.
func (b *batch) keepAttributes(data []byte) (as []Attribute, err error) {
	start := len(b.attributes)
	if b.attributes, err = parseAttributes(b.attributes, data); err != nil || len(b.attributes) == start {
		return nil, err
	}
	return b.attributes[start:len(b.attributes):len(b.attributes)], nil
}

// memory is how many bytes b has for the data of messages.
func (b *batch) memory() (bytes int) {
	for _, c := range b.chunks {
		bytes += cap(c)
	}
	return bytes
}
