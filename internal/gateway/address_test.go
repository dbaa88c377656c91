// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestAddress(t *testing.T) {
	g := &Gateway{o: Options{TrustedProxies: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fe80::/10"),
	}}}
	const proxy = "10.0.0.1:4000"
	for _, c := range []struct {
		name, remote string
		forwarded    []string // X-Forwarded-For
		want         string   // empty: unknown
	}{
		{"direct", "192.0.2.1:5000", nil, "192.0.2.1"},
		{"direct, IPv6", "[2001:db8::1]:5000", nil, "2001:db8::1"},
		{"direct, IPv4 in IPv6", "[::ffff:192.0.2.1]:5000", nil, "192.0.2.1"},
		{"direct, with a zone", "[fe80::1%eth0]:5000", nil, "fe80::1"},
		{"untrusted peer makes one up", "192.0.2.1:5000", []string{"198.51.100.1"}, "192.0.2.1"},
		{"untrusted peer poses as a proxy", "192.0.2.1:5000", []string{"198.51.100.1, 10.0.0.1"}, "192.0.2.1"},

		{"proxy itself", proxy, nil, "10.0.0.1"},
		{"empty header", proxy, []string{""}, "10.0.0.1"},
		{"one proxy", proxy, []string{"192.0.2.1"}, "192.0.2.1"},
		{"two proxies", proxy, []string{"192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		{"sender made up what comes first", proxy, []string{"198.51.100.1, 192.0.2.1"}, "192.0.2.1"},
		{"sender made up a proxy", proxy, []string{"10.9.9.9, 192.0.2.1"}, "192.0.2.1"},
		{"sender made up a chain", proxy, []string{"198.51.100.1, 10.0.0.3, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		{"several headers are one list", proxy, []string{"198.51.100.1", "192.0.2.1", "10.0.0.2"}, "192.0.2.1"},
		{"proxies alone", proxy, []string{"10.0.0.3,10.0.0.2"}, "10.0.0.3"},
		{"no white space", proxy, []string{"198.51.100.1,192.0.2.1"}, "192.0.2.1"},
		{"odd white space", proxy, []string{" \t198.51.100.1 ,\t192.0.2.1 "}, "192.0.2.1"},

		{"port", proxy, []string{"192.0.2.1:567"}, "192.0.2.1"},
		{"IPv6", proxy, []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 with port", proxy, []string{"[2001:db8::1]:5"}, "2001:db8::1"},
		{"IPv6 proxies", "[fd00::1]:4000", []string{"2001:db8::1, fd00::2"}, "2001:db8::1"},
		{"ports of proxies", proxy, []string{"192.0.2.1:567, [fd00::2]:5, 10.0.0.2:80"}, "192.0.2.1"},
		{"IPv4 in IPv6", proxy, []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"proxy is IPv4 in IPv6", "[::ffff:10.0.0.1]:4000", []string{"192.0.2.1, ::ffff:10.0.0.2"}, "192.0.2.1"},
		{"zones do not hide a proxy", "[fe80::1%eth0]:4000", []string{"192.0.2.1, fe80::2%eth1"}, "192.0.2.1"},
		{"zone of a sender", proxy, []string{"2001:db8::1%made-up"}, "2001:db8::1"},

		{"garbage", proxy, []string{"unknown"}, "10.0.0.1"},
		{"garbage hides what is before it", proxy, []string{"192.0.2.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"garbage before it does not matter", proxy, []string{"<script>, 192.0.2.1"}, "192.0.2.1"},
		{"empty entry", proxy, []string{"192.0.2.1,"}, "10.0.0.1"},
		{"almost an address", proxy, []string{"192.0.2.256"}, "10.0.0.1"},
		{"prefix", proxy, []string{"192.0.2.0/24"}, "10.0.0.1"},
		{"peer that is none", "@", []string{"192.0.2.1"}, ""},
		{"no peer", "", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want netip.Addr
			if c.want != "" {
				want = netip.MustParseAddr(c.want)
			}
			if got := g.address(c.remote, http.Header{"X-Forwarded-For": c.forwarded}); got != want {
				t.Errorf("address is %v, want %v", got, want)
			}
		})
	}

	trusting := &Gateway{}
	if got := trusting.address(proxy, http.Header{"X-Forwarded-For": {"192.0.2.1"}}); got != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("without trusted proxies the address is %v", got)
	}
}
