// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// cable is a TCP connection's way to the gateway, on which answers get lost
// after the first bytes of each connection.
type cable struct {
	gateway string
	limit   atomic.Int64 // bytes of answers that arrive
	swallow bool         // lose what comes after them, rather than cut
	lost    func()       // called when bytes are lost
}

func (c *cable) plug(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			go c.carry(here)
		}
	}()
	return "http://" + l.Addr().String()
}

func (c *cable) carry(here net.Conn) {
	defer here.Close()
	there, err := net.Dial("tcp", c.gateway)
	if err != nil {
		return
	}
	go func() {
		defer there.Close()
		_, _ = io.Copy(there, here)
	}()
	limit := c.limit.Load()
	if n, err := io.CopyN(here, there, limit); n < limit || err != nil || !c.swallow {
		there.Close()
		return
	}
	one := make([]byte, 1)
	if _, err := there.Read(one); err == nil {
		c.lost()
	}
	_, _ = io.Copy(io.Discard, there)
}

// Wherever a connection is cut, what is reported as accepted has arrived, and
// no call sends an event twice.
func TestCut(t *testing.T) {
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect, client.Auto} {
		s := new(server)
		c := &cable{gateway: strings.TrimPrefix(s.serve(t), "http://")}
		url := c.plug(t)
		whole := 0
		for limit := int64(0); whole < 3; limit += 41 {
			c.limit.Store(limit)
			cl := newClient(t, url, site, client.Options{Protocol: protocol, MessageEvents: 2})
			events := numbered(10, 0)
			for i, e := range events {
				e.Id = fmt.Sprint(limit, "-", i)
			}
			r, err := cl.Send(t.Context(), events...)
			cl.Close()
			if err == nil {
				whole++
			}
			s.mu.Lock()
			arrived := map[string]int{}
			for _, m := range s.messages {
				for _, e := range m {
					arrived[e.GetId()]++
				}
			}
			s.messages = nil
			s.mu.Unlock()
			for i, v := range r.Verdicts {
				n := arrived[events[i].GetId()]
				if v.Outcome == client.Accepted && n == 0 || n > 1 || err == nil && v.Outcome != client.Accepted {
					t.Errorf("protocol %d, cut after %d bytes: event %d is %s and has arrived %d times: %v", protocol, limit, i, v.Outcome, n, err)
				}
			}
		}
	}
}

// Acknowledgements that something in between swallows are not made up for, and
// the events are known to be unanswered.
func TestSwallowedAcknowledgements(t *testing.T) {
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect} {
		s := new(server)
		ctx, cancel := context.WithCancel(t.Context())
		c := &cable{gateway: strings.TrimPrefix(s.serve(t), "http://"), swallow: true}
		reached := make(chan bool, 1)
		var swallowing atomic.Bool
		s.answer = func(n int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
			if swallowing.Load() {
				reached <- true
			}
			return acceptAll(n, events)
		}
		c.lost = func() { go func() { <-reached; cancel() }() }
		// As much as a connection of HTTP/2 has to say before the first answer.
		c.limit.Store(map[client.Protocol]int64{client.GRPC: 40, client.Connect: 0}[protocol])
		swallowing.Store(true)
		cl := newClient(t, c.plug(t), site, client.Options{Protocol: protocol})
		r, err := cl.Send(ctx, numbered(5, 0)...)
		if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != client.Canceled {
			t.Errorf("protocol %d: %v", protocol, err)
		}
		for i, v := range r.Verdicts {
			if v.Outcome != client.Failed || v.Reason != client.ReasonUnanswered {
				t.Errorf("protocol %d: event %d is %v", protocol, i, v)
			}
		}
		if n := len(s.events()); n != 5 {
			t.Errorf("protocol %d: %d events received, want 5", protocol, n)
		}
	}
}

// Many events take a fraction of their bytes on the wire; the metadata with the
// licence key, and few events, travel as they are.
func TestCompressesOnTheWire(t *testing.T) {
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect} {
		sent := func(compression client.Compression, n int) int64 {
			h := new(server).handler()
			var received atomic.Int64
			url, _ := peer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Body = &countedBody{r.Body, &received}
				h.ServeHTTP(w, r)
			}), false, both)
			c := newClient(t, url, site, client.Options{Protocol: protocol, Compression: compression})
			if r, err := c.Send(t.Context(), numbered(n, 0)...); err != nil || r.Count(client.Accepted) != n {
				t.Fatalf("%v, %v", outcomes(r), err)
			}
			return received.Load()
		}
		if always, never := sent(client.CompressAlways, 5000), sent(client.CompressNever, 5000); always*4 > never {
			t.Errorf("protocol %d: many events take %d bytes compressed, %d as they are", protocol, always, never)
		}
		if always, never := sent(client.CompressAlways, 1), sent(client.CompressNever, 1); always != never {
			t.Errorf("protocol %d: one event takes %d bytes, %d as it is: it is compressed", protocol, always, never)
		}
	}
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}
