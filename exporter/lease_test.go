// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/queue"
)

// clock is a clock that stands until it is set.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// Of two exporters on one queue, one works. When it dies in the middle of a
// call, the other takes over after a while, and the first, should it come back,
// marks nothing.
func TestTwoExporters(t *testing.T) {
	for _, db := range databases {
		t.Run(db.name, func(t *testing.T) {
			c, db := new(clock), db.open(t)
			q := openQueue(t, db, queue.Options{Now: c.now})
			twin := openQueue(t, db, queue.Options{Now: c.now})
			add(t, q, 0, 300)
			s := serve(t)
			arrived, release := make(chan bool), make(chan bool)
			s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
				s.intercept(nil) // for the next
				arrived <- true
				<-release
				pass.ServeHTTP(w, r)
			})
			first := newExporter(t, q, s.url, Options{Holder: "the first"})
			second := newExporter(t, twin, s.url, Options{Holder: "the second"})

			ended := make(chan Pass)
			go func() { ended <- first.pass(t.Context(), 0) }()
			<-arrived
			for range 3 {
				if p := second.pass(t.Context(), 0); p.Leased || p.Sent > 0 || p.Err != nil || second.Status().Standby != "the first" {
					t.Errorf("the second does %+v, with status %+v", p, second.Status())
				}
			}

			c.advance(MaxLeaseFor + time.Second)
			if p := second.pass(t.Context(), 0); !p.Leased || p.Accepted != 300 || second.Status().Standby != "" {
				t.Errorf("the second, after the first's lease, does %+v", p)
			}
			wantStats(t, q, queue.Stats{Recorded: 300, Exported: 300})
			exported, err := q.List(t.Context(), queue.Exported, 1, "")
			if err != nil {
				t.Fatal(err)
			}

			close(release)
			if p := <-ended; !errors.Is(p.Err, queue.ErrFenced) || p.Kind != KindFenced || p.Complete {
				t.Errorf("the first, back again, does %+v", p)
			}
			again, err := q.List(t.Context(), queue.Exported, 1, "")
			if err != nil || !again.Items[0].At.Equal(exported.Items[0].At) {
				t.Error("the first marked what the second had marked")
			}
			if p := first.pass(t.Context(), 0); p.Leased || first.Status().Standby != "the second" {
				t.Errorf("the first then does %+v", p)
			}
			got := s.received(t)
			slices.Sort(got)
			wantEvents(t, slices.Compact(got), 0, 300)

			// Given back, the queue is free at once.
			second.release(t.Context())
			if p := first.pass(t.Context(), 0); !p.Leased || !p.ok() {
				t.Errorf("the first, let, does %+v", p)
			}
		})
	}
}

// A call that takes longer than the lease is for does not cost it.
func TestLeaseIsRenewedDuringCalls(t *testing.T) {
	var sending atomic.Bool
	asked := make(chan bool, 1000)
	q := openQueue(t, sqlite(t), queue.Options{Now: func() time.Time {
		if sending.Load() {
			asked <- true
		}
		return time.Now()
	}})
	add(t, q, 0, 10)
	s := serve(t)
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		sending.Store(true)
		for range 4 { // renewals, each of which asks for the time
			select {
			case <-asked:
			case <-time.After(30 * time.Second):
				t.Error("the lease is not renewed")
			}
		}
		sending.Store(false)
		pass.ServeHTTP(w, r)
	})
	// The batch before has none to be marked and the next is not read, so that
	// nothing else asks.
	e := newExporter(t, q, s.url, Options{LeaseFor: time.Second})
	if p := e.pass(t.Context(), 0); !p.ok() || p.Accepted != 10 {
		t.Errorf("pass is %+v", p)
	}
}

// What the gateway acknowledged while the database did not work is marked when
// it works again, without being sent again.
func TestMarksSurviveTheDatabase(t *testing.T) {
	db := sqlite(t)
	q := openQueue(t, db, queue.Options{})
	add(t, q, 0, 100)
	s := serve(t)
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		pass.ServeHTTP(w, r)
		if _, err := db.Exec("ALTER TABLE telemetry_events_export_lease RENAME TO elsewhere"); err != nil {
			t.Error(err)
		}
	})
	e := newExporter(t, q, s.url, Options{})
	if p := e.pass(t.Context(), 0); p.Accepted != 100 || p.Kind != KindQueue || p.Complete {
		t.Errorf("pass is %+v", p)
	}
	wantStats(t, q, queue.Stats{Recorded: 100, Pending: 100})
	if _, err := db.Exec("ALTER TABLE elsewhere RENAME TO telemetry_events_export_lease"); err != nil {
		t.Fatal(err)
	}
	if p := e.pass(t.Context(), 0); p.Sent != 0 || !p.ok() {
		t.Errorf("the next pass is %+v", p)
	}
	wantStats(t, q, queue.Stats{Recorded: 100, Exported: 100})
	wantEvents(t, s.received(t), 0, 100)
}
