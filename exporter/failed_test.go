// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/telemetrygateway/telemetry/client"
	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/queue"
)

// passes makes passes as Run does, without the pauses, until one was ok.
func passes(t testing.TB, e *Exporter, most int) {
	t.Helper()
	for range most {
		if p := e.pass(t.Context(), 0); p.ok() {
			return
		}
	}
	t.Fatalf("not done after %d passes: %+v", most, e.Status().Last)
}

// An answer that is lost on the way is no reason to believe anything: the events
// are sent again, and marked in the end.
func TestAcknowledgementsSwallowed(t *testing.T) {
	q := newQueue(t)
	add(t, q, 0, 1000)
	s := serve(t)
	lose := 3
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if lose == 0 {
			pass.ServeHTTP(w, r)
			return
		}
		lose--
		pass.ServeHTTP(&silent{w, http.Header{}}, r)
		panic(http.ErrAbortHandler)
	})
	e := newExporter(t, q, s.url, Options{})
	for range 2 {
		p, err := e.Export(t.Context())
		if err == nil || p.Accepted != 0 || p.Failed != p.Sent || p.Kind != client.Broken {
			t.Errorf("pass is %+v, want an error and nothing accepted", p)
		}
		var c *client.Error
		if !errors.As(err, &c) || !strings.Contains(err.Error(), c.RequestID) {
			t.Errorf("error %v has no request ID", err)
		}
	}
	passes(t, e, 10)
	wantStats(t, q, queue.Stats{Recorded: 1000, Exported: 1000})
	got := s.received(t)
	if len(got) <= 2000 {
		t.Errorf("%d events arrived, want those of the first two passes twice", len(got))
	}
	slices.Sort(got)
	wantEvents(t, slices.Compact(got), 0, 1000)
}

// silent is a response of which nothing reaches the caller.
type silent struct {
	http.ResponseWriter
	header http.Header
}

func (s *silent) Header() http.Header         { return s.header }
func (s *silent) WriteHeader(int)             {}
func (s *silent) Write(b []byte) (int, error) { return len(b), nil }
func (s *silent) Flush()                      {}

// oldGateway answers as gateways did that give no verdicts: with the IDs of the
// events that are not to be sent again.
type oldGateway struct {
	telemetrygatewayv1connect.UnimplementedTelemeteryGatewayServiceHandler
	drop  func(id string) bool
	taken map[string]int
}

func (g *oldGateway) RecordEvents(_ context.Context, s *connect.BidiStream[v1.RecordEventsRequest, v1.RecordEventsResponse]) error {
	for {
		m, err := s.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if m.GetEvents() == nil {
			continue
		}
		r := new(v1.RecordEventsResponse)
		for _, e := range m.GetEvents().GetEvents() {
			if !g.drop(e.GetId()) {
				g.taken[e.GetId()]++
				r.SucceededEvents = append(r.SucceededEvents, e.GetId())
			}
		}
		if err := s.Send(r); err != nil {
			return err
		}
	}
}

func (g *oldGateway) serve(t testing.TB) string {
	mux := http.NewServeMux()
	mux.Handle(telemetrygatewayv1connect.NewTelemeteryGatewayServiceHandler(g))
	ts := httptest.NewUnstartedServer(mux)
	ts.Config.Protocols = new(http.Protocols)
	ts.Config.Protocols.SetUnencryptedHTTP2(true)
	ts.Start()
	t.Cleanup(ts.Close)
	return ts.URL
}

// An old gateway never acknowledges some events and does not say why. However
// many of them are at the head, those behind them leave in the same pass, once.
func TestOldGateway(t *testing.T) {
	q := newQueue(t)
	add(t, q, 0, 2000)
	never := true
	g := &oldGateway{taken: map[string]int{}, drop: func(id string) bool { return id < "event-001050" && never || id == "event-001500" && never }}
	e := newExporter(t, q, g.serve(t), Options{Batch: 100, Client: client.Options{OldServiceName: true}})
	p := export(t, e)
	if p.Accepted != 949 || !p.Complete || p.Reasons[client.ReasonUnacknowledged] != p.Failed {
		t.Errorf("pass is %+v, want 949 accepted", p)
	}
	wantStats(t, q, queue.Stats{Recorded: 2000, Exported: 949, Pending: 1051})
	never = false
	passes(t, e, 3)
	wantStats(t, q, queue.Stats{Recorded: 2000, Exported: 2000})
	for id, n := range g.taken {
		if n != 1 {
			t.Errorf("%s was taken %d times", id, n)
		}
	}
}

// The gateway's topic takes some events and not others, and asks to wait each
// time. Those behind the ones that fail get out, and the ones that fail do in
// the end.
func TestFailuresHoldUpNothing(t *testing.T) {
	q := newQueue(t)
	add(t, q, 0, 1000)
	s := serve(t)
	s.refusing(func(id string) bool { return id < "event-000350" })
	e := newExporter(t, q, s.url, Options{Batch: 100})
	for n := 0; ; n++ {
		p := e.pass(t.Context(), 0)
		if p.Err != nil {
			t.Fatal(p.Err)
		}
		stats, err := q.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if stats.Pending == 350 {
			break
		}
		if n == 500 { // samples are random: it takes thirty passes at times
			t.Fatalf("still %d pending; pass %d is %+v", stats.Pending, n, p)
		}
	}
	s.refusing(nil)
	passes(t, e, 10)
	wantStats(t, q, queue.Stats{Recorded: 1000, Exported: 1000})
	got := s.received(t)
	slices.Sort(got)
	wantEvents(t, got, 0, 1000)
}

// After an outage of the gateway's topic, in which it answered, events arrive
// oldest first, but for the sample that found out.
func TestOldestFirstAfterFailures(t *testing.T) {
	q := newQueue(t)
	add(t, q, 0, 1000)
	s := serve(t)
	s.refusing(func(string) bool { return true })
	e := newExporter(t, q, s.url, Options{Batch: 100})
	sent := 0
	for range 5 {
		sent += e.pass(t.Context(), 0).Sent
	}
	if sent != 100+4*sampleEvents {
		t.Errorf("%d events were sent in vain, want one batch and then samples", sent)
	}
	s.refusing(nil)
	passes(t, e, 2)
	got := s.received(t)
	if n := slices.Index(got, "event-000000"); n != sampleEvents {
		t.Errorf("the oldest event came after %d others, want %d", n, sampleEvents)
	}
	sample := got[:sampleEvents]
	rest := slices.DeleteFunc(slices.Clone(got), func(id string) bool { return slices.Contains(sample, id) })
	if !slices.IsSorted(rest) {
		t.Error("the others did not come oldest first")
	}
	slices.Sort(got)
	wantEvents(t, got, 0, 1000)
}

// An event at which every call breaks is found, by smaller and smaller calls,
// and passed over; the calls then grow again.
func TestCallsThatBreak(t *testing.T) {
	q := newQueue(t)
	add(t, q, 0, 1000)
	s := serve(t)
	var sizes []int
	breaks := true
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sizes = append(sizes, strings.Count(string(body), "codeSearch"))
		if breaks && strings.Contains(string(body), "event-000300") {
			http.Error(w, "blocked", http.StatusForbidden)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		pass.ServeHTTP(w, r)
	})
	e := newExporter(t, q, s.url, Options{Batch: 512, Client: client.Options{Compression: client.CompressNever}})
	for range 50 {
		e.pass(t.Context(), 0)
		if stats, err := q.Stats(t.Context()); err != nil || stats.Pending == 1 {
			break
		}
	}
	wantStats(t, q, queue.Stats{Recorded: 1000, Exported: 999, Pending: 1})
	if len(sizes) > 100 || sizes[0] != 512 || !slices.Contains(sizes, 1) {
		t.Errorf("calls had %v events", sizes)
	}
	breaks = false
	passes(t, e, 10)
	got := s.received(t)
	slices.Sort(got)
	wantEvents(t, got, 0, 1000)
}

// A gateway that is connected and says nothing does not hold the exporter for
// ever.
func TestSilence(t *testing.T) {
	q := newQueue(t)
	add(t, q, 0, 10)
	s := serve(t)
	s.intercept(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	e := newExporter(t, q, s.url, Options{})
	e.sender.patience = 50 * time.Millisecond
	p, err := e.Export(t.Context())
	if !errors.Is(err, errSilent) || p.Kind != client.Broken || p.Failed != 10 {
		t.Errorf("%v, pass is %+v", err, p)
	}
	s.intercept(nil)
	passes(t, e, 10)
	wantStats(t, q, queue.Stats{Recorded: 10, Exported: 10})
}

// What a gateway makes up as reasons does not fill memory or a metric's labels.
func TestReasonsAreBounded(t *testing.T) {
	p := Pass{Reasons: map[string]int{}}
	for n := range 1000 {
		p.reason(fmt.Sprint(n))
		p.reason(strings.Repeat("x", 1000))
	}
	sum := 0
	for n := range maps.Values(p.Reasons) {
		sum += n
	}
	if len(p.Reasons) > maxReasons+1 || sum != 2000 || p.Reasons["0"] != 1 || p.Reasons["other"] < 1900 {
		t.Errorf("reasons are %v, which is %d in all", p.Reasons, sum)
	}
}

// Whatever fails, and however it does, all other events get out: some events
// are never acknowledged, some break every call that they are in, and the
// gateway is gone at times.
func TestEverythingElseGetsOut(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			const all = 600
			stuck, breaks := map[string]bool{}, map[string]bool{}
			for range random.IntN(3) { // runs of events that always fail
				from := random.IntN(all)
				for n := from; n < min(all, from+random.IntN(250)); n++ {
					stuck[event(n).GetId()] = true
				}
			}
			for range random.IntN(4) {
				breaks[event(random.IntN(all)).GetId()] = true
			}
			q := newQueue(t)
			add(t, q, 0, all)
			g := &oldGateway{taken: map[string]int{}, drop: func(id string) bool { return stuck[id] || breaks[id] }}
			u := g.serve(t)
			proxy := new(server)
			proxy.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				if random.IntN(5) == 0 {
					panic(http.ErrAbortHandler)
				}
				for id := range breaks {
					if strings.Contains(string(body), id) {
						http.Error(w, "blocked", http.StatusForbidden)
						return
					}
				}
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				pass.ServeHTTP(w, r)
			})
			e := newExporter(t, q, proxy.proxy(t, u), Options{Batch: 100, Client: client.Options{OldServiceName: true, Compression: client.CompressNever}})
			want := map[string]bool{}
			for n := range all {
				if id := event(n).GetId(); !stuck[id] && !breaks[id] {
					want[id] = true
				}
			}
			for n := 0; len(g.taken) < len(want); n++ {
				if n == 300 {
					t.Fatalf("%d of %d events got out in %d passes, with %d stuck and %d that break calls", len(g.taken), len(want), n, len(stuck), len(breaks))
				}
				e.pass(t.Context(), 0)
			}
			clear(stuck)
			clear(breaks)
			passes(t, e, 100)
			wantStats(t, q, queue.Stats{Recorded: all, Exported: all})
		})
	}
}
