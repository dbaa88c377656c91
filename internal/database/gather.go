// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Gatherer makes few commits of many small writes. While one commit runs, calls
// to Add gather, and the next commit takes them together: the more writers, the
// fewer fsyncs each.
type Gatherer[T any] struct {
	maxItems, maxBytes int
	commit             func(ctx context.Context, items []T) error

	mu      sync.Mutex
	waiting []*member[T]
	running bool
}

// member is one call to Add.
type member[T any] struct {
	items []T
	size  int
	group *group // the commit that has taken it; guarded by the gatherer's mu
	gone  bool   // has its outcome, or does not wait for it; guarded by mu as well
	done  chan struct{}
	err   error // final when done is closed
}

// group is what one commit has taken.
type group struct {
	callers int // that still wait for their outcome; guarded by the gatherer's mu
	cancel  context.CancelFunc
}

// leave ends the commit when nobody waits for it any more. The caller has the
// gatherer's mu.
func (m *member[T]) leave() {
	if m.gone {
		return
	}
	m.gone = true
	if m.group.callers--; m.group.callers == 0 {
		m.group.cancel()
	}
}

// NewGatherer returns a gatherer whose commits have at most maxItems items and
// maxBytes bytes, save that one Add is never split. No two commits run at once.
// The context of a commit ends when the contexts of all its callers have ended.
func NewGatherer[T any](maxItems, maxBytes int, commit func(ctx context.Context, items []T) error) *Gatherer[T] {
	return &Gatherer[T]{maxItems: maxItems, maxBytes: maxBytes, commit: commit}
}

// Add returns when items, of size bytes, are committed. If ctx ends before a
// commit takes them, they never are. If it ends later, the outcome is unknown.
//
// When a commit fails, and not for a Temporary reason, its two halves are tried
// on their own and so on, so that an Add fails only for its own items.
func (g *Gatherer[T]) Add(ctx context.Context, size int, items ...T) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	m := &member[T]{items: items, size: size, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, m)
	if !g.running {
		g.running = true
		go g.run()
	}
	g.mu.Unlock()

	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-m.done:
		return m.err
	default:
	}
	if m.group == nil {
		i := slices.Index(g.waiting, m)
		g.waiting = slices.Delete(g.waiting, i, i+1)
		return fmt.Errorf("wait for other writes: %w", context.Cause(ctx))
	}
	m.leave()
	return fmt.Errorf("outcome unknown: %w", context.Cause(ctx))
}

// run commits until nobody waits.
func (g *Gatherer[T]) run() {
	for {
		ctx, cancel := context.WithCancel(context.Background())
		members := g.take(cancel)
		if len(members) == 0 {
			cancel()
			return
		}
		g.commitAll(ctx, members)
		cancel()
	}
}

// take returns the next commit's members in the order of their calls, or none
// if run is to end.
func (g *Gatherer[T]) take(cancel context.CancelFunc) []*member[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, items, bytes := 0, 0, 0
	for _, m := range g.waiting {
		items += len(m.items)
		bytes += m.size
		if n > 0 && (items > g.maxItems || bytes > g.maxBytes) {
			break
		}
		n++
	}
	if n == 0 {
		g.running = false
		return nil
	}
	taken := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	group := &group{callers: n, cancel: cancel}
	for _, m := range taken {
		m.group = group
	}
	return taken
}

func (g *Gatherer[T]) commitAll(ctx context.Context, members []*member[T]) {
	var items []T
	for _, m := range members {
		items = append(items, m.items...)
	}
	err := g.commit(ctx, items)
	if err != nil && len(members) > 1 && !Temporary(err) && ctx.Err() == nil {
		half := len(members) / 2
		g.commitAll(ctx, members[:half])
		g.commitAll(ctx, members[half:])
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range members {
		m.err = err
		close(m.done)
		m.leave()
	}
}
