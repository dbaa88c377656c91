// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// letters is a topic of dead letters that can be out of order.
type letters struct {
	topic.Topic
	publish func(ctx context.Context, ms []topic.Message, publish func(context.Context, []topic.Message) []error) []error
}

func (l letters) Publish(ctx context.Context, ms []topic.Message) []error {
	return l.publish(ctx, ms, l.Topic.Publish)
}

// TestDeadLettersAway has the topic of dead letters fail for longer than the
// pipeline lives. Neighbours land, and nothing is acknowledged.
func TestDeadLettersAway(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		l := newLedger()
		for n := range 16 {
			if n == 5 {
				publish(t, r.events, l.addPoison(n))
			}
			publish(t, r.events, l.add(t, occurrence{sender: "site-1", n: n}))
		}
		var book logBook
		o := r.options(t)
		o.Log = book.logger()
		attempts := make(chan struct{}, 1000)
		o.DeadLetterTopic = letters{r.deadLetters, func(_ context.Context, ms []topic.Message, _ func(context.Context, []topic.Message) []error) []error {
			attempts <- struct{}{}
			return slices.Repeat([]error{errDisk}, len(ms))
		}}
		acknowledged := make(chan string, 100)
		o.Events = tapped{o.Events, func(ctx context.Context, ms []topic.Message, f receiver) error {
			err := f(ctx, ms)
			if err == nil && slices.ContainsFunc(ms, func(m topic.Message) bool { return m.Key == "poison/5" }) {
				acknowledged <- "poison"
			}
			return err
		}}
		p := New(o)
		stop := start(t, p)
		for range 4 {
			<-attempts
		}
		if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), errDisk.Error()) {
			t.Errorf("Ready = %v while dead letters cannot be published", err)
		}
		stop()
		if len(acknowledged) > 0 {
			t.Error("a message was acknowledged whose dead letter was not durable")
		}
		if n := len(r.query(t, "SELECT event_id FROM events")); n < 15 {
			t.Errorf("%d neighbours of an undecodable message landed, want all of its batch", n)
		}
		if n := book.count("cannot publish to the topic of dead letters"); n != 1 {
			t.Errorf("logged %d times\n%s", n, &book.text)
		}
		r.drain(t)
		l.check(t, r)
	})
}

// TestDeadLetterTooLarge has the topic refuse dead letters for good. They land all
// the same.
func TestDeadLetterTooLarge(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		l := newLedger()
		for n := range 5 {
			publish(t, r.events, l.add(t, occurrence{sender: "site-1", n: n}), l.addPoison(n))
		}
		o := r.options(t)
		o.DeadLetters = nil
		o.DeadLetterTopic = letters{r.deadLetters, func(_ context.Context, ms []topic.Message, _ func(context.Context, []topic.Message) []error) []error {
			return slices.Repeat([]error{fmt.Errorf("too large: %w", topic.ErrRejected)}, len(ms))
		}}
		var done <-chan struct{}
		o.Events, done = handled(o.Events, 10)
		stop := start(t, New(o))
		<-done
		stop()
		if n := len(r.query(t, "SELECT 1 FROM events_rejected")); n != 5 {
			t.Errorf("%d were rejected, want 5", n)
		}
		r.drain(t)
		l.check(t, r)
	})
}

// TestRejectedAreCountedOnce delivers dead letters again, and beside new ones.
func TestRejectedAreCountedOnce(t *testing.T) {
	eachRoad(t, func(t *testing.T, r *road) {
		conflict := func(n int) topic.Message {
			v := &limits.Violation{Reason: limits.ReasonIDConflict}
			data, labels := payload.AppendUnlandable(nil, fmt.Sprint("site/", n), fmt.Appendf(nil, "conflict %d", n), nil, v)
			return topic.Message{Key: labels.Key, Data: data}
		}
		counted := func(want map[string]int, ms ...topic.Message) {
			t.Helper()
			publish(t, r.deadLetters, ms...)
			o := r.options(t)
			var done <-chan struct{}
			o.DeadLetters, done = handled(o.DeadLetters, int64(len(ms)))
			stop := start(t, New(o))
			<-done
			stop()
			for reason, n := range want {
				if got := metric(t, o.Metrics, fmt.Sprintf("telemetry_pipeline_rejected_total{reason=%q}", reason)); got != fmt.Sprint(n) {
					t.Errorf("%s of reason %s are counted, want %d", got, reason, n)
				}
			}
		}
		first := []topic.Message{poison(1), conflict(1), poison(2), conflict(2), poison(2)}
		counted(map[string]int{"payload_invalid": 2, "id_conflict": 2}, first...)
		counted(map[string]int{"payload_invalid": 0, "id_conflict": 0}, first...)
		counted(map[string]int{"payload_invalid": 1, "id_conflict": 2}, append(first, conflict(3), poison(3), conflict(4))...)
	})
}

// TestDeadLettersComeInChunks has far more undecodable messages in one batch than
// a topic takes at once.
func TestDeadLettersComeInChunks(t *testing.T) {
	r := newRoad(t, memoryCarrier)
	l := newLedger()
	for n := range 2500 {
		publish(t, r.events, l.addPoison(n))
	}
	publish(t, r.events, topic.Message{Key: "large", Data: make([]byte, 3<<20)}, topic.Message{Key: "small"})
	var largest, published, bytes int
	o := r.options(t)
	o.Events = r.events.subscribe(t, topic.BatchOptions{Messages: 10_000})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.DeadLetters = nil
	o.DeadLetterTopic = letters{r.deadLetters, func(_ context.Context, ms []topic.Message, _ func(context.Context, []topic.Message) []error) []error {
		largest = max(largest, len(ms))
		size := 0
		for _, m := range ms {
			size += len(m.Data)
		}
		if len(ms) > 1 {
			bytes = max(bytes, size-len(ms[len(ms)-1].Data))
		}
		if published += len(ms); published == 2502 {
			cancel()
		}
		return nil
	}}
	if err := New(o).Run(ctx); err != nil {
		t.Fatal(err)
	}
	if published != 2502 || largest > limits.RequestMessages || bytes > limits.ChunkBytes {
		t.Errorf("published %d dead letters, %d at once at most, with %d bytes before the last one", published, largest, bytes)
	}
}
