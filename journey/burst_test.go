// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

const (
	burstStreams  = memoryStreams
	burstMessages = 6 // on each stream
	burstEvents   = 500
	// burstBytes is what a gateway may need for them, and burstOver how long
	// after them it may need more than when idle.
	burstBytes = 256 << 20
	burstOver  = time.Minute
)

// TestBurst sends usual messages over 1,000 streams as fast as the gateway takes
// them. It needs little memory for that, and soon afterwards no more than it
// promises to need when idle.
func TestBurst(t *testing.T) {
	licence, public := issueLicence(t)
	g := startGateway(t, t.TempDir(), "-license-keys", public, "-topic", "discard:", "-deadletter", "discard:")
	metadata := envelope(false, metadataFrame(licence, "site"))
	kind := usualMessage()
	send := func(streams, messages int) {
		var group errgroup.Group
		for first := 0; first < streams; first += memoryStreams / memoryConnections {
			client := h2c(t)
			t.Cleanup(client.CloseIdleConnections)
			// The connection is there before the streams want it.
			if r, err := client.Get("http://" + g.address + "/livez"); err != nil {
				t.Fatal(err)
			} else {
				r.Body.Close()
			}
			for range min(memoryStreams/memoryConnections, streams-first) {
				group.Go(func() error {
					parts := []io.Reader{bytes.NewReader(metadata)}
					for range messages {
						parts = append(parts, bytes.NewReader(kind.frame))
					}
					r, err := call(t.Context(), client, g.address, io.MultiReader(parts...))
					if err != nil {
						return err
					}
					got := 0
					if _, err = answers(r, func(message []byte) error { got++; return kind.check(message) }); err == nil && got != messages {
						err = fmt.Errorf("%d answers to %d messages", got, messages)
					}
					return err
				})
			}
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	send(1, 1)
	idle := g.status(t, "VmRSS")
	began := time.Now()
	send(burstStreams, burstMessages)
	took, peak := time.Since(began), g.status(t, "VmHWM")
	over := time.After(burstOver)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := peak; now > idleBytes; {
		select {
		case <-tick.C:
			now = g.status(t, "VmRSS")
		case <-over:
			t.Fatalf("%d MiB resident %v after the burst, %d before", now>>20, burstOver, idle>>20)
		}
	}
	t.Logf("%d MiB resident before, %d at most while %d streams sent %d events in %v, and what is promised when idle %v later",
		idle>>20, peak>>20, burstStreams, burstStreams*burstMessages*burstEvents, took.Round(time.Second), time.Since(began.Add(took)).Round(time.Second))
	if peak > burstBytes {
		t.Errorf("%d MiB resident at most, want at most %d", peak>>20, burstBytes>>20)
	}
}

// usualMessage has events of 400 bytes.
func usualMessage() largest {
	s := newSender("site", "", newLedger(), 1)
	var batch []*record
	for len(batch) < burstEvents {
		for _, r := range s.make(1) {
			if r.poison {
				continue
			}
			if short := 400 - len(r.wire); short > 0 {
				r.event.Interaction = &pb.EventInteraction{TraceId: new(strings.Repeat("0", short-6))}
				r.wire = marshal(r.event)
			}
			batch = append(batch, r)
		}
	}
	return largest{"usual events", envelope(false, frame(batch)), burstEvents, pb.EventVerdict_OUTCOME_ACCEPTED}
}
