// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"
	"time"
)

// A deadline calls a function if what is waited for takes too long. It is moved
// several times for each message, mostly to later, which costs next to nothing:
// the HTTP server's own deadlines cost a message between goroutines each time.
type deadline struct {
	mu      *sync.Mutex // held by callers, and while passed runs
	passed  func()
	at      time.Time // zero for never
	timer   *time.Timer
	expires time.Time // when the timer does, not after at; zero if it does not run
}

// set moves it. Zero is never.
func (d *deadline) set(at time.Time) {
	d.at = at
	switch {
	case at.IsZero(), !d.expires.IsZero() && !at.Before(d.expires):
		return // expired looks again
	case d.timer == nil:
		d.timer = time.AfterFunc(time.Until(at), d.expired)
	default:
		d.timer.Reset(time.Until(at))
	}
	d.expires = at
}

func (d *deadline) expired() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expires = time.Time{}
	switch {
	case d.at.IsZero():
	case time.Now().Before(d.at):
		d.set(d.at)
	default:
		d.passed()
	}
}

// stop is set to never, after which nothing is left that runs.
func (d *deadline) stop() {
	d.set(time.Time{})
	if d.timer != nil {
		d.timer.Stop()
		d.expires = time.Time{}
	}
}
