// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// TestLabelsOfManyBatches sends messages of several batches each, with dead
// letters among them, over one stream. The memory of one batch's labels is used
// by the next, and yet each message has its own, and each answer the IDs of its
// events.
func TestLabelsOfManyBatches(t *testing.T) {
	const events, bad = 2*limits.RequestMessages + 500, 97
	s := start(t)
	frames := [][]byte{marshal(t, metadataMessage(s.licensedMetadata()))}
	var want [2][]string
	var keys, deadIDs []string
	for i := range want {
		var batch []byte
		for n := range events {
			e := event(fmt.Sprintf("%d/event %d", i, n))
			e.Feature = "feature." + string(rune('a'+n%26))
			want[i] = append(want[i], e.Id)
			if n%bad == 0 {
				e.Action = "Not a name"
				deadIDs = append(deadIDs, e.Id)
			} else {
				keys = append(keys, fmt.Sprintf("%d%%2Fevent%%20%d %s", i, n, e.Feature))
			}
			batch = append(batch, field(payloadEventsField, marshal(t, e))...)
		}
		frames = append(frames, field(streamEventsField, batch))
	}
	for i, r := range rawExchange(t, s.grpc(t), frames...) {
		if !slices.Equal(r.SucceededEvents, want[i]) {
			t.Errorf("message %d: the answer has not the IDs of its events: %.200q", i, r.SucceededEvents)
		}
	}
	for i, m := range messages(t, s.topic, len(keys)) {
		p, err := payload.Decode(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		id := attribute(m, "event.id")
		if got := m.Key + " " + attribute(m, "event.feature"); !strings.HasSuffix(got, "/"+keys[i]) || id != p.Event.GetId() || p.Labels["event.id"] != id {
			t.Fatalf("message %d has key %q, event ID %q and attributes %q, want %q", i, m.Key, p.Event.GetId(), m.Attributes, keys[i])
		}
	}
	for i, m := range messages(t, s.dead, len(deadIDs)) {
		if id := attribute(m, "event.id"); id != deadIDs[i] {
			t.Fatalf("dead letter %d is of event %q, want %q", i, id, deadIDs[i])
		}
	}
}
