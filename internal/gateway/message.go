// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"slices"
	"sync"
	"time"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// A message is one message of events on its way from the network to the topic,
// with all that is known of it. Nothing else refers to its memory, which others
// use once it has been let go of.
type message struct {
	wire    []byte // what the request's slices, and IDs in the answer, refer to
	request request
	answer  answer
	began   time.Time // when it was received
	charge  charge
}

// A chunk is as much of a message as is published at once: the events from one
// index on.
type chunk struct {
	message  *message
	last     bool  // of the message's chunks
	fault    error // in encoding it, in place of all that follows
	canceled int   // events at the end of the message that are not encoded, because the call ended

	// Payloads and labels also refer to the message's events.
	arena        []byte
	labels       payload.Arena
	events, dead batch
}

// A batch is messages for a topic and, for each, the index of its event.
type batch struct {
	messages []topic.Message
	indexes  []int
}

func (b *batch) reset() {
	clear(b.messages)
	b.messages, b.indexes = b.messages[:0], b.indexes[:0]
}

// keepEvents is for how many events a message keeps memory: that of a larger one is
// not for all others to have.
const keepEvents = limits.RequestMessages

// memory is what messages and chunks are made of, lent from one to the next.
type memory struct {
	buffers          buffers
	messages, chunks sync.Pool
}

// takeMessage returns an empty message.
func (m *memory) takeMessage() *message {
	if x, ok := m.messages.Get().(*message); ok {
		return x
	}
	return new(message)
}

// giveMessage takes a message back, and gives back its charge.
func (m *memory) giveMessage(x *message) {
	x.charge.release()
	m.buffers.give(x.wire)
	clear(x.request.events)
	clear(x.answer.verdicts)
	kept := message{request: request{events: x.request.events[:0]}, answer: answer{verdicts: x.answer.verdicts[:0]}}
	if cap(kept.request.events) > keepEvents {
		kept.request.events = nil
	}
	if cap(kept.answer.verdicts) > keepEvents {
		kept.answer.verdicts = nil
	}
	*x = kept
	m.messages.Put(x)
}

// takeChunk returns an empty chunk of a message.
func (m *memory) takeChunk(of *message) *chunk {
	c, ok := m.chunks.Get().(*chunk)
	if !ok {
		c = new(chunk)
	}
	c.message = of
	return c
}

// giveChunk takes a chunk back.
func (m *memory) giveChunk(c *chunk) {
	m.buffers.give(c.arena)
	c.message, c.last, c.canceled, c.arena = nil, false, 0, nil
	c.labels.Reset()
	c.events.reset()
	c.dead.reset()
	m.chunks.Put(c)
}

// expect makes an answer with a verdict for each of n events, none of which is
// known yet.
func (a *answer) expect(n int) {
	*a = answer{verdicts: slices.Grow(a.verdicts[:0], n)[:n]}
	clear(a.verdicts)
}
