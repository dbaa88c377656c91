// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"database/sql"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/topic/emulator"
	"github.com/telemetrygateway/telemetry/internal/warehouse/bigqueryfake"
)

// A road is all of it: a licensed instance, a gateway and a pipeline, any of
// which may be killed and started again, at the same addresses.
type road struct {
	*landing
	*flow
	db              string // of the instance's queue
	driver, log     string // of the log that the instance keeps for itself
	license, public string
	licenseID       string
	dir             string
	gateway         *process
	instance        *process
	killer          *killer // between instance and gateway
}

const (
	roadSite    = "acme"
	roadVersion = "7.0.0"
)

// roads are the databases of instances.
var roads = []struct {
	name string
	db   func(t *testing.T, dir string) (url, driver, log string)
}{
	{"SQLite", func(_ *testing.T, dir string) (string, string, string) {
		return "sqlite://" + filepath.Join(dir, "instance.db"), "sqlite", "file:" + filepath.Join(dir, "events.db")
	}},
	{"PostgreSQL", func(t *testing.T, _ string) (string, string, string) {
		_, url := postgres(t)
		return url, "pgx", url
	}},
}

func newRoad(t *testing.T, dir string, l *landing) *road {
	t.Helper()
	r := &road{landing: l, flow: newFlow(t), dir: dir}
	r.license, r.public = issueLicence(t)
	r.licenseID = licenseID(t, r.license, r.public)
	return r
}

// startGateway starts the gateway, or starts it again.
func (r *road) startGateway(t *testing.T) {
	t.Helper()
	listen := "127.0.0.1:0"
	if r.gateway != nil {
		listen = r.gateway.address
	}
	r.gateway = startGatewayEnv(t, r.dir, r.env, "-listen", listen, "-license-keys", r.public, "-topic", r.topic, "-deadletter", r.deadLetter)
	if r.killer == nil {
		r.killer = newKiller(t, r.gateway.address)
	}
}

// startInstance starts the instance, or starts it again.
func (r *road) startInstance(t *testing.T) {
	t.Helper()
	listen := "127.0.0.1:0"
	if r.instance != nil {
		listen = r.instance.address
	}
	cmd := exec.Command(telemetry, "instance", "-listen", listen, "-admin", "off", "-gateway", r.killer.url, "-export-interval", "100ms",
		"-export-batch", "1000", "-db", r.db, "-license", r.license, "-site-id", roadSite, "-server-version", roadVersion)
	cmd.Dir, cmd.Env = r.dir, withoutProxy(cleanEnv())
	r.instance = launch(t, cmd, "instance")
}

// killBoth kills the instance and then the gateway at a step of a call, and
// starts them again.
func (r *road) killBoth(t *testing.T, s step) {
	t.Helper()
	for _, victim := range []*process{r.instance, r.gateway} {
		r.killer.victim.Store(victim)
		r.killer.step.Store(s)
		r.killer.left.Store(2)
		within(t, "the end of its victim", victim.ended)
		r.killer.victim.Store(nil)
		if victim == r.gateway {
			r.startGateway(t)
		} else {
			r.startInstance(t)
		}
	}
}

// content is what the event of a number says.
func (r *road) content(number int) content {
	return content{
		Feature: "codeSearch", Action: "executed", RecordedAt: microseconds(flowTime(number)), ServerVersion: roadVersion, ClientName: "journey",
		AnonymousUserID: "somebody", Version: 1, Metadata: map[string]string{"number": bits(float64(number))},
	}
}

// expectations are what was recorded, under the IDs that the instance has given:
// they are in the log that it keeps for itself, which nothing on the road reads.
func (r *road) expectations(t *testing.T) (want []expectation) {
	t.Helper()
	db, err := sql.Open(r.driver, r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT payload_pb FROM telemetry_event_log")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	r.flow.mu.Lock()
	defer r.flow.mu.Unlock()
	logged := map[int]bool{}
	for rows.Next() {
		var wire []byte
		var e pb.Event
		if err := rows.Scan(&wire); err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(wire, &e); err != nil {
			t.Fatal(err)
		}
		number := int(e.GetParameters().GetMetadata()["number"])
		if number >= r.next || logged[number] {
			t.Errorf("the instance has logged what nobody recorded: %v", &e)
		}
		logged[number] = true
		want = append(want, expectation{
			sender: senderName("licensed_instance", roadSite, r.licenseID), id: e.GetId(), content: r.content(number).hash(), must: r.recorded[number],
		})
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for number := range r.recorded {
		if !logged[number] {
			t.Errorf("event %d is recorded, and not in the instance's log", number)
		}
	}
	return want
}

// finishRoad makes good what is left, waits until all has landed and audits it.
func (r *road) finishRoad(t *testing.T, p *process) {
	t.Helper()
	r.finishAll(t, r.instance.address)
	drained(t, r.db)
	r.landing.drained(t, p)
	r.balanced(t)
	stopPipeline(t, p)
	h := r.landing.check(t, r.expectations(t))
	t.Logf("%d events recorded, %d calls failed: %s", len(r.recorded), r.failed, h)
}

// TestLanding records events with a licensed instance and finds each once in the
// warehouse, which answers queries all the while.
func TestLanding(t *testing.T) {
	for _, row := range roads {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := newRoad(t, dir, landingIn(dir, dir))
			r.db, r.driver, r.log = row.db(t, dir)
			r.startGateway(t)
			p := r.landing.start(t)
			r.startInstance(t)

			// With nothing else going on.
			began := time.Now()
			first := r.take()
			ok := r.call(t.Context(), first, r.instance.address)
			r.finish(first, ok)
			poll(t, "row", func() bool { return r.landed(t) == flowEvents }, p.last)
			t.Logf("%v from Record to a row that a query finds, with an export every 100 ms", time.Since(began).Round(time.Millisecond))

			stop := r.flow.start(t, r.instance.address)
			for last, queries := 0, 0; queries < 10; queries++ {
				r.succeed(t, 20)
				n := r.landed(t)
				if n < last {
					t.Errorf("there were %d rows, and now %d", last, n)
				}
				last = n
			}
			stop()
			r.finishRoad(t, p)
		})
	}
}

// TestLandingAllKilled kills, under load, the instance and the gateway at each
// step of a call, the pipeline as it writes, and PostgreSQL.
func TestLandingAllKilled(t *testing.T) {
	for _, row := range roads {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := newRoad(t, dir, landingIn(dir, filepath.Join(dir, "warehouse")))
			r.db, r.driver, r.log = row.db(t, dir)
			r.startGateway(t)
			r.startInstance(t)
			p := r.landing.start(t)
			files := watch(t, filepath.Dir(r.warehouse))
			stop := r.flow.start(t, r.instance.address)
			for s := range steps {
				r.succeed(t, 5)
				r.killBoth(t, s)
				files.after(1+3*int(s), p.kill)
				within(t, "the end of the pipeline", p.ended)
				r.expireLeases(t)
				p = r.landing.start(t)
			}
			r.succeed(t, 5)
			stop()
			r.finishRoad(t, p)
		})
	}
}

// pubSub makes a road over Google's emulator.
func pubSub(t *testing.T, name, warehouse string) *road {
	t.Helper()
	host := emulator.Host(t)
	topic, dead := "projects/journey/topics/"+name, "projects/journey/topics/"+name+"-dead"
	newPuller(t, host, topic, dead)
	l := &landing{topic: "gcppubsub://" + topic, deadLetter: "gcppubsub://" + dead, env: []string{"PUBSUB_EMULATOR_HOST=" + host}}
	l.flags = []string{"-topic", "gcppubsub://" + subscriptionOf(topic), "-deadletter", "gcppubsub://" + subscriptionOf(dead), "-warehouse", warehouse}
	r := newRoad(t, t.TempDir(), l)
	r.db, r.driver, r.log = roads[0].db(t, r.dir)
	r.startGateway(t)
	r.startInstance(t)
	return r
}

// TestLandingPubSub takes the road over Google's emulator. The instance and the
// gateway are killed; the pipeline stops and starts under load. It is not killed:
// the emulator, unlike Google's service, takes a client that was killed for one
// that is there, and gives it messages for ever.
func TestLandingPubSub(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "warehouse.duckdb")
	r := pubSub(t, "landing", "duckdb://"+file)
	r.warehouse = file
	p := r.landing.start(t)
	stop := r.flow.start(t, r.instance.address)
	for s := range steps {
		r.succeed(t, 5)
		r.killBoth(t, s)
		stopPipeline(t, p)
		p = r.landing.start(t)
	}
	r.succeed(t, 5)
	stop()
	r.finishAll(t, r.instance.address)
	drained(t, r.db)
	// Nobody can ask Pub/Sub what is left.
	want, n := r.expectations(t), 0
	poll(t, "row of each event", func() bool { n = r.landed(t); return n >= len(want) },
		func() string { return fmt.Sprintf("%d of %d have landed\n%s", n, len(want), p.last()) })
	r.balanced(t)
	stopPipeline(t, p)
	t.Logf("%d events recorded: %s", len(r.recorded), r.landing.check(t, want))
}

// TestLandingTogether has two pipelines share a subscription of Pub/Sub and a
// warehouse in BigQuery, or what stands in for it here. One of them leaves under
// load.
func TestLandingTogether(t *testing.T) {
	bigqueryfake.Start(t).CreateDataset(t, "journey", "telemetry")
	r := pubSub(t, "together", "bigquery://journey/telemetry")
	first, second := r.landing.start(t), r.landing.start(t)
	stop := r.flow.start(t, r.instance.address)
	for _, p := range []*process{first, second} {
		poll(t, "row of each pipeline", func() bool { return p.metric(t, "telemetry_pipeline_events_total", "landed") > 100 }, p.last)
	}
	stopPipeline(t, first)
	r.succeed(t, 20)
	stop()
	r.finishAll(t, r.instance.address)
	drained(t, r.db)

	want := map[string]bool{}
	for _, e := range r.expectations(t) {
		want[e.id] = true
	}
	var rows []map[string]any
	ask := func(query string) []map[string]any { return r.ask(t, "bigquery://journey/telemetry", query) }
	poll(t, "row of each event", func() bool {
		rows = ask("SELECT COUNT(DISTINCT event_id) AS n FROM events")
		return int(rows[0]["n"].(float64)) >= len(want)
	}, func() string { return fmt.Sprintf("%v of %d have landed\n%s", rows, len(want), second.last()) })
	rows = ask("SELECT event_id FROM events")
	if len(rows) != len(want) {
		t.Errorf("there are %d rows of %d events", len(rows), len(want))
	}
	for _, row := range rows {
		if id, _ := row["event_id"].(string); !want[id] {
			t.Errorf("event %v has landed, and was never recorded", row)
		}
	}
	stopPipeline(t, second)
	t.Logf("%d events recorded, %d rows", len(r.recorded), len(rows))
}
