// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"net/netip"
	"strings"
)

// address is where a sender is: the peer of the connection or, when that is a
// trusted proxy, the last address in X-Forwarded-For that is not one. What
// stands before that may have been made up by the sender.
func (g *Gateway) address(remote string, header http.Header) netip.Addr {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	addr := plain(peer.Addr())
	hops := strings.Split(strings.Join(header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && g.trusts(addr); i-- {
		hop, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = plain(hop)
	}
	return addr
}

// parseHop reads an entry of X-Forwarded-For. Some proxies add a port.
func parseHop(s string) (netip.Addr, error) {
	if hop, err := netip.ParseAddrPort(s); err == nil {
		return hop.Addr(), nil
	}
	return netip.ParseAddr(s)
}

// plain makes equal addresses compare equal: IPv4 in IPv6 is IPv4, and a zone,
// which no prefix contains, is left out.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func (g *Gateway) trusts(addr netip.Addr) bool {
	for _, p := range g.o.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
