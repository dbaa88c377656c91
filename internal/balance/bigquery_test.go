// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/pipeline"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
	"github.com/telemetrygateway/telemetry/internal/warehouse/bigqueryfake"
)

// TestBigQuery takes the balance of topics whose events land in BigQuery, with
// its views and in its dialect.
func TestBigQuery(t *testing.T) {
	bigqueryfake.Start(t).CreateDataset(t, "test-project", "telemetry")
	const url = "bigquery://test-project/telemetry"
	r := newRoad(t)
	r.publish(t, r.events, r.message(t, "site-1", event("a", 1), at(monday, 0)), r.message(t, "site-1", event("b", 1), at(monday, 1)),
		r.message(t, "site-1", event("b", 1), at(monday, 2)))
	r.publish(t, r.deadLetters, r.letter(t, "site-1", at(monday, 3)))
	w, err := warehouse.Open(t.Context(), url, warehouse.Options{Same: pipeline.Same, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var b warehouse.Batch
	for _, m := range []struct {
		id string
		at time.Time
	}{{"a", at(monday, 0)}, {"b", at(monday, 1)}, {"b", at(monday, 2)}} {
		var row warehouse.Row
		message := r.message(t, "site-1", event(m.id, 1), m.at)
		if v := pipeline.Decode(&message, &row); v != nil {
			t.Fatal(v)
		}
		row.LandedAt = m.at
		b.Events = append(b.Events, row)
	}
	var rejected warehouse.Rejected
	letter := r.letter(t, "site-1", at(monday, 3))
	pipeline.DecodeRejected(&letter, &rejected)
	rejected.LandedAt = at(monday, 3)
	b.Rejected = []warehouse.Rejected{rejected}
	if _, err := w.Insert(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	o := r.options(w)
	for _, o.Since = range []time.Time{{}, at(monday, 0)} {
		report, err := Take(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Lines) != 1 {
			t.Fatalf("%+v, want one line", report.Lines)
		}
		if l := report.Lines[0]; l.Accepted != 4 || l.Landed != 2 || l.Duplicates != 1 || l.rejected() == "0" || l.InFlight != 0 || l.Missing != 0 {
			t.Errorf("%+v, want 4 accepted, 2 landed, a duplicate, and one rejected", l)
		}
	}
}
