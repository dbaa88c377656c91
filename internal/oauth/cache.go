// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	linked "container/list" // this package has a list of its own
	"sync"
	"time"
)

// answer is what was found out about a token.
type answer struct {
	claims *Claims
	err    *Error    // of a token without claims
	asked  time.Time // before the provider could have looked
}

// counts says whether an answer may be used that is good for so long.
func (a answer) counts(now time.Time, lifetime time.Duration) bool {
	if a.claims != nil && !a.claims.Expires.IsZero() && !now.Before(a.claims.Expires) {
		return false
	}
	return now.Sub(a.asked) < lifetime
}

// cache remembers answers, and forgets those not used for longest. Answers stay
// when they count no more: who was good once is known.
type cache struct {
	max int

	mu      sync.Mutex // for all that follows
	byToken map[digest]*linked.Element
	entries linked.List // of *entry, the one last used first
}

type entry struct {
	digest digest
	answer answer
	tried  time.Time // when it was last asked for again
}

func newCache(max int) *cache {
	return &cache{max: max, byToken: make(map[digest]*linked.Element)}
}

func (c *cache) get(d digest) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byToken[d]
	if e == nil {
		return answer{}, false
	}
	c.entries.MoveToFront(e)
	return e.Value.(*entry).answer, true
}

func (c *cache) put(d digest, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byToken[d]; e != nil {
		c.entries.MoveToFront(e)
		e.Value.(*entry).answer = a
		return
	}
	if c.entries.Len() >= c.max {
		last := c.entries.Remove(c.entries.Back()).(*entry)
		delete(c.byToken, last.digest)
	}
	c.byToken[d] = c.entries.PushFront(&entry{digest: d, answer: a})
}

func (c *cache) drop(d digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byToken[d]; e != nil {
		c.entries.Remove(e)
		delete(c.byToken, d)
	}
}

// retry says whether an answer may be asked for again now: at most once in
// renewInterval.
func (c *cache) retry(d digest, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byToken[d]
	if e == nil || now.Sub(e.Value.(*entry).tried) < renewInterval {
		return false
	}
	e.Value.(*entry).tried = now
	return true
}
