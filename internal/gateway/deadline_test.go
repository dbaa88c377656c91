// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadline moves a deadline, and sees when it passes.
func TestDeadline(t *testing.T) {
	const never = 0
	for _, row := range []struct {
		name  string
		moves []time.Duration // one a second, from then on
		want  time.Duration   // since the start; never if it does not pass
	}{
		{"left alone", []time.Duration{5 * time.Second}, 5 * time.Second},
		{"later", []time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second}, 7 * time.Second},
		{"earlier", []time.Duration{time.Minute, 5 * time.Second}, 6 * time.Second},
		{"off", []time.Duration{5 * time.Second, never}, never},
		{"off and on", []time.Duration{5 * time.Second, never, time.Minute}, 62 * time.Second},
		{"after it has passed", []time.Duration{time.Second / 2, 5 * time.Second}, time.Second / 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var passed []time.Duration
				began := time.Now()
				d := deadline{mu: &mu, passed: func() { passed = append(passed, time.Since(began)) }}
				for _, after := range row.moves {
					mu.Lock()
					if after == never {
						d.set(time.Time{})
					} else {
						d.set(time.Now().Add(after))
					}
					mu.Unlock()
					time.Sleep(time.Second)
				}
				time.Sleep(time.Hour)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case row.want == never && len(passed) > 0, row.want != never && (len(passed) == 0 || passed[0] != row.want):
					t.Errorf("passed after %v, want %v", passed, row.want)
				}
				d.set(time.Now().Add(time.Second))
				d.stop()
				times := len(passed)
				mu.Unlock()
				time.Sleep(time.Minute)
				mu.Lock()
				if len(passed) != times {
					t.Error("it passed after it had been stopped")
				}
			})
		})
	}
}
