// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// receivers are the calls of one share whose messages are arriving. They hold
// memory that others may wait for, and how fast they arrive is up to their
// senders.
type receivers struct {
	mu    sync.Mutex
	calls map[*call]time.Time // when the message began
	ended time.Time           // when a call was last ended

	waiting int    // those who wait for memory
	enough  func() // ends the goroutine that makes room for them
}

// add counts a call whose message of size bytes begins. One on a stream that fits
// into what is read ahead anyway is not counted: all streams together cannot fill a
// share with such.
func (r *receivers) add(c *call, size int64) {
	if c.receiving = size > callAheadBytes || c.class == unproven; !c.receiving {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		r.calls = make(map[*call]time.Time)
	}
	c.arrived.Store(0)
	r.calls[c] = time.Now()
}

func (r *receivers) remove(c *call) {
	if !c.receiving {
		return
	}
	c.receiving = false
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.calls, c)
}

// crowded has the slowest call make room, every second, until everybody who has
// called it has called what it returns. Without others who wait, a slow sender has
// time.
func (r *receivers) crowded() (enough func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting++; r.waiting == 1 {
		done := make(chan struct{})
		r.enough = func() { close(done) }
		go func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					r.endSlowest(time.Now())
				}
			}
		}()
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.waiting--; r.waiting == 0 {
			r.enough()
		}
	}
}

// endSlowest ends the call whose message arrives most slowly, if it is slow,
// and no other was ended in the last second for the same crowd.
func (r *receivers) endSlowest(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.ended) < time.Second {
		return
	}
	var slowest *call
	least := float64(limits.CrowdedBytesPerSecond)
	for c, began := range r.calls {
		age := now.Sub(began)
		if rate := float64(c.arrived.Load()) / age.Seconds(); age >= limits.CrowdedAge && rate < least {
			slowest, least = c, rate
		}
	}
	if slowest != nil {
		r.ended = now
		delete(r.calls, slowest)
		slowest.makeRoom()
	}
}

// perNetwork counts what each network, as a single subscriber has, holds of
// something, so that nobody can hold all of it. Addresses in exempt are not
// counted: many senders stand behind each.
type perNetwork struct {
	max    int
	exempt []netip.Prefix

	mu   sync.Mutex
	held map[netip.Prefix]int
}

// enter says whether there is room for one more from an address. If so, leave
// must be called.
func (p *perNetwork) enter(a netip.Addr) (leave func(), ok bool) {
	if slices.ContainsFunc(p.exempt, func(e netip.Prefix) bool { return e.Contains(a) }) {
		return func() {}, true
	}
	n := identity.Network(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[n] >= p.max {
		return nil, false
	}
	if p.held == nil {
		p.held = make(map[netip.Prefix]int)
	}
	p.held[n]++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.held[n]--; p.held[n] == 0 {
			delete(p.held, n)
		}
	}), true
}

// sharingListener closes connections of a network that has too many already.
type sharingListener struct {
	net.Listener
	open perNetwork
}

func (l *sharingListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
		if leave, ok := l.open.enter(addr.Addr().Unmap()); ok {
			return &countedConn{conn, leave}, nil
		}
		_ = conn.Close()
	}
}

type countedConn struct {
	net.Conn
	leave func()
}

func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
