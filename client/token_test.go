// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/client"
)

type fixedToken string

func (f fixedToken) Token(context.Context) (string, error) { return string(f), nil }

// inMemory connects a source with p without a kernel in between, so that time
// is the test's.
func inMemory(t *testing.T, p *provider) client.TokenSource {
	t.Helper()
	n := &network{conns: make(chan net.Conn)}
	s := &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.Serve(n) }()
	t.Cleanup(func() {
		close(n.conns)
		s.Close()
	})
	source := newSource(t, credentials("http://127.0.0.1"))
	client.DialTokens(source, n.dial)
	return source
}

func wantToken(t *testing.T, s client.TokenSource, want string) {
	t.Helper()
	if got, err := s.Token(t.Context()); got != want || err != nil {
		t.Errorf("after %s: token %q, %v; want %q", time.Now().Format("15:04:05"), got, err, want)
	}
}

// A token is renewed before it expires, while it is still given out, and is
// never given out when it has.
func TestTokenIsRenewedAhead(t *testing.T) {
	for _, tt := range []struct {
		life, renew time.Duration // 0 is not said
	}{
		{time.Hour, 59 * time.Minute},
		{10 * time.Minute, 9 * time.Minute},
		{10 * time.Second, 8 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &provider{life: int(tt.life / time.Second)}
			s := inMemory(t, p)
			wantToken(t, s, "token-1")
			time.Sleep(tt.renew - time.Millisecond)
			wantToken(t, s, "token-1")
			if p.requests() != 1 {
				t.Errorf("renewed before %s", tt.renew)
			}
			time.Sleep(2 * time.Millisecond)
			wantToken(t, s, "token-1") // it is good, so nobody waits
			synctest.Wait()
			if p.requests() != 2 {
				t.Errorf("not renewed after %s", tt.renew)
			}
			wantToken(t, s, "token-2")
			time.Sleep(tt.life + time.Second) // idle beyond its end
			wantToken(t, s, "token-3")
		})
	}
	for _, life := range []int{0, -1} { // the latter some write for "without end"
		synctest.Test(t, func(t *testing.T) {
			s := inMemory(t, &provider{life: life})
			wantToken(t, s, "token-1")
			time.Sleep(1000 * time.Hour)
			wantToken(t, s, "token-1")
		})
	}
}

// While the provider is down the token that there is serves until its end, and
// then there is an error at once and not a crowd of requests.
func TestTokenProviderDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		p := &provider{life: 600, before: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			if down.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return down.Load()
		}}
		s := inMemory(t, p)
		wantToken(t, s, "token-1")
		down.Store(true)
		time.Sleep(9*time.Minute + time.Second)
		for range 1000 {
			wantToken(t, s, "token-1")
			synctest.Wait()
		}
		if n := p.requests(); n != 2 {
			t.Errorf("%d requests, want one for the token and one to renew it", n)
		}
		time.Sleep(time.Minute)
		for range 1000 {
			if _, err := s.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "HTTP status 503") {
				t.Fatalf("error %v", err)
			}
		}
		if n := p.requests(); n != 3 {
			t.Errorf("%d requests, want one more", n)
		}
		down.Store(false)
		time.Sleep(time.Second)
		wantToken(t, s, "token-4")
	})
}

// A provider that is silent has ten seconds. Everyone who waits shares one
// request, and whoever gives up does not end it for the others.
func TestTokenProviderSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{before: func(n int, _ http.ResponseWriter, r *http.Request) bool {
			switch n {
			case 1:
				<-r.Context().Done()
				return true
			default:
				time.Sleep(9 * time.Second)
				return false
			}
		}}
		s := inMemory(t, p)
		began := time.Now()
		if _, err := s.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "within 10s") || time.Since(began) != 10*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		time.Sleep(time.Second)

		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := s.Token(impatient); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("one that gives up: %v", err)
			}
		})
		for range 50 {
			all.Go(func() { wantToken(t, s, "token-2") })
		}
		all.Wait()
		if n := p.requests(); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

// A token that the gateway does not take is forgotten; one that has been
// replaced meanwhile is not, and a gateway that takes none does not make a
// crowd of requests.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: 600}
		s := inMemory(t, p)
		forget := s.(interface{ Forget(string) }).Forget
		wantToken(t, s, "token-1")
		forget("token-0")
		wantToken(t, s, "token-1")
		forget("token-1")
		wantToken(t, s, "token-2")
		forget("token-1")
		wantToken(t, s, "token-2")
		forget("token-2")
		wantToken(t, s, "token-2") // too soon
		time.Sleep(time.Second)
		forget("token-2")
		wantToken(t, s, "token-3")
	})
	synctest.Test(t, func(t *testing.T) {
		p := &provider{life: 3600}
		s := inMemory(t, p)
		take := func() string {
			token, err := s.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		for range 3600 { // seconds, in which no token is taken
			s.(interface{ Forget(string) }).Forget(take())
			time.Sleep(time.Second)
		}
		if n := p.requests(); n < 60 || n > 70 {
			t.Errorf("%d requests within an hour, want about one a minute", n)
		}
		time.Sleep(10 * time.Minute) // all is well
		for range 2 {
			before := take()
			s.(interface{ Forget(string) }).Forget(before)
			if take() == before {
				t.Error("a token is kept that was not taken, long after the last that was not")
			}
			time.Sleep(time.Second)
		}
	})
}
