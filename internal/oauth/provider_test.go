// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// provider is an OAuth provider that can be asked about tokens, in memory, so
// that it fits into a bubble with a clock of its own.
type provider struct {
	network
	mu sync.Mutex // for all that follows
	// answers has the provider's answers, by token; tokens without one are
	// inactive. answer, if set, is used in place of them.
	answers map[string]string
	answer  http.HandlerFunc
	issuer  http.Handler // of discovery and keys; may be nil
	down    bool
	open    []net.Conn
	asked   []question
	checks  []Check
	log     bytes.Buffer
}

type question struct {
	token string
	at    time.Time
}

const (
	gatewayID, gatewaySecret = "the gateway", "S3CRET:+/%ü"
	// active is what the provider says of a token that counts.
	active = `{"active": true, "client_id": "pings", "sub": "someone", "scope": "a::b::read telemetry_gateway::events::write"}`
)

var home = netip.MustParseAddr("192.0.2.1")

// serve starts a provider. It ends with the test.
func serve(t testing.TB) *provider {
	t.Helper()
	p := &provider{network: network{make(chan net.Conn), make(chan struct{})}, answers: map[string]string{}}
	server := &http.Server{Handler: p}
	go server.Serve(p.network)
	t.Cleanup(func() { server.Close() })
	return p
}

// options are those of a gateway that asks p.
func (p *provider) options() Options {
	return Options{
		IntrospectionURL: "http://127.0.0.1/introspect", ClientID: gatewayID, ClientSecret: gatewaySecret,
		Log: slog.New(slog.NewTextHandler(writer(func(b []byte) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.log.Write(b)
		}), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Checked: func(c Check) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.checks = append(p.checks, c)
		},
		dial: p.dial,
	}
}

func (p *provider) verifier(t testing.TB, change ...func(*Options)) *Verifier {
	t.Helper()
	o := p.options()
	for _, c := range change {
		c(&o)
	}
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (p *provider) dial(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	conn, err := p.network.dial(ctx, network, address)
	if err == nil {
		p.set(func() { p.open = append(p.open, conn) })
	}
	return conn, err
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.issuer != nil && r.Method == http.MethodGet {
		p.issuer.ServeHTTP(w, r)
		return
	}
	token := r.PostFormValue("token")
	p.mu.Lock()
	p.asked = append(p.asked, question{token, time.Now()})
	answer, text := p.answer, cmp.Or(p.answers[token], `{"active": false}`)
	p.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	id, secret, _ := r.BasicAuth()
	if id != "the+gateway" || secret != "S3CRET%3A%2B%2F%25%C3%BC" || r.Method != http.MethodPost || r.URL.RawQuery != "" ||
		r.PostFormValue("token_type_hint") != "access_token" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, text)
}

// set changes p under its lock.
func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// fall takes p down. Call it with the lock held.
func (p *provider) fall() {
	p.down = true
	for _, c := range p.open {
		c.Close()
	}
}

// about returns how often p was asked about a token.
func (p *provider) about(token string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, q := range p.asked {
		if q.token == token {
			n++
		}
	}
	return n
}

// busiest returns the most questions in any one second, among those that count.
func (p *provider) busiest(counts func(token string) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var at []time.Time
	for _, q := range p.asked {
		if counts(q.token) {
			at = append(at, q.at)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	most, first := 0, 0
	for i := range at {
		for at[i].Sub(at[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func (p *provider) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

// refusedFor is "" without an error, and never that of an error without a text
// for the sender.
func refusedFor(t testing.TB, err error) Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *Error
	if !errors.As(err, &e) || e.Message == "" || e.Reason == "" {
		t.Fatalf("error is %#v, want an *Error with a reason and a text", err)
	}
	if wait := e.RetryAfter > 0; wait != (e.Reason == Unavailable || e.Reason == Busy) {
		t.Fatalf("%s: RetryAfter is %v", e.Reason, e.RetryAfter)
	}
	return e.Reason
}

// try verifies a token and returns the reason it was refused for, or "".
func try(t testing.TB, v *Verifier, token string, from netip.Addr) Reason {
	t.Helper()
	claims, err := v.Verify(context.Background(), token, from)
	if (claims == nil) != (err != nil) {
		t.Fatalf("Verify returned %v and %v", claims, err)
	}
	return refusedFor(t, err)
}

func want(t testing.TB, v *Verifier, token string, reason Reason) {
	t.Helper()
	if got := try(t, v, token, home); got != reason {
		t.Fatalf("token is refused for %q, want %q", got, reason)
	}
}

func holds(t testing.TB, text string, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("%q is in %q", s, text)
		}
	}
}
