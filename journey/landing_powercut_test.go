// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"testing"
	"time"
)

// TestLandingPowerCut cuts the power of the disk that topics and warehouse are on
// 10 times, while events are published and land. Whatever was acknowledged
// before a cut has landed once in the end, without a person's help.
func TestLandingPowerCut(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	if d == nil {
		return
	}
	s := newStream(t, d.folder, d.folder)
	for i := range powerCuts {
		g := s.startGateway(t)
		s.expireLeases(t)
		p := s.start(t, "-batch", []string{"100", "1000", "16384"}[i%3])
		stop := s.run(t, g, 2*time.Millisecond)
		goal := 300 + s.random.IntN(1000)
		poll(t, "enough rows", func() bool {
			return p.metric(t, "telemetry_pipeline_events_total", "landed") >= float64(goal)
		}, func() string { return p.tail(20) })
		s.ledger.cut()
		if err := d.cut(); err != nil {
			t.Fatal(err)
		}
		p.kill()
		g.kill()
		stop()
		if err := d.detach(); err != nil {
			t.Fatal(err)
		}
		if err := d.attach(); err != nil {
			t.Fatal(err)
		}
	}
	g := s.startGateway(t)
	s.expireLeases(t)
	h := s.finish(t, g)
	g.kill() // lets go of the disk
	t.Logf("cut the power %d times: %s", powerCuts, h)
}
