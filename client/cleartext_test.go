// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/client"
)

// Tokens and secrets go over http to this machine only, and what is not surely
// this machine is not.
func TestCleartext(t *testing.T) {
	via := func(proxy string) func(*http.Request) (*url.URL, error) {
		u, err := url.Parse(proxy)
		if err != nil {
			t.Fatal(err)
		}
		return http.ProxyURL(u)
	}
	direct := func(*http.Request) (*url.URL, error) { return nil, nil }
	for _, tt := range []struct {
		url   string
		proxy func(*http.Request) (*url.URL, error)
		taken bool
	}{
		{"https://gateway.example.com", direct, true},
		{"https://gateway.example.com", via("http://proxy.example.com:3128"), true}, // a tunnel
		{"http://127.0.0.1:6080", direct, true},
		{"http://127.1.2.3", direct, true},
		{"http://[::1]:6080", direct, true},
		{"http://[::ffff:127.0.0.1]", direct, true},
		{"http://localhost", direct, true},
		{"http://LocalHost:6080", direct, true},
		{"http://127.0.0.1", via("http://127.0.0.1:3128"), true},
		{"http://127.0.0.1", via("http://proxy.example.com"), false},
		{"http://127.0.0.1", via("https://proxy.example.com"), false}, // which reads it
		{"http://127.0.0.1", via("socks5://proxy.example.com"), false},
		{"http://gateway.example.com", via("http://127.0.0.1:3128"), false},
		{"http://gateway.example.com", direct, false},
		{"http://gateway", direct, false},
		{"http://localhost.", direct, false}, // may be looked up, and searched
		{"http://localhost.example.com", direct, false},
		{"http://gateway.localhost", direct, false},
		{"http://127.0.0.1.example.com", direct, false},
		{"http://127.0.0.1.", direct, false},
		{"http://127.1", direct, false},
		{"http://0x7f000001", direct, false},
		{"http://2130706433", direct, false},
		{"http://0.0.0.0", direct, false},
		{"http://[::]", direct, false},
		{"http://[::1%25eth0]", direct, false},
		{"http://10.0.0.1", direct, false},
		{"http://[fe80::1%25eth0]", direct, false},
	} {
		check := func(what string, err error) {
			if taken := err == nil; taken != tt.taken || !taken && !strings.Contains(err.Error(), "use https") {
				t.Errorf("%s at %s: %v", what, tt.url, err)
			}
		}
		for _, protocol := range []client.Protocol{client.GRPC, client.Connect, client.Auto} {
			_, err := client.New(tt.url, client.Service("pings", "", fixedToken("x")), client.Options{Protocol: protocol, Proxy: tt.proxy})
			check("gateway", err)
		}
		c := credentials(tt.url)
		c.Proxy = tt.proxy
		_, err := c.TokenSource()
		check("provider", err)
	}
}
