// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// limiter lets some tokens of strangers through to the provider, so many in all
// and so many from one address.
type limiter struct {
	now func() time.Time

	mu  sync.Mutex // for all that follows
	all *rate.Limiter
	// byNetwork has only networks whose allowance is not full, because any other
	// is like one never seen. Those are few: all lets no more get there.
	byNetwork map[netip.Prefix]*rate.Limiter
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{
		now:       now,
		all:       rate.NewLimiter(limits.TokenRate, limits.TokenBurst),
		byNetwork: make(map[netip.Prefix]*rate.Limiter),
	}
}

// allow takes one from both allowances, or from neither: an address beyond its
// own takes nothing from others.
func (l *limiter) allow(from netip.Addr) bool {
	// A whole /64 of IPv6 is what a single subscriber is given.
	from = from.Unmap()
	network, _ := from.Prefix(min(from.BitLen(), 64)) // there are that many bits
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	own := l.byNetwork[network]
	if own == nil {
		own = rate.NewLimiter(limits.TokenAddressRate, limits.TokenAddressBurst)
	}
	if l.all.TokensAt(now) < 1 || own.TokensAt(now) < 1 {
		return false
	}
	l.all.AllowN(now, 1)
	own.AllowN(now, 1)
	l.byNetwork[network] = own
	for n, other := range l.byNetwork {
		if other.TokensAt(now) >= limits.TokenAddressBurst {
			delete(l.byNetwork, n)
		}
	}
	return true
}

// After tolerated failures in a row, one attempt is made in each probeInterval,
// and nobody else has to wait in vain.
const (
	tolerated     = 3
	probeInterval = 250 * time.Millisecond
)

// lane is a way to the provider.
type lane struct {
	now   func() time.Time
	wait  time.Duration
	fails func(error) bool // what counts as a failure
	slots chan struct{}

	mu       sync.Mutex // for all that follows
	failures int        // in a row
	probe    time.Time  // when the next attempt may be made after failures
}

func newLane(now func() time.Time, wait time.Duration, fails func(error) bool) *lane {
	return &lane{now: now, wait: wait, fails: fails, slots: make(chan struct{}, limits.TokenChecks)}
}

// trouble counts every error as a failure of the provider. That is right for
// tokens that were good before.
func trouble(err error) bool { return err != nil }

// silence counts only that the provider does not answer: strangers might know
// a text at which it fails, and would keep others out.
func silence(err error) bool { return errors.Is(err, errNoAnswer) }

// use asks the provider something, unless too many others do or the provider
// has just failed.
func (l *lane) use(ctx context.Context, ask func() error) *Error {
	if !l.enter(ctx) {
		return busy()
	}
	defer func() { <-l.slots }()
	if !l.worthTrying() {
		return unavailable()
	}
	err := ask()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails(err) {
		l.failures++
		l.probe = l.now().Add(probeInterval)
	} else {
		l.failures = 0
	}
	if err != nil {
		return unavailable()
	}
	return nil
}

func (l *lane) enter(ctx context.Context) bool {
	select {
	case l.slots <- struct{}{}:
		return true
	default:
	}
	if l.wait == 0 {
		return false
	}
	timer := time.NewTimer(l.wait)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (l *lane) worthTrying() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.failures < tolerated {
		return true
	}
	if now.Before(l.probe) {
		return false
	}
	l.probe = now.Add(probeInterval)
	return true
}
