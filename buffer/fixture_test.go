// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package buffer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/gateway"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// newEvent returns event number n.
func newEvent(n int) *telemetrygatewayv1.Event {
	return &telemetrygatewayv1.Event{
		Id: fmt.Sprintf("event-%06d", n), Timestamp: timestamppb.New(time.Unix(1_700_000_000, 0)),
		Feature: "codeSearch", Action: "executed", Source: &telemetrygatewayv1.EventSource{Server: &telemetrygatewayv1.EventSource_Server{Version: "1.2.3"}},
	}
}

// numbered returns events [from, to).
func numbered(from, to int) []*telemetrygatewayv1.Event {
	var events []*telemetrygatewayv1.Event
	for n := from; n < to; n++ {
		events = append(events, newEvent(n))
	}
	return events
}

func ids(events []*telemetrygatewayv1.Event) []string {
	var all []string
	for _, e := range events {
		all = append(all, e.GetId())
	}
	return all
}

// A server is a real gateway on loopback, with topics in memory, and a proxy
// before it that closes each connection after a call: what waits for something
// else than time would stop the clock of a test that has its own.
type server struct {
	url          string
	topic        *topic.Memory
	refuse       atomic.Pointer[func(id string) bool]
	intercepting atomic.Pointer[interceptor]
	calls        atomic.Int64
	got          []string // by received
}

// An interceptor is called for each call, with what passes it on.
type interceptor func(w http.ResponseWriter, r *http.Request, pass http.Handler)

func pass(w http.ResponseWriter, r *http.Request, pass http.Handler) { pass.ServeHTTP(w, r) }

func status(code int) interceptor {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(code) }
}

func (s *server) intercept(f interceptor) { s.intercepting.Store(&f) }

// refusing makes the topic refuse the events of which f says so, for now.
func (s *server) refusing(f func(id string) bool) { s.refuse.Store(&f) }

// faulty is a topic that refuses some messages.
type faulty struct {
	topic.Topic
	s *server
}

func (f faulty) Publish(ctx context.Context, ms []topic.Message) []error {
	var errs []error
	for i := range ms {
		m, err := payload.Decode(ms[i].Data)
		switch {
		case err != nil:
		case (*f.s.refuse.Load())(m.Event.GetId()):
			err = errors.New("the test's topic refuses this message")
		default:
			if e := f.Topic.Publish(ctx, ms[i:i+1]); e != nil {
				err = e[0]
			}
		}
		errs = append(errs, err)
	}
	return errs
}

func serve(t testing.TB, change ...func(*identity.Options)) *server {
	t.Helper()
	s := &server{topic: topic.NewMemory(1_000_000)}
	s.intercept(pass)
	s.refusing(func(string) bool { return false })
	o := identity.Options{Unlicensed: identity.UnlicensedOptions{Rate: 1e6, Burst: 1e6, TotalRate: 1e6, TotalBurst: 1e6}}
	for _, f := range change {
		f(&o)
	}
	identities, err := identity.New(o)
	if err != nil {
		t.Fatal(err)
	}
	g := gateway.New(gateway.Options{
		Topic: faulty{s.topic, s}, DeadLetters: topic.NewMemory(1_000_000), Identities: identities,
		Metrics: observe.NewMetrics("test", "test"), Log: slog.New(slog.DiscardHandler),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	g.Handle(mux)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- gateway.Serve(ctx, l, mux, gateway.ServeOptions{Stop: g.Stop, Log: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		cancel()
		<-served
	})
	s.url = s.proxy(t, "http://"+l.Addr().String())
	return s
}

func (s *server) proxy(t testing.TB, gatewayURL string) string {
	u, err := url.Parse(gatewayURL)
	if err != nil {
		t.Fatal(err)
	}
	quiet := log.New(io.Discard, "", 0)
	transport := new(http.Transport)
	onward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }, Transport: transport, ErrorLog: quiet}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		w.Header().Set("Connection", "close")
		(*s.intercepting.Load())(w, r, onward)
	}))
	front.Config.ErrorLog = quiet
	front.Start()
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		transport.CloseIdleConnections()
	})
	return front.URL
}

// received returns the IDs of all events in the topic so far, in the order in
// which they came.
func (s *server) received(t testing.TB) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const end = "end" // a key that no sender has
	if errs := s.topic.Publish(ctx, []topic.Message{{Key: end}}); errs != nil {
		t.Fatal(errs)
	}
	err := s.topic.Subscribe("test", topic.BatchOptions{}).Receive(ctx, func(_ context.Context, ms []topic.Message) error {
		for _, m := range ms {
			if m.Key == end {
				cancel()
				continue
			}
			p, err := payload.Decode(m.Data)
			if err != nil {
				t.Error(err)
				continue
			}
			s.got = append(s.got, p.Event.GetId())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.got
}

// wantReceived checks that exactly these events are in the topic, in any order,
// once each.
func wantReceived(t testing.TB, s *server, want []*telemetrygatewayv1.Event) {
	t.Helper()
	got := slices.Sorted(slices.Values(s.received(t)))
	if w := slices.Sorted(slices.Values(ids(want))); !slices.Equal(got, w) {
		t.Errorf("%d events received, want %d", len(got), len(w))
	}
}

// newBuffer returns a buffer before the gateway at url.
func newBuffer(t testing.TB, gatewayURL string, o Options) *Buffer {
	t.Helper()
	return bufferAs(t, gatewayURL, client.Unlicensed("site", "https://site.example.com"), o)
}

func bufferAs(t testing.TB, gatewayURL string, id client.Identity, o Options) *Buffer {
	t.Helper()
	c, err := client.New(gatewayURL, id, client.Options{Protocol: client.Connect})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return New(c, o)
}

// running runs b until the function that it returns is called.
func running(t testing.TB, b *Buffer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func mustAdd(t testing.TB, b *Buffer, events ...*telemetrygatewayv1.Event) {
	t.Helper()
	if err := b.Add(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}

// wantStats checks all numbers that count events, and their sum.
func wantStats(t testing.TB, b *Buffer, want Stats) {
	t.Helper()
	got := b.Stats()
	wantSum(t, got)
	want.Bytes, want.Oldest, want.Failures = got.Bytes, got.Oldest, got.Failures
	if got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
	if empty := got.Pending == 0; empty != (got.Bytes == 0) || empty != got.Oldest.IsZero() {
		t.Errorf("stats are %+v", got)
	}
}

func wantSum(t testing.TB, s Stats) {
	t.Helper()
	if sum := s.Accepted + s.DeadLettered + s.Unsendable + s.Unsent + s.Pending; sum != s.Added {
		t.Errorf("%d added, but the sum of what became of them is %d: %+v", s.Added, sum, s)
	}
}
