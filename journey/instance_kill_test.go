// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	"google.golang.org/protobuf/types/known/timestamppb"
	_ "modernc.org/sqlite"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/queue"
)

// A killer is a proxy between an instance and its gateway that kills the
// instance in the middle of a call.
type killer struct {
	url    string
	victim atomic.Pointer[process]
	step   atomic.Int32 // a step
	left   atomic.Int64 // calls with events until then
}

// step is a moment in a call.
type step = int32

const (
	requestBegins    step = iota // the proxy has the first bytes
	requestComplete              // the proxy has all of it, the gateway almost
	responseBegins               // the gateway has acknowledged, the instance does not know
	responseComplete             // the instance may know, and has marked or has not
	steps
)

func newKiller(t *testing.T, gatewayAddress string) *killer {
	k := new(killer)
	k.url = detour(t, gatewayAddress, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		c := &proxied{killer: k, ResponseWriter: w, body: r.Body}
		r.Body = c
		defer func() {
			if c.chosen.Load() && k.step.Load() == responseComplete {
				k.kill()
			}
		}()
		pass.ServeHTTP(c, r)
	})
	return k
}

func (k *killer) kill() {
	if v := k.victim.Load(); v != nil {
		v.kill()
	}
}

// proxied is one call through the proxy: its request's body and its response.
type proxied struct {
	*killer
	http.ResponseWriter
	body   io.ReadCloser
	counts bool        // it carries events
	chosen atomic.Bool // it is the call in which to kill
}

// Read counts the calls that carry events, and not those that only ask whether
// there is a gateway.
func (c *proxied) Read(b []byte) (int, error) {
	n, err := c.body.Read(b)
	if !c.counts && strings.Contains(string(b[:n]), "codeSearch") {
		c.counts = true
		c.chosen.Store(c.left.Add(-1) == 0)
	}
	if at := c.step.Load(); c.chosen.Load() && (at == requestBegins || at == requestComplete && err == io.EOF) {
		c.kill()
	}
	return n, err
}

func (c *proxied) Close() error { return c.body.Close() }

func (c *proxied) Write(b []byte) (int, error) {
	if c.chosen.Load() && c.step.Load() == responseBegins {
		c.kill()
	}
	return c.ResponseWriter.Write(b)
}

// Unwrap lets the proxy flush.
func (c *proxied) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// A click is a call that records some events, numbered from first on.
type click struct{ first, events int }

// record makes the call, with an idempotency key, so that making it again after
// an unknown outcome is no new event. It says whether the instance has recorded
// the events.
func (c click) record(t testing.TB, client *http.Client, address string) bool {
	t.Helper()
	var events []map[string]any
	for n := range c.events {
		events = append(events, map[string]any{
			"feature": "codeSearch", "action": "executed", "source": map[string]any{"client": "journey"},
			"parameters": map[string]any{"version": 1, "metadata": []any{map[string]any{"key": "number", "value": c.first + n}}},
		})
	}
	body, err := json.Marshal(map[string]any{
		"query":     `mutation R($events: [TelemetryEventInput!]!) { telemetry { recordEvents(events: $events) { alwaysNil } } }`,
		"variables": map[string]any{"events": events},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/.api/graphql", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", fmt.Sprintf("click-%d", c.first))
	r.Header.Set("X-Sourcegraph-Actor-Anonymous-UID", "somebody")
	response, err := client.Do(r)
	if err != nil {
		return false // the instance has been killed
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return false
	}
	if strings.TrimSpace(string(answer)) != recorded {
		t.Errorf("the instance answers %d: %s", response.StatusCode, answer)
	}
	return true
}

// TestInstanceKilled kills an instance that records and exports at every step of
// a call to the gateway, in its first call and in later ones, during which the
// batch before is being marked. Every event that was recorded reaches the
// gateway's topic, as one event; poison is listed.
func TestInstanceKilled(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		calls []int64 // in which it is killed
		db    func(t *testing.T, dir string) (url, driver, dsn string)
	}{
		{"SQLite", []int64{1, 3}, func(t *testing.T, dir string) (string, string, string) {
			path := filepath.Join(dir, "instance.db")
			return "sqlite://" + path, "sqlite", "file:" + path + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
		}},
		{"PostgreSQL", []int64{2}, func(t *testing.T, _ string) (string, string, string) {
			_, url := postgres(t)
			return url, "pgx", url
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			dbURL, driver, dsn := row.db(t, dir)
			g := startGateway(t, dir, "-unlicensed-rate", "1e6", "-unlicensed-burst", "1000000", "-unlicensed-total-rate", "1e6", "-unlicensed-total-burst", "1000000")
			k := newKiller(t, g.address)
			start := func() *process {
				cmd := exec.Command(telemetry, "instance", "-listen", "127.0.0.1:0", "-admin", "off", "-gateway", k.url,
					"-export-interval", "100ms", "-export-batch", "100", "-db", dbURL, "-event-log", "off")
				cmd.Dir, cmd.Env = dir, withoutProxy(cleanEnv())
				return launch(t, cmd, "instance")
			}
			client := &http.Client{Timeout: patience}
			t.Cleanup(client.CloseIdleConnections)

			var clicks, unknown []click // those recorded for certain, and the others
			next, poison := 0, []string{}
			for _, call := range row.calls {
				for s := range steps {
					k.step.Store(s)
					k.left.Store(call)
					i := start()
					k.victim.Store(i)
					again := unknown
					unknown = nil
					for alive := true; alive; {
						c := click{next, 10}
						if len(again) > 0 {
							c, again = again[0], again[1:]
						} else {
							next += c.events
						}
						if alive = c.record(t, client, i.address); alive {
							clicks = append(clicks, c)
						} else {
							unknown = append(unknown, c)
						}
					}
					unknown = append(unknown, again...)
					within(t, "the end of the instance", i.ended)
					k.victim.Store(nil)
					poison = append(poison, addPoison(t, driver, dsn))
				}
			}

			i := start()
			for _, c := range unknown {
				if !c.record(t, client, i.address) {
					t.Fatal("an instance that nobody kills does not record")
				}
				clicks = append(clicks, c)
			}
			drained(t, dbURL)
			ids := map[int]map[string]bool{} // by number
			arrivals := 0
			for line := range readTopic(t, "sqlite://"+filepath.Join(dir, "data/topic.db")) {
				n := int(line.Data.Event.Parameters.Metadata["number"])
				if ids[n] == nil {
					ids[n] = map[string]bool{}
				}
				ids[n][line.Data.Event.ID] = true
				arrivals++
			}
			for _, c := range clicks {
				for n := c.first; n < c.first+c.events; n++ {
					if len(ids[n]) != 1 {
						t.Errorf("event %d arrived as %d events", n, len(ids[n]))
					}
				}
			}
			if len(ids) != next {
				t.Errorf("%d events were recorded, %d arrived", next, len(ids))
			}
			stdout, stderr, exit := run(t, dir, nil, "queue", "dead", "-db", dbURL)
			if exit != 0 {
				t.Fatalf("telemetry queue dead: exit %d: %s", exit, stderr)
			}
			for _, id := range poison {
				if !strings.Contains(stdout, id) {
					t.Errorf("poison %s is not listed", id)
				}
			}
			if strings.Count(stdout, "feature_invalid") != len(poison) {
				t.Errorf("the dead letters are:\n%s", stdout)
			}
			if len(clicks) < len(row.calls)*int(steps) {
				t.Errorf("nothing is proven by %d calls", len(clicks))
			}
			t.Logf("killed %d times: %d events recorded, %d arrivals, %d poison", len(row.calls)*int(steps), next, arrivals, len(poison))
		})
	}
}

// addPoison queues an event that the gateway can never publish, as an
// application could that has a fault, and returns its ID.
func addPoison(t testing.TB, driver, dsn string) string {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	q, err := queue.Open(t.Context(), db, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()
	err = q.Add(t.Context(), &pb.Event{
		Id: id, Timestamp: timestamppb.New(time.Now().Add(-time.Hour)), Feature: "no feature has spaces", Action: "executed",
		Source: &pb.EventSource{Server: &pb.EventSource_Server{Version: "1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}
