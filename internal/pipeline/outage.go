// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// An outage is something that is tried again until it works. It is logged when it
// begins, when its error changes, at most every mostWait, and when it is over.
type outage struct {
	what string // that cannot be done
	log  *slog.Logger
	now  func() time.Time

	mu    sync.Mutex
	tries int   // how many are trying
	err   error // nil if there is none
	since time.Time
	said  string // the error that was logged last
	at    time.Time
}

// try begins attempts, of which the last has been made when the function that it
// returns is called. Once nobody tries any more there is no outage: what was given
// up is somebody else's to do now, and nobody here would learn that it works again.
func (o *outage) try() (end func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tries++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.tries--; o.tries == 0 {
			o.err = nil
		}
	}
}

// failed says that an attempt ended in err.
func (o *outage) failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	if o.err == nil {
		o.since = now
	}
	// Two batches may fail for reasons of their own, in turn.
	if o.err == nil || o.said != err.Error() && now.Sub(o.at) >= mostWait {
		o.log.Error("cannot "+o.what+"; trying again until it works", "error", err)
		o.said, o.at = err.Error(), now
	}
	o.err = err
}

// over says that an attempt succeeded.
func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		o.log.Info("can "+o.what+" again", "after", o.now().Sub(o.since).Round(time.Millisecond))
	}
	o.err = nil
}

// current returns what is wrong, or nil.
func (o *outage) current() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return nil
	}
	return fmt.Errorf("cannot %s: %w", o.what, o.err)
}

const (
	firstWait = 100 * time.Millisecond
	mostWait  = 30 * time.Second
)

// backoff spaces attempts: exponentially longer, and at random within that, so
// that processes that failed together do not come back together.
type backoff struct{ bound time.Duration }

// wait blocks until the next attempt is due or ctx ends.
func (b *backoff) wait(ctx context.Context) {
	b.bound = min(max(firstWait, 2*b.bound), mostWait)
	pause(ctx, rand.N(b.bound))
}

// pause blocks for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
