// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"maps"
	"testing"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/queue"
)

func TestDrainsOldestFirst(t *testing.T) {
	for _, db := range databases {
		t.Run(db.name, func(t *testing.T) {
			q := openQueue(t, db.open(t), queue.Options{})
			add(t, q, 0, 2500)
			s := serve(t)
			e := newExporter(t, q, s.url, Options{Batch: 1000})
			p := export(t, e)
			if p.Sent != 2500 || p.Accepted != 2500 || p.Batches != 3 || !p.Complete || !p.Leased || p.Identity != Unlicensed || p.Bytes == 0 {
				t.Errorf("pass is %+v", p)
			}
			wantEvents(t, s.received(t), 0, 2500)
			wantStats(t, q, queue.Stats{Recorded: 2500, Exported: 2500})

			// Only what is new is sent, over the same connection.
			add(t, q, 2500, 2600)
			if p := export(t, e); p.Sent != 100 {
				t.Errorf("the next pass sent %d events, want 100", p.Sent)
			}
			wantEvents(t, s.received(t), 0, 2600)
			if n := s.connections.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// Rows that are no event, and events that the gateway cannot publish, are among
// the dead letters with the reason after one pass, and hold up nobody.
func TestPoisonAtTheHead(t *testing.T) {
	for _, db := range databases {
		t.Run(db.name, func(t *testing.T) {
			db := db.open(t)
			q := openQueue(t, db, queue.Options{})
			add(t, q, 0, 5000)
			if _, err := db.Exec(`UPDATE telemetry_events_export_queue SET payload_pb = '\xff'`); err != nil {
				t.Fatal(err)
			}
			var misnamed []*v1.Event
			for n := 5000; n < 10_000; n++ {
				e := event(n)
				e.Feature = "no feature has spaces"
				misnamed = append(misnamed, e)
			}
			if err := q.Add(t.Context(), misnamed...); err != nil {
				t.Fatal(err)
			}
			add(t, q, 10_000, 10_500)
			s := serve(t)
			p := export(t, newExporter(t, q, s.url, Options{Batch: 1000}))
			if p.Accepted != 500 || p.DeadLettered != 5000 || p.Failed != 0 || p.Reasons["feature_invalid"] != 5000 || !p.Complete {
				t.Errorf("pass is %+v", p)
			}
			wantEvents(t, s.received(t), 10_000, 10_500)
			wantStats(t, q, queue.Stats{Recorded: 10_500, Exported: 500, DeadLettered: 10_000})
			reasons := map[string]int{}
			for page := (queue.Page{}); ; {
				var err error
				if page, err = q.List(t.Context(), queue.DeadLettered, 1000, page.Next); err != nil {
					t.Fatal(err)
				}
				for _, i := range page.Items {
					reasons[i.Reason+" "+i.Field]++
					if i.Message == "" {
						t.Fatalf("dead letter %s says not why", i.ID)
					}
				}
				if page.Next == "" {
					break
				}
			}
			if want := map[string]int{"undecodable ": 5000, "feature_invalid feature": 5000}; !maps.Equal(reasons, want) {
				t.Errorf("dead letters have reasons %v, want %v", reasons, want)
			}
		})
	}
}
