// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/telemetrygateway/telemetry/internal/golden"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

const (
	monday  = "2026-11-16"
	tuesday = "2026-11-17"
)

func at(day string, n int) time.Time {
	d, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	return d.Add(time.Duration(n) * time.Second)
}

// everything lands one of each kind of thing that can become of an event.
func (r *road) everything(t *testing.T) {
	first := event("a-1", 1)
	published := []topic.Message{
		r.message(t, "site-1", first, at(monday, 1)),
		r.message(t, "site-1", first, at(monday, 1)),            // delivered twice
		r.message(t, "site-1", first, at(monday, 2)),            // sent twice
		r.message(t, "site-1", event("a-1", 2), at(monday, 3)),  // a conflict
		r.message(t, "site-1", event("a-2", 1), at(tuesday, 1)), // another day
		r.message(t, "site-2", first, at(monday, 1)),            // another sender
		{Key: "unlicensed/site-3/x", Data: []byte("not a payload")},
		{Key: "unlicensed/site-3/x", Data: []byte("not a payload")},
	}
	r.publish(t, r.events, published...)
	refused := r.letter(t, "site-2", at(tuesday, 5))
	r.publish(t, r.deadLetters, refused, refused, r.letter(t, "site-2", at(tuesday, 6)))
	r.publish(t, r.deadLetters, topic.Message{Key: "stray", Data: []byte("not a dead letter")})
	// The pipeline's own are one for the conflict and, as they come in one batch,
	// one for each copy of what is no payload.
	r.land(t, int64(len(published)), 4+3)

	// Two replays of one dead letter: the second lands nothing.
	replay := r.replay(t, refused)
	r.publish(t, r.events, replay, replay)
	r.land(t, 2, 0)
}

func lines() []Line {
	return []Line{
		{Known: true, Accepted: 1, Rejected: map[string]int64{"payload_invalid": 1}},
		{Identity: "unlicensed/site-1", Day: monday, Known: true, Accepted: 3, Landed: 1, Duplicates: 1, Rejected: map[string]int64{"id_conflict": 1}},
		{Identity: "unlicensed/site-1", Day: tuesday, Known: true, Accepted: 1, Landed: 1},
		{Identity: "unlicensed/site-2", Day: monday, Known: true, Accepted: 1, Landed: 1},
		{Identity: "unlicensed/site-2", Day: tuesday, Known: true, Accepted: 2, Replayed: 1, Landed: 1, Rejected: map[string]int64{"action_invalid": 2}},
		{Identity: "unlicensed/site-3", Known: true, Accepted: 1, Rejected: map[string]int64{"payload_invalid": 1}},
	}
}

var compare = cmp.Options{cmpopts.IgnoreUnexported(Line{}), cmpopts.EquateEmpty()}

func (r *road) check(t *testing.T, want []Line) *Report {
	t.Helper()
	got := r.take(t, Options{})
	if diff := cmp.Diff(want, got.Lines, compare); diff != "" {
		t.Errorf("lines differ (-want +got):\n%s", diff)
	}
	balanced := true
	for _, l := range want {
		balanced = balanced && l.Missing == 0
	}
	if got.Balanced() != balanced {
		t.Errorf("Balanced = %v, want %v", got.Balanced(), balanced)
	}
	return got
}

func TestAddsUp(t *testing.T) {
	r := newRoad(t)
	r.check(t, nil)
	r.everything(t)
	r.check(t, lines())

	since := r.take(t, Options{Since: at(tuesday, 20_000)})
	want := []Line{lines()[2], lines()[4]}
	if diff := cmp.Diff(want, since.Lines, compare); diff != "" {
		t.Errorf("since Tuesday differs (-want +got):\n%s", diff)
	}

	// What is not acknowledged is in flight.
	r.publish(t, r.events, r.message(t, "site-2", event("b-1", 1), at(tuesday, 9)), r.message(t, "site-2", event("b-1", 1), at(tuesday, 9)))
	r.publish(t, r.deadLetters, r.letter(t, "site-2", at(tuesday, 10)))
	flying := lines()
	flying[4].Accepted += 2
	flying[4].InFlight = 2
	r.check(t, flying)
}

// A pipeline that died between landing and acknowledging has landed what it has
// not acknowledged.
func TestLandedAndNotAcknowledged(t *testing.T) {
	r := newRoad(t)
	r.everything(t)
	r.exec(t, r.events.path, "UPDATE subscriptions SET position = 0")
	r.exec(t, r.deadLetters.path, "UPDATE subscriptions SET position = 0")
	r.check(t, lines())
}

// Whatever row is taken from the warehouse, the line says so.
func TestRowIsMissing(t *testing.T) {
	whole := newRoad(t)
	whole.everything(t)
	for _, tt := range []struct {
		remove string
		line   int
		change func(*Line)
	}{
		{"DELETE FROM events WHERE event_id = 'a-2'", 2, func(l *Line) { l.Landed = 0 }},
		{"DELETE FROM events_duplicates", 1, func(l *Line) { l.Duplicates = 0 }},
		{"DELETE FROM events_rejected WHERE reason = 'id_conflict'", 1, func(l *Line) { l.Rejected = nil }},
		{"DELETE FROM events WHERE replay_of IS NOT NULL", 4, func(l *Line) { l.Landed = 0 }},
	} {
		t.Run(tt.remove, func(t *testing.T) {
			r := *whole
			r.warehouse = filepath.Join(t.TempDir(), "warehouse.duckdb")
			data, err := os.ReadFile(whole.warehouse)
			if err == nil {
				err = os.WriteFile(r.warehouse, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			r.warehouseExec(t, tt.remove)
			want := lines()
			tt.change(&want[tt.line])
			want[tt.line].Missing = 1
			r.check(t, want)
		})
	}
}

func TestRowTooMany(t *testing.T) {
	r := newRoad(t)
	r.everything(t)
	r.warehouseExec(t, "INSERT INTO events SELECT * FROM events WHERE event_id = 'a-2'")
	want := lines()
	want[2].Landed, want[2].Missing = 2, -1
	r.check(t, want)
}

// A pipeline that acknowledges what it has not landed is caught, in either topic.
func TestAcknowledgedAndNotLanded(t *testing.T) {
	r := newRoad(t)
	r.everything(t)
	r.publish(t, r.events, r.message(t, "site-1", event("lost", 1), at(tuesday, 2)))
	r.publish(t, r.deadLetters, r.letter(t, "site-2", at(tuesday, 11)))
	flying := lines()
	for _, i := range []int{2, 4} {
		flying[i].Accepted++
		flying[i].InFlight = 1
	}
	r.check(t, flying)
	for _, f := range []file{r.events, r.deadLetters} {
		r.exec(t, f.path, "UPDATE subscriptions SET position = position + 1")
	}
	for _, i := range []int{2, 4} {
		flying[i].InFlight, flying[i].Missing = 0, 1
	}
	got := r.check(t, flying)

	var table, lines bytes.Buffer
	if err := errors.Join(got.WriteTable(&table), got.WriteJSON(&lines)); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, table.Bytes(), "testdata/missing.txt")
	golden.Check(t, lines.Bytes(), "testdata/missing.json")
}

// Days of which messages have been removed are not compared; those after are.
func TestMessagesWereRemoved(t *testing.T) {
	r := newRoad(t)
	r.publish(t, r.events,
		r.message(t, "site-1", event("1", 1), at(monday, 1)),
		r.message(t, "site-1", event("2", 1), at(monday, 2)),
		r.message(t, "site-1", event("3", 1), at(tuesday, 1)),
	)
	r.land(t, 3, 0)
	r.exec(t, r.events.path, "DELETE FROM messages WHERE seq = 1")
	r.warehouseExec(t, "DELETE FROM events WHERE event_id IN ('2', '3')")
	got := r.check(t, []Line{
		{Identity: "unlicensed/site-1", Day: monday, Landed: 1},
		{Identity: "unlicensed/site-1", Day: tuesday, Known: true, Accepted: 1, Missing: 1},
	})
	if len(got.Notes) == 0 || !strings.Contains(got.Notes[len(got.Notes)-1], "up to 2026-11-16") {
		t.Errorf("notes: %q", got.Notes)
	}
}

// While a pipeline lands what is published meanwhile, each look adds up.
func TestAddsUpMeanwhile(t *testing.T) {
	r := newRoad(t)
	const events = 400
	ctx, cancel := context.WithCancel(t.Context())
	w, enough := r.start(t, ctx, events, 0)
	looks := 0
	for n := range events {
		r.publish(t, r.events, r.message(t, "site-1", event(time.Duration(n).String(), 1), at(monday, n)))
		if n%20 == 0 {
			looks++
			got, err := Take(t.Context(), r.options(w))
			if err != nil {
				t.Fatal(err)
			}
			if !got.Balanced() || len(got.Lines) != 1 || got.Lines[0].Accepted != int64(n+1) {
				t.Errorf("after %d events: %+v", n+1, got.Lines)
			}
		}
	}
	<-enough
	cancel()
	r.wait(t)
	r.check(t, []Line{{Identity: "unlicensed/site-1", Day: monday, Known: true, Accepted: events, Landed: events}})
	if looks < 10 {
		t.Errorf("looked %d times", looks)
	}
}

func TestNothingIsKnownOfPubSub(t *testing.T) {
	r := newRoad(t)
	r.everything(t)
	got := r.take(t, Options{Topic: "gcppubsub://projects/p/subscriptions/s"})
	for _, l := range got.Lines {
		if l.Known || l.Missing != 0 {
			t.Errorf("line %+v", l)
		}
	}
	if len(got.Lines) == 0 || !got.Balanced() || len(got.Notes) == 0 || !strings.Contains(got.Notes[0], "does not keep what was acknowledged") {
		t.Errorf("report %+v", got)
	}
}

// warehouseExec changes the warehouse behind everyone's back.
func (r *road) warehouseExec(t *testing.T, statement string) {
	t.Helper()
	db, err := sql.Open("duckdb", r.warehouse)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.Exec(statement)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s changed %d rows (%v)", statement, n, err)
	}
}
