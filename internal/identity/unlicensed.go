// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"cmp"
	"container/list"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// UnlicensedOptions says which unlicensed instances may send, and how much.
// Rates are in events per second, bursts in events; zero means the default of
// package limits.
type UnlicensedOptions struct {
	Deny              bool
	Rate, TotalRate   float64
	Burst, TotalBurst int
	addresses         int // told apart at once; zero means the default
}

// unlicensed lets in instances that prove nothing, within limits on each
// address and on all of them together.
type unlicensed struct {
	o   UnlicensedOptions
	now func() time.Time

	mu        sync.Mutex // for all that follows
	total     *rate.Limiter
	byNetwork map[netip.Prefix]*list.Element // of visitors
	visitors  list.List                      // of *visitor, the one last used first
}

type visitor struct {
	network netip.Prefix
	limiter *rate.Limiter
}

func newUnlicensed(o UnlicensedOptions, now func() time.Time) *unlicensed {
	o.Rate = cmp.Or(o.Rate, limits.UnlicensedRate)
	o.TotalRate = cmp.Or(o.TotalRate, limits.UnlicensedTotalRate)
	o.Burst = cmp.Or(o.Burst, limits.UnlicensedBurst)
	o.TotalBurst = cmp.Or(o.TotalBurst, limits.UnlicensedTotalBurst)
	o.addresses = cmp.Or(o.addresses, limits.UnlicensedAddresses)
	return &unlicensed{
		o: o, now: now,
		total:     rate.NewLimiter(rate.Limit(o.TotalRate), o.TotalBurst),
		byNetwork: make(map[netip.Prefix]*list.Element),
	}
}

func (u *unlicensed) identify(id *telemetrygatewayv1.Identifier_UnlicensedInstanceIdentifier, peer Peer) (*Sender, error) {
	if id.GetInstanceId() == "" {
		return nil, refuse(Malformed, "unlicensed_instance.instance_id is empty")
	}
	if err := checkInstance("unlicensed_instance", id.GetInstanceId(), id.GetExternalUrl()); err != nil {
		return nil, err
	}
	if u.o.Deny {
		return nil, refuse(NotAllowed, "this gateway takes no events from unlicensed instances")
	}
	from := Network(peer.Address)
	admit := func(events int) error { return u.admit(from, events) }
	if err := admit(1); err != nil {
		return nil, err
	}
	return &Sender{
		Kind:  UnlicensedInstance,
		ID:    id.GetInstanceId(),
		Scope: "unlicensed/" + url.PathEscape(id.GetInstanceId()),
		admit: admit,
	}, nil
}

// admit takes events from both allowances, or from neither. It is done under
// one lock, so that nobody is refused for what another call reserved and then
// gave back.
func (u *unlicensed) admit(from netip.Prefix, events int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	own := u.visitor(from).ReserveN(now, events)
	if err := limited(own, now, "this address", events, u.o.Burst); err != nil {
		own.CancelAt(now)
		return err
	}
	all := u.total.ReserveN(now, events)
	if err := limited(all, now, "all unlicensed instances together", events, u.o.TotalBurst); err != nil {
		all.CancelAt(now)
		own.CancelAt(now)
		return err
	}
	return nil
}

// limited refuses what a reservation does not allow at once.
func limited(r *rate.Reservation, now time.Time, who string, events, burst int) error {
	if !r.OK() {
		return refuse(RateLimited, "%d events are more than this gateway ever takes at once from %s (%d): send fewer in a message", events, who, burst)
	}
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	// A whole second, and beyond what rounding in the limiter may amount to.
	wait = wait.Truncate(time.Second) + time.Second
	refusal := refuse(RateLimited, "too many events from %s: wait %v, or send with a licence", who, wait)
	refusal.RetryAfter = wait
	return refusal
}

// visitor finds the limiter of a network. When there are too many, the one not
// used for longest is forgotten, and so starts afresh if it comes back. Call it
// with the lock held.
func (u *unlicensed) visitor(network netip.Prefix) *rate.Limiter {
	if e := u.byNetwork[network]; e != nil {
		u.visitors.MoveToFront(e)
		return e.Value.(*visitor).limiter
	}
	if u.visitors.Len() >= u.o.addresses {
		last := u.visitors.Remove(u.visitors.Back()).(*visitor)
		delete(u.byNetwork, last.network)
	}
	v := &visitor{network, rate.NewLimiter(rate.Limit(u.o.Rate), u.o.Burst)}
	u.byNetwork[network] = u.visitors.PushFront(v)
	return v.limiter
}

// Network is what counts as one address: a whole /64 of IPv6, which is what a
// single subscriber is given. Peers without an address count as one.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	p, _ := a.Prefix(min(a.BitLen(), 64)) // there are that many bits
	return p
}
