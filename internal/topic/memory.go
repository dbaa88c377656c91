// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"context"
	"slices"
	"sync"
)

// DefaultMemoryMessages is how many messages a topic in memory holds unless
// its URL says otherwise.
const DefaultMemoryMessages = 100_000

// Memory is a topic that lives as long as the process: for tests and trials.
// It holds a message until every subscription has acknowledged it, and as long
// as there is none.
type Memory struct {
	limit int

	mu            sync.Mutex
	messages      []Message // the oldest first
	first         int       // position of messages[0]
	subscriptions map[string]*memoryPosition
	published     chan struct{} // closed, and replaced, when there are more messages
	closed        bool
}

type memoryPosition struct {
	next int           // position of the first message not acknowledged
	busy chan struct{} // holds a token while a receiver is active
}

// NewMemory returns a topic that holds at most limit messages at once.
func NewMemory(limit int) *Memory {
	return &Memory{limit: limit, subscriptions: make(map[string]*memoryPosition), published: make(chan struct{})}
}

// Publish copies as many of ms as there is room for; the rest get ErrFull.
func (t *Memory) Publish(ctx context.Context, ms []Message) []error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errorForEach(ms, ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return errorForEach(ms, err)
	}
	room := min(len(ms), max(0, t.limit-len(t.messages)))
	for _, m := range ms[:room] {
		m.Data = bytes.Clone(m.Data)
		m.Attributes = slices.Clone(m.Attributes)
		t.messages = append(t.messages, m)
	}
	if room > 0 {
		close(t.published)
		t.published = make(chan struct{})
	}
	if room == len(ms) {
		return nil
	}
	return append(make([]error, room), errorForEach(ms[room:], ErrFull)...)
}

// Ping returns ErrFull while there is no room.
func (t *Memory) Ping(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return ErrClosed
	case len(t.messages) >= t.limit:
		return ErrFull
	}
	return nil
}

// Close ends publishing. Subscriptions can still receive what is there.
func (t *Memory) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return nil
}

// Subscribe opens the subscription called name. A new one begins with the
// oldest message that is still there.
func (t *Memory) Subscribe(name string) Subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.subscriptions[name]
	if p == nil {
		p = &memoryPosition{next: t.first, busy: make(chan struct{}, 1)}
		t.subscriptions[name] = p
	}
	return &memorySubscription{topic: t, position: p}
}

type memorySubscription struct {
	topic    *Memory
	position *memoryPosition
}

func (s *memorySubscription) Receive(ctx context.Context, f func(context.Context, []Message) error) error {
	select {
	case s.position.busy <- struct{}{}:
		defer func() { <-s.position.busy }()
	case <-ctx.Done():
		return nil
	}
	retry := redelivery()
	for ctx.Err() == nil {
		batch, more := s.next()
		if len(batch) == 0 {
			select {
			case <-more:
			case <-ctx.Done():
			}
			continue
		}
		if err := f(ctx, batch); err != nil {
			retry.wait(ctx)
			continue
		}
		retry.reset()
		s.acknowledge(len(batch))
	}
	return nil
}

// next returns messages that are not acknowledged, in memory that f may change,
// or else a channel that is closed when there are some.
func (s *memorySubscription) next() ([]Message, <-chan struct{}) {
	t := s.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	unread := t.messages[s.position.next-t.first:]
	n, size := 0, 0
	for n < len(unread) && n < batchMessages && (n == 0 || size+unread[n].size() <= batchBytes) {
		size += unread[n].size()
		n++
	}
	batch := slices.Clone(unread[:n])
	for i := range batch {
		batch[i].Data = bytes.Clone(batch[i].Data)
		batch[i].Attributes = slices.Clone(batch[i].Attributes)
	}
	return batch, t.published
}

func (s *memorySubscription) acknowledge(n int) {
	t := s.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	s.position.next += n
	oldest := s.position.next
	for _, p := range t.subscriptions {
		oldest = min(oldest, p.next)
	}
	t.messages = slices.Delete(t.messages, 0, oldest-t.first)
	t.first = oldest
}

func (s *memorySubscription) Close() error { return nil }
