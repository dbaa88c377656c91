// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"context"
	"slices"
	"strings"
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
		m.Key = strings.Clone(m.Key)
		m.Data = bytes.Clone(m.Data)
		m.Attributes = slices.Clone(m.Attributes)
		for i := range m.Attributes {
			a := &m.Attributes[i]
			a.Key, a.Value = strings.Clone(a.Key), strings.Clone(a.Value)
		}
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
func (t *Memory) Subscribe(name string, b BatchOptions) Subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.subscriptions[name]
	if p == nil {
		p = &memoryPosition{next: t.first, busy: make(chan struct{}, 1)}
		t.subscriptions[name] = p
	}
	return &memorySubscription{topic: t, position: p, batch: b.withDefaults()}
}

type memorySubscription struct {
	topic    *Memory
	position *memoryPosition
	batch    BatchOptions
}

func (s *memorySubscription) Receive(ctx context.Context, f func(context.Context, []Message) error) error {
	select {
	case s.position.busy <- struct{}{}:
		defer func() { <-s.position.busy }()
	case <-ctx.Done():
		return nil
	}
	w, retry := &window{f: f, size: s.batch}, redelivery()
	for ctx.Err() == nil {
		if err := s.receive(ctx, w, &retry); err != nil {
			retry.wait(ctx)
		}
	}
	return nil
}

// receive delivers batches until ctx ends or f returns an error, and all calls
// to f have ended.
func (s *memorySubscription) receive(ctx context.Context, w *window, retry *backoff) (failure error) {
	ahead := s.position.next
	stop := ctx.Done()
	for {
		var more <-chan struct{}
		if failure == nil && ctx.Err() == nil && w.room() {
			b := w.next()
			if more = s.read(ahead, b); more == nil {
				ahead = int(b.last)
				w.send(ctx, b)
				continue
			}
			w.reuse(b)
		}
		if w.empty() && more == nil {
			return failure
		}
		select {
		case <-w.first():
			last, err := w.leave()
			switch {
			case failure != nil: // what comes after it is delivered again as well
			case err != nil:
				failure = err
			default:
				retry.reset()
				s.acknowledge(int(last))
			}
		case <-more:
		case <-stop:
			stop = nil
		}
	}
}

// read fills b with messages from a position on, in memory that f may change.
// If there are none it returns a channel that is closed when there are some.
func (s *memorySubscription) read(from int, b *batch) (more <-chan struct{}) {
	t := s.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	unread := t.messages[from-t.first:]
	if len(unread) == 0 {
		return t.published
	}
	for n, size := 0, 0; n < min(len(unread), s.batch.Messages); n++ {
		m := unread[n]
		if size += m.size(); n > 0 && size > s.batch.Bytes {
			break
		}
		m.Data = bytes.Clone(m.Data)
		m.Attributes = slices.Clone(m.Attributes)
		m.Sequence = int64(from + n + 1)
		b.messages = append(b.messages, m)
		b.last = m.Sequence
	}
	return nil
}

// acknowledge says that all messages before next are dealt with.
func (s *memorySubscription) acknowledge(next int) {
	t := s.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	s.position.next = next
	oldest := next
	for _, p := range t.subscriptions {
		oldest = min(oldest, p.next)
	}
	t.messages = slices.Delete(t.messages, 0, oldest-t.first)
	t.first = oldest
}

func (s *memorySubscription) Close() error { return nil }
