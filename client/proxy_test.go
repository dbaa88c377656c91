// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/telemetrygateway/telemetry/client"
)

// tunnels is a proxy that opens tunnels with CONNECT and passes on what is for
// http URLs. It takes every name for the gateway's.
type tunnels struct {
	gateway string // host and port
	refuse  int    // answer this status instead

	mu    sync.Mutex
	asked []string
}

func (p *tunnels) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	if p.refuse != 0 {
		http.Error(w, "no", p.refuse)
		return
	}
	if r.Method != http.MethodConnect {
		(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Host = p.gateway }}).ServeHTTP(w, r)
		return
	}
	there, err := net.Dial("tcp", p.gateway)
	if err != nil {
		http.Error(w, "gateway is away", http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer here.Close()
	fmt.Fprint(here, "HTTP/1.1 200 Connection established\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(there, here)
		there.Close()
	}()
	_, _ = io.Copy(here, there)
	here.Close()
	<-done
}

// through returns options with p as the proxy.
func through(t *testing.T, p *tunnels, o client.Options) client.Options {
	t.Helper()
	address, _ := peer(t, p, false, http1)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("me", "proxy-password")
	o.Proxy = http.ProxyURL(u)
	return o
}

// Through a proxy, https goes over a tunnel, with any protocol, and the
// gateway's name is the proxy's to find. Without TLS only Connect can.
func TestProxy(t *testing.T) {
	for _, tt := range []struct {
		name     string
		protocol client.Protocol
		tls      bool
		calls    string // "" if it cannot be
		asked    string
	}{
		{"gRPC over TLS", client.GRPC, true, "RecordEvents", "CONNECT example.com:443"},
		{"Connect over TLS", client.Connect, true, "RecordEventBatch", "CONNECT example.com:443"},
		{"Auto over TLS", client.Auto, true, "RecordEvents", "CONNECT example.com:443"},
		{"gRPC", client.GRPC, false, "", ""},
		{"Connect", client.Connect, false, "RecordEventBatch", "POST example.com"},
		{"Auto", client.Auto, false, "RecordEventBatch", "POST example.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := new(server)
			address, roots := peer(t, s.handler(), tt.tls, both)
			scheme, host, _ := strings.Cut(address, "://")
			p := &tunnels{gateway: host}
			c := newClient(t, scheme+"://example.com", site, through(t, p, client.Options{Protocol: tt.protocol, TLS: roots}))
			for range 3 {
				r, err := c.Send(t.Context(), numbered(3, 0)...)
				if tt.calls == "" {
					var e *client.Error
					if !errors.As(err, &e) || e.Kind != client.Unreachable || !strings.Contains(e.Error(), "a proxy is set for it") || len(p.asked) > 0 {
						t.Fatalf("%v, and the proxy was asked for %q", err, p.asked)
					}
					return
				}
				if err != nil || r.Count(client.Accepted) != 3 {
					t.Fatalf("%v, %v", outcomes(r), err)
				}
			}
			if last := s.calls[len(s.calls)-1]; !strings.HasSuffix(last, "/"+tt.calls) {
				t.Errorf("called %s, want %s", last, tt.calls)
			}
			if p.asked[0] != tt.asked || tt.tls && len(p.asked) != 1 {
				t.Errorf("the proxy was asked for %q, want %q once", p.asked, tt.asked)
			}
		})
	}
}

// The proxy is the environment's unless another is set. The environment is
// read once in a process, so the test needs one of its own.
func TestProxyFromEnvironment(t *testing.T) {
	if gateway := os.Getenv("TEST_GATEWAY"); gateway != "" {
		c := newClient(t, gateway, site, client.Options{Protocol: client.Auto})
		_, err := c.Send(t.Context(), numbered(1, 0)...)
		fmt.Println(err)
		return
	}
	p := &tunnels{refuse: http.StatusForbidden}
	proxy, _ := peer(t, p, false, http1)
	for _, tt := range []struct{ gateway, noProxy, want string }{
		{"https://gateway.invalid", "", "it answered: 403 Forbidden"},
		{"http://gateway.invalid", "", "403 Forbidden"},
		{"https://gateway.invalid", "gateway.invalid", "cannot find the gateway"},
		{"http://gateway.invalid", ".invalid", "cannot find the gateway"},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProxyFromEnvironment$")
		cmd.Env = append(os.Environ(), "TEST_GATEWAY="+tt.gateway, "HTTPS_PROXY="+proxy, "HTTP_PROXY="+proxy, "NO_PROXY="+tt.noProxy)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s without a proxy for %q: %s%v, want %q", tt.gateway, tt.noProxy, out, err, tt.want)
		}
	}
}

// A proxy that lets nobody through is named, and its password is not.
func TestProxyRefuses(t *testing.T) {
	for _, tt := range []struct {
		gateway string
		proxy   *tunnels
		text    string
	}{
		{"https://example.com", &tunnels{refuse: 403}, "does not let calls through; it answered: 403 Forbidden"},
		{"https://example.com", &tunnels{refuse: 407}, "give its user and password in HTTPS_PROXY"},
		{"http://example.com", &tunnels{refuse: 407}, "give them in HTTP_PROXY"},
		{"https://example.com", &tunnels{gateway: closedPort(t)}, "502"},
	} {
		for _, protocol := range []client.Protocol{client.Auto, client.Connect} {
			c := newClient(t, tt.gateway, site, through(t, tt.proxy, client.Options{Protocol: protocol}))
			_, err := c.Send(t.Context(), numbered(1, 0)...)
			if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != client.Unreachable || !strings.Contains(e.Error(), tt.text) {
				t.Errorf("%s, protocol %d: %v\nwant one that is unreachable, with %q", tt.gateway, protocol, err, tt.text)
			}
			if strings.Contains(fmt.Sprintf("%v %+v", err, errors.Unwrap(err)), "proxy-password") {
				t.Errorf("the error holds the proxy's password: %v", err)
			}
		}
	}
	away, err := url.Parse("http://me:proxy-password@" + closedPort(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, gateway := range []string{"https://example.com", "http://example.com"} {
		c := newClient(t, gateway, site, client.Options{Protocol: client.Auto, Proxy: http.ProxyURL(away)})
		_, err := c.Send(t.Context(), numbered(1, 0)...)
		if err == nil || !strings.Contains(err.Error(), "cannot reach the proxy") || strings.Contains(err.Error(), "proxy-password") {
			t.Errorf("%s: %v, want the proxy to be named as what is away", gateway, err)
		}
	}
	broken := func(*http.Request) (*url.URL, error) { return nil, errors.New("proxy-password") }
	if _, err := client.New("https://example.com", site, client.Options{Proxy: broken}); err == nil || strings.Contains(err.Error(), "proxy-password") {
		t.Errorf("%v for a proxy that cannot be parsed", err)
	}
}
