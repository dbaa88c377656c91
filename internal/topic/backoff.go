// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff spaces attempts at something that fails: exponentially longer, and
// at random within that (full jitter), so that those who failed together do
// not come back together.
type backoff struct {
	first, most time.Duration
	bound       time.Duration // of the next wait; 0 before the first
}

// wait blocks for the next interval or until ctx ends.
func (b *backoff) wait(ctx context.Context) {
	b.bound = min(max(b.first, 2*b.bound), b.most)
	pause(ctx, rand.N(b.bound))
}

// reset starts over after a success.
func (b *backoff) reset() { b.bound = 0 }

// pause blocks for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// redelivery is how long a subscription waits before it delivers a batch again.
func redelivery() backoff { return backoff{first: 100 * time.Millisecond, most: 10 * time.Second} }
