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
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/client"
)

// network connects a client to a gateway without a kernel in between, so that
// time is the test's.
type network struct {
	conns  chan net.Conn
	opened []*line
}

// line is a connection that may lose everything without a word.
type line struct {
	net.Conn
	lost, closed atomic.Bool
}

func (l *line) Close() error {
	l.closed.Store(true)
	return l.Conn.Close()
}

func (l *line) Write(p []byte) (int, error) {
	if l.lost.Load() {
		return len(p), nil
	}
	return l.Conn.Write(p)
}

func (l *line) Read(p []byte) (int, error) {
	for {
		n, err := l.Conn.Read(p)
		if err != nil || !l.lost.Load() {
			return n, err
		}
	}
}

func (n *network) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	l := &line{Conn: here}
	n.opened = append(n.opened, l)
	n.conns <- there
	return l, nil
}

func (n *network) Accept() (net.Conn, error) {
	if c, ok := <-n.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (n *network) Close() error { return nil }

func (n *network) Addr() net.Addr { return new(net.TCPAddr) }

// connected returns a client of h.
func connected(t *testing.T, h http.Handler, gateway string, o client.Options) (*client.Client, *network) {
	t.Helper()
	return connectedAs(t, h, gateway, site, o)
}

func connectedAs(t *testing.T, h http.Handler, gateway string, id client.Identity, o client.Options) (*client.Client, *network) {
	t.Helper()
	n := &network{conns: make(chan net.Conn)}
	s := &http.Server{Handler: h, Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0)}
	both(s.Protocols)
	go func() { _ = s.Serve(n) }()
	t.Cleanup(func() {
		close(n.conns)
		s.Close()
	})
	c := newClient(t, gateway, id, o)
	c.Dial(n.dial)
	return c, n
}

// A connection that has died without a word is noticed within half a minute,
// and the next call has a new one.
func TestDeadConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, n := connected(t, new(server).handler(), "http://gateway.example.com", client.Options{})
		for range 20 {
			if _, err := c.Send(t.Context(), numbered(3, 0)...); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Second) // of the test's time
		}
		if len(n.opened) != 1 {
			t.Errorf("%d connections for twenty calls, want one", len(n.opened))
		}
		n.opened[0].lost.Store(true)
		began := time.Now()
		r, err := c.Send(t.Context(), numbered(3, 0)...)
		if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != client.Unreachable || r.Count(client.Failed) != 3 {
			t.Errorf("%v, %v; want it to be unreachable", outcomes(r), err)
		}
		if waited := time.Since(began); waited > 31*time.Second {
			t.Errorf("noticed after %s, want half a minute", waited)
		}
		if r, err := c.Send(t.Context(), numbered(3, 0)...); err != nil || r.Count(client.Accepted) != 3 || len(n.opened) != 2 {
			t.Errorf("afterwards, with %d connections: %v", len(n.opened), err)
		}
		time.Sleep(2 * time.Minute)
		if !n.opened[1].closed.Load() {
			t.Error("a connection that nobody uses is kept")
		}
	})
}

// What takes a call of gRPC and never answers is gone round after a while, and
// gRPC is asked for again every hour.
func TestAutoAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(server)
		var mended atomic.Bool
		var asked atomic.Int64
		h := s.handler()
		silent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if mended.Load() {
				h.ServeHTTP(w, r)
				return
			}
			<-r.Context().Done()
		})
		c, _ := connected(t, exceptGRPC(h, silent), "http://gateway.example.com", client.Options{Protocol: client.Auto})
		send := func(wantAsked int64) {
			t.Helper()
			if r, err := c.Send(t.Context(), numbered(3, 0)...); err != nil || r.Count(client.Accepted) != 3 {
				t.Fatalf("%v, %v", outcomes(r), err)
			}
			if n := asked.Load(); n != wantAsked {
				t.Errorf("%d calls of gRPC, want %d", n, wantAsked)
			}
		}
		send(1)
		time.Sleep(50 * time.Minute)
		send(1)
		time.Sleep(10 * time.Minute)
		send(2)
		mended.Store(true)
		time.Sleep(59 * time.Minute)
		send(2)
		time.Sleep(time.Minute)
		send(4) // once to ask, once to send
		send(5)
		if n := len(s.events()); n != 18 {
			t.Errorf("%d events received, want 18", n)
		}
	})
}

// What takes a connection and does not go on with TLS is not tried twice.
func TestSilentHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, "https://gateway.example.com", site, client.Options{Protocol: client.Auto})
		dials := 0
		c.Dial(func(context.Context, string, string) (net.Conn, error) {
			dials++
			here, there := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, there) }()
			return here, nil
		})
		_, err := c.Send(t.Context(), numbered(1, 0)...)
		if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != client.Unreachable || !strings.Contains(e.Error(), "TLS handshake") || dials != 1 {
			t.Errorf("%v after %d connections", err, dials)
		}
	})
}
