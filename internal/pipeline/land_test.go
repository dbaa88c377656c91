// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/topic"
)

// TestEachEventLandsOnce publishes each message one to five times, out of order,
// while a pipeline runs and is stopped and started: events of two senders with
// the same IDs, events that were sent again, events that conflict, and messages
// that are no events.
func TestEachEventLandsOnce(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		random := rand.New(rand.NewPCG(1, 2))
		l := newLedger()
		var all []topic.Message
		for n := range 300 {
			for _, sender := range []string{"site-1", "site-2"} {
				o := occurrence{sender: sender, n: n}
				all = append(all, l.add(t, o))
				if n%5 == 0 { // sent again
					o.received = time.Duration(1+n) * time.Second
					all = append(all, l.add(t, o))
				}
				if n%7 == 0 { // and another event by the same ID
					o.variant = 1
					all = append(all, l.add(t, o))
				}
			}
			if n%11 == 0 {
				all = append(all, l.addPoison(n))
			}
		}
		var copies []topic.Message
		for _, m := range all {
			for range 1 + random.IntN(5) {
				copies = append(copies, m)
			}
		}
		random.Shuffle(len(copies), func(i, j int) { copies[i], copies[j] = copies[j], copies[i] })

		for len(copies) > 0 {
			n := min(len(copies), 500)
			publish(t, r.events, copies[:n]...)
			copies = copies[n:]
			// It is stopped with some of these landed, more under way, and the
			// rest still in the topic.
			o := r.options(t)
			var enough <-chan struct{}
			o.Events, enough = handled(o.Events, 300)
			stop := start(t, New(o))
			<-enough
			stop()
		}
		r.drain(t)
		l.check(t, r)
	})
}
