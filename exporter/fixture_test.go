// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"context"
	"database/sql"
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
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"google.golang.org/protobuf/types/known/timestamppb"
	_ "modernc.org/sqlite"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database/cluster"
	"github.com/telemetrygateway/telemetry/internal/gateway"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/license"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/queue"
)

// postgres is the PostgreSQL that tests share which do not stop it.
var postgres cluster.Shared

func TestMain(m *testing.M) {
	if exit, is := becomeVictim(os.Stderr); is {
		os.Exit(exit)
	}
	code := m.Run()
	if err := postgres.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// databases are what the exporter's promises hold on.
var databases = []struct {
	name string
	open func(testing.TB) *sql.DB
}{
	{"SQLite", sqlite},
	{"PostgreSQL", func(t testing.TB) *sql.DB { return openDB(t, "pgx", newDatabase(t)) }},
}

// newDatabase returns the URL of an empty database.
func newDatabase(t testing.TB) string {
	t.Helper()
	url, err := postgres.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func sqlite(t testing.TB) *sql.DB {
	return openDB(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "queue.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
}

func openDB(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func openQueue(t testing.TB, db *sql.DB, o queue.Options) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func newQueue(t testing.TB) *queue.Queue { return openQueue(t, sqlite(t), queue.Options{}) }

// event returns event number n, each a second older than the next.
func event(n int) *v1.Event {
	return &v1.Event{
		Id: fmt.Sprintf("event-%06d", n), Timestamp: timestamppb.New(time.Date(2026, time.May, 1, 0, 0, n, 0, time.UTC)),
		Feature: "codeSearch", Action: "executed", Source: &v1.EventSource{Server: &v1.EventSource_Server{Version: "1.2.3"}},
		Parameters: &v1.EventParameters{Metadata: map[string]float64{"results": 3}},
	}
}

// add adds events [from, to) in such an order that no later one comes first by
// chance.
func add(t testing.TB, q *queue.Queue, from, to int) {
	t.Helper()
	var events []*v1.Event
	for n := to - 1; n >= from; n-- {
		events = append(events, event(n))
	}
	if err := q.Add(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}

// A server is a real gateway on loopback, with topics in memory and a proxy
// before it.
type server struct {
	url         string
	topic, dead *topic.Memory
	publish     *faulty
	license     string
	unknown     string // a licence that the gateway does not take
	connections atomic.Int64

	intercepting atomic.Pointer[interceptor]

	got []string // by received
}

// An interceptor is called for each call, with what passes it on.
type interceptor func(w http.ResponseWriter, r *http.Request, pass http.Handler)

// intercept lets f decide about each call; nil ends it.
func (s *server) intercept(f interceptor) {
	if f == nil {
		f = func(w http.ResponseWriter, r *http.Request, pass http.Handler) { pass.ServeHTTP(w, r) }
	}
	s.intercepting.Store(&f)
}

// faulty is a topic that refuses some messages.
type faulty struct {
	topic.Topic
	refuse atomic.Pointer[func(id string) bool]
}

var errRefused = errors.New("the test's topic refuses this message")

func (f *faulty) Publish(ctx context.Context, ms []topic.Message) []error {
	refuse := f.refuse.Load()
	if refuse == nil {
		return f.Topic.Publish(ctx, ms)
	}
	errs := make([]error, len(ms))
	for i := range ms {
		m, err := payload.Decode(ms[i].Data)
		switch {
		case err != nil:
			errs[i] = err
		case (*refuse)(m.Event.GetId()):
			errs[i] = errRefused
		default:
			if e := f.Topic.Publish(ctx, ms[i:i+1]); e != nil {
				errs[i] = e[0]
			}
		}
	}
	return errs
}

// refusing makes the topic refuse the events of which f says so; nil ends it.
func (s *server) refusing(f func(id string) bool) {
	if f == nil {
		s.publish.refuse.Store(nil)
	} else {
		s.publish.refuse.Store(&f)
	}
}

func serve(t testing.TB, change ...func(*server, *identity.Options)) *server {
	t.Helper()
	s := &server{topic: topic.NewMemory(1_000_000), dead: topic.NewMemory(1_000_000)}
	s.publish = &faulty{Topic: s.topic}
	s.intercept(nil)
	var public []byte
	s.license, public = issue(t, "vendor")
	s.unknown, _ = issue(t, "someone-else")
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, public, 0o600); err != nil {
		t.Fatal(err)
	}
	io := identity.Options{
		Licenses:   identity.LicenseOptions{KeysFile: keys},
		Unlicensed: identity.UnlicensedOptions{Rate: 1e6, Burst: 1e6, TotalRate: 1e6, TotalBurst: 1e6},
	}
	for _, f := range change {
		f(s, &io)
	}
	identities, err := identity.New(io)
	if err != nil {
		t.Fatal(err)
	}
	g := gateway.New(gateway.Options{
		Topic: s.publish, DeadLetters: s.dead, Identities: identities, Metrics: observe.NewMetrics("test", "test"), Log: slog.New(slog.DiscardHandler),
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

// proxy serves a proxy to a gateway until the test ends.
func (s *server) proxy(t testing.TB, gatewayURL string) string {
	u, err := url.Parse(gatewayURL)
	if err != nil {
		t.Fatal(err)
	}
	h2c, both := new(http.Protocols), new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	both.SetUnencryptedHTTP2(true)
	both.SetHTTP1(true)
	transport := &http.Transport{Protocols: h2c}
	pass := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
	}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*s.intercepting.Load())(w, r, pass)
	}))
	front.Config.Protocols = both
	front.Config.ErrorLog = pass.ErrorLog
	front.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	front.Start()
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		transport.CloseIdleConnections()
	})
	return front.URL
}

func issue(t testing.TB, id string) (key string, public []byte) {
	t.Helper()
	private, err := license.GenerateKey(id)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := license.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err = license.Issue(signer, license.Info{Tags: []string{"plan:test"}, Users: 10, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return key, signer.PublicKey()
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

// wantEvents checks that what was received is exactly events [from, to), in
// order.
func wantEvents(t testing.TB, got []string, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("%d events received, want %d", len(got), to-from)
	}
	for i, id := range got {
		if want := fmt.Sprintf("event-%06d", from+i); id != want {
			t.Fatalf("event %d received is %s, want %s", i, id, want)
		}
	}
}

func newExporter(t testing.TB, q *queue.Queue, url string, o Options) *Exporter {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e, err := New(q, url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.sender.close)
	return e
}

func export(t testing.TB, e *Exporter) Pass {
	t.Helper()
	p, err := e.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wantStats(t testing.TB, q *queue.Queue, want queue.Stats) {
	t.Helper()
	got, err := q.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want.Bytes, want.Oldest = got.Bytes, got.Oldest
	if got != want {
		t.Errorf("queue has %+v, want %+v", got, want)
	}
	if sum := got.Exported + got.DeadLettered + got.Filtered + got.Expired + got.Pending; sum != got.Recorded {
		t.Errorf("%d recorded, but the sum of what became of them is %d", got.Recorded, sum)
	}
}
