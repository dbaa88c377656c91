// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package deadletter

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/internal/topic"
)

// TestLookWithoutEnd is a look at messages that are gone once acknowledged: it
// waits for the next one, gives all back, and says when it could hold no more.
func TestLookWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := topic.NewMemory(100)
		sub := at.Subscribe("s", topic.BatchOptions{Messages: 1, InFlight: 3})
		publish := func(n int) {
			if errs := at.Publish(t.Context(), []topic.Message{{Data: fmt.Append(nil, n)}}); errs != nil {
				t.Error(errs)
			}
		}
		look := func(want Looked, took time.Duration) {
			t.Helper()
			start := time.Now()
			seen := 0
			got, err := (&Letters{sub, time.Second, 3}).List(t.Context(), Selection{}, func(*Letter) error { seen++; return nil })
			if err != nil || got != want || seen != want.Matched || time.Since(start) != took {
				t.Errorf("looked at %v (%d) in %v, %v; want %v in %v", got, seen, time.Since(start), err, want, took)
			}
		}
		look(Looked{}, time.Second)
		publish(0)
		go func() {
			time.Sleep(900 * time.Millisecond)
			publish(1)
		}()
		look(Looked{Letters: 2, Matched: 2}, 1900*time.Millisecond)
		for n := range 5 {
			publish(n)
		}
		for range 2 {
			look(Looked{Letters: 2, Matched: 2, More: true}, time.Second)
		}
	})
}
