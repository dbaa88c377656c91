// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/queue"
)

// BenchmarkExport claims and marks 10,000 events at a time, as the exporter does
// with its defaults.
func BenchmarkExport(b *testing.B) {
	for _, i := range implementations {
		b.Run(i.name, func(b *testing.B) {
			bed := &bed{TB: b, db: i.open(b), dialect: i.dialect, clock: &clock{t: start}}
			q := bed.open(queue.Options{})
			l := bed.lease(q)
			var claiming, marking time.Duration
			for b.Loop() {
				b.StopTimer()
				for n := range 10 {
					bed.add(q, events(1000*n, 1000)...)
				}
				l.Rewind()
				b.StartTimer()
				begun := time.Now()
				rows, err := l.Claim(b.Context(), 10_000, 8<<20)
				if err != nil || len(rows) != 10_000 {
					b.Fatalf("claimed %d events: %v", len(rows), err)
				}
				claimed := time.Now()
				bed.done(l, ids(rows))
				claiming += claimed.Sub(begun)
				marking += time.Since(claimed)
			}
			b.ReportMetric(float64(claiming.Milliseconds())/float64(b.N), "claim-ms")
			b.ReportMetric(float64(marking.Milliseconds())/float64(b.N), "done-ms")
			b.ReportMetric(10_000*float64(b.N)/(claiming+marking).Seconds(), "events/s")
		})
	}
}
