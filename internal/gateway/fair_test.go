// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

func fairSession(t *testing.T, s *server, md *pb.RecordEventsRequestMetadata) *session {
	t.Helper()
	session, err := s.newSession(context.WithValue(t.Context(), callKey{}, new(call)), marshal(t, md), "127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// TestUnlicensedWaitForTheirTurn shows that unlicensed senders who wait to be
// encoded do not stand in the way of licensed ones.
func TestUnlicensedWaitForTheirTurn(t *testing.T) {
	s := start(t, discarding)
	licensed, unlicensed := fairSession(t, s, s.licensedMetadata()), fairSession(t, s, unlicensedMetadata("site"))
	events := [][]byte{marshal(t, event("a"))}
	synctest.Test(t, func(t *testing.T) {
		busy := int64(0) // as if as many unlicensed senders encoded as may
		for s.unprovenEncoders.TryAcquire(1) {
			busy++
		}
		answered := make(chan *answer, 1)
		record := func(s *session) *answer {
			m := &message{request: request{events: events}}
			s.record(context.Background(), m)
			return &m.answer
		}
		go func() { answered <- record(unlicensed) }()
		synctest.Wait()
		if a := record(licensed); a.verdicts[0].outcome != accepted {
			t.Errorf("the licensed sender got %v", a.verdicts[0])
		}
		select {
		case a := <-answered:
			t.Errorf("an unlicensed sender was not made to wait: %v", a.verdicts[0])
		default:
			s.unprovenEncoders.Release(busy)
			if a := <-answered; a.verdicts[0].outcome != accepted {
				t.Errorf("after its wait the unlicensed sender got %v", a.verdicts[0])
			}
		}
	})
}

// TestHoldBack shows how fast messages are received that are more than their
// senders may send.
func TestHoldBack(t *testing.T) {
	const second = limits.LimitedBytesPerSecond - limits.LimitedOverhead // of a message that takes a second
	for _, row := range []struct {
		name    string
		sizes   []int
		want    time.Duration
		waiting int // others, each with a message of the largest burst
	}{
		{name: "first", sizes: []int{1000}},
		{name: "flood", sizes: []int{limits.LimitedBurstBytes, limits.LimitedBurstBytes, second / 2}, want: time.Second},
		{name: "many others", sizes: []int{1000}, want: limits.LimitedWait, waiting: 100},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := New(Options{Metrics: newTestMetrics()})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				for range row.waiting {
					go (&session{g: g}).holdBack(ctx, limits.LimitedBurstBytes)
				}
				synctest.Wait()
				began := time.Now()
				for _, size := range row.sizes {
					(&session{g: g}).holdBack(ctx, size)
				}
				if took := time.Since(began); took.Round(10*time.Millisecond) != row.want {
					t.Errorf("held back for %v, want %v", took, row.want)
				}
			})
		})
	}
}

// TestHeldBackOnStream shows that a stream whose message was more than its
// sender may send is what pays for it, and that one within bounds is not.
func TestHeldBackOnStream(t *testing.T) {
	s := start(t, func(_ *Options, i *identity.Options, _ *ServeOptions) {
		i.Unlicensed.Burst, i.Unlicensed.Rate = 5, 0.001
	})
	s.limited = rate.NewLimiter(1, limits.LimitedBurstBytes) // refills slowly
	for _, row := range []struct {
		events int
		paid   bool
	}{{1, false}, {100, true}} {
		before := s.limited.Tokens()
		got, err := exchange(t, s, metadataMessage(unlicensedMetadata("site")), eventsMessage(events("e", row.events)...))
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		if paid := before-s.limited.Tokens() > limits.LimitedOverhead/2; paid != row.paid {
			t.Errorf("%d events: paid %v, want %v", row.events, paid, row.paid)
		}
	}
}
