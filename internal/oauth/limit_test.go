// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

func TestAddressesShareByTheirNetwork(t *testing.T) {
	for _, row := range []struct {
		one, other string
		share      bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
		{"192.0.2.1", "", false},
		{"", "", true},
	} {
		now := time.Now()
		l := newLimiter(func() time.Time { return now })
		parse := func(s string) (a netip.Addr) {
			if s != "" {
				a = netip.MustParseAddr(s)
			}
			return a
		}
		for range limits.TokenAddressBurst {
			if !l.allow(parse(row.one)) {
				t.Fatalf("%s: refused too early", row.one)
			}
		}
		if l.allow(parse(row.one)) {
			t.Errorf("%s has no limit", row.one)
		}
		if got := l.allow(parse(row.other)); got == row.share {
			t.Errorf("%s after %s: allowed is %v", row.other, row.one, got)
		}
	}
}

// Who is beyond its own limit takes nothing from others, and who is refused
// because of others keeps what is its own.
func TestRefusalsCostNothing(t *testing.T) {
	now := time.Now()
	l := newLimiter(func() time.Time { return now })
	for range 1000 {
		l.allow(home)
	}
	others := 0
	for i := range 1000 {
		if l.allow(netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", i>>8, i&255))) {
			others++
		}
	}
	if others != limits.TokenBurst-limits.TokenAddressBurst {
		t.Errorf("%d others were let through, want %d", others, limits.TokenBurst-limits.TokenAddressBurst)
	}
	late := netip.MustParseAddr("10.1.0.0")
	for range 1000 {
		l.allow(late)
	}
	now = now.Add(time.Hour)
	for i := range limits.TokenAddressBurst {
		if !l.allow(late) {
			t.Fatalf("refused at its %d. question", i+1)
		}
	}
	if len(l.byNetwork) != 1 {
		t.Errorf("%d addresses are remembered, want 1", len(l.byNetwork))
	}
}
