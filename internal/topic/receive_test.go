// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// receive takes at least n messages, all that come with the last of them, and
// acknowledges them.
func receive(t testing.TB, s Subscription, n int) []Message {
	t.Helper()
	return receiveUntil(t, s, func(Message) bool { n--; return n == 0 })
}

// receiveUntil takes messages up to the batch that holds the last one, and
// acknowledges them.
func receiveUntil(t testing.TB, s Subscription, last func(Message) bool) []Message {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []Message // as they are at the time: f may not keep what it gets
	err := s.Receive(ctx, func(_ context.Context, ms []Message) error {
		for _, m := range ms {
			got = append(got, clone(m))
			if last(m) {
				cancel()
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	return got
}

func clone(m Message) Message {
	m.Data, m.Attributes = bytes.Clone(m.Data), slices.Clone(m.Attributes)
	return m
}

// readable returns each message as text, in an order of its own.
func readable(ms []Message) []string {
	var lines []string
	for _, m := range ms {
		attributes := slices.SortedFunc(slices.Values(m.Attributes), func(a, b Attribute) int { return strings.Compare(a.Key, b.Key) })
		lines = append(lines, fmt.Sprintf("%q %q %q", m.Key, attributes, m.Data))
	}
	slices.Sort(lines)
	return lines
}

func keys(ms []Message) []string {
	var ks []string
	for _, m := range ms {
		ks = append(ks, m.Key)
	}
	return ks
}

// eachReceiver runs f for every implementation that can be received from.
func eachReceiver(t *testing.T, f func(t *testing.T, i implementation, c carrier)) {
	for _, i := range implementations {
		t.Run(i.name, func(t *testing.T) {
			if c := i.open(t); c.subscribe != nil {
				f(t, i, c)
			}
		})
	}
}

func TestRoundTrip(t *testing.T) {
	attributes := make([]Attribute, limits.Attributes)
	for i := range attributes {
		attributes[i] = Attribute{fmt.Sprintf("key.%d", i), strings.Repeat("v", i)}
	}
	want := []Message{
		{Key: "empty"},
		{Key: "json", Data: []byte(`{"a": 1}`), Attributes: []Attribute{{"event.id", "1"}}},
		{Key: "1 MB", Data: bytes.Repeat([]byte("0123456789"), 100_000)},
		{Key: "not text", Data: []byte("\x00\xff\xfe\x00")},
		{Key: "unicode ☃", Data: []byte("☃"), Attributes: []Attribute{{"ключ", "значение 🦄"}, {"empty", ""}}},
		{Key: "many attributes", Data: []byte("x"), Attributes: attributes},
	}
	eachReceiver(t, func(t *testing.T, _ implementation, c carrier) {
		topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})
		var published []Message
		for _, m := range want {
			published = append(published, clone(m))
		}
		mustPublish(t, topic, published...)
		got := receive(t, sub, len(want))
		if diff := cmp.Diff(readable(want), readable(got)); diff != "" {
			t.Errorf("received differs (-published +received):\n%s", diff)
		}
	})
}

func TestOrder(t *testing.T) {
	eachReceiver(t, func(t *testing.T, i implementation, c carrier) {
		if !i.ordered {
			return
		}
		topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})
		var want []string
		for n := 0; n < 5000; n += 250 {
			ms := numbered(n, n+250)
			want = append(want, keys(ms)...)
			mustPublish(t, topic, ms...)
		}
		if diff := cmp.Diff(want, keys(receive(t, sub, len(want)))); diff != "" {
			t.Errorf("order differs (-published +received):\n%s", diff)
		}
	})
}

func TestBacklog(t *testing.T) {
	eachReceiver(t, func(t *testing.T, i implementation, c carrier) {
		topic := c.publish(t)
		if i.backlog {
			mustPublish(t, topic, numbered(0, 10)...)
		} else {
			c.subscribe(t, "late", BatchOptions{}).Close()
			mustPublish(t, topic, numbered(0, 10)...)
		}
		sub := c.subscribe(t, "late", BatchOptions{})
		mustPublish(t, topic, numbered(10, 20)...)
		sorted := cmpopts.SortSlices(strings.Compare)
		if diff := cmp.Diff(keys(numbered(0, 20)), keys(receive(t, sub, 20)), sorted); diff != "" {
			t.Errorf("received differs (-published +received):\n%s", diff)
		}
	})
}

// A batch for which f fails comes again, whole; nothing else is lost by it.
func TestFailedBatchComesAgain(t *testing.T) {
	eachReceiver(t, func(t *testing.T, i implementation, c carrier) {
		topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})
		for n := 0; n < 100; n += 10 {
			mustPublish(t, topic, numbered(n, n+10)...)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		failed := make(map[string]bool)
		var acknowledged []string
		err := sub.Receive(ctx, func(_ context.Context, ms []Message) error {
			if !failed[ms[0].Key] {
				for _, m := range ms {
					failed[m.Key] = true
				}
				return errors.New("not this time")
			}
			acknowledged = append(acknowledged, keys(ms)...)
			if len(acknowledged) >= 100 {
				cancel()
			}
			return nil
		})
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		if !i.ordered {
			slices.SortFunc(acknowledged, numerically)
		}
		if diff := cmp.Diff(keys(numbered(0, 100)), acknowledged); diff != "" {
			t.Errorf("acknowledged differs (-published +acknowledged):\n%s", diff)
		}
	})
}

func numerically(a, b string) int {
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return x - y
}

func TestAcknowledgementsLast(t *testing.T) {
	eachReceiver(t, func(t *testing.T, i implementation, c carrier) {
		if !i.durable {
			return
		}
		topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})
		mustPublish(t, topic, numbered(0, 10)...)
		if got := receive(t, sub, 10); len(got) != 10 {
			t.Fatalf("received %d messages, want 10", len(got))
		}
		mustPublish(t, topic, numbered(10, 20)...)
		// The next batch is seen and not acknowledged.
		ctx, cancel := context.WithCancel(t.Context())
		if err := sub.Receive(ctx, func(context.Context, []Message) error {
			cancel()
			return errors.New("stopping")
		}); err != nil {
			t.Fatalf("receive: %v", err)
		}
		for _, closer := range []interface{ Close() error }{sub, topic} {
			if err := closer.Close(); err != nil {
				t.Fatal(err)
			}
		}

		sub, topic = c.subscribe(t, "all", BatchOptions{}), c.publish(t)
		mustPublish(t, topic, numbered(20, 30)...)
		sorted := cmpopts.SortSlices(strings.Compare)
		if diff := cmp.Diff(keys(numbered(10, 30)), keys(receive(t, sub, 20)), sorted); diff != "" {
			t.Errorf("received after opening again differs (-want +got):\n%s", diff)
		}
	})
}

func TestSubscriptionsAreIndependent(t *testing.T) {
	eachReceiver(t, func(t *testing.T, _ implementation, c carrier) {
		topic, a, b := c.publish(t), c.subscribe(t, "a", BatchOptions{}), c.subscribe(t, "b", BatchOptions{})
		sorted := cmpopts.SortSlices(strings.Compare)
		mustPublish(t, topic, numbered(0, 10)...)
		if diff := cmp.Diff(keys(numbered(0, 10)), keys(receive(t, a, 10)), sorted); diff != "" {
			t.Errorf("a differs:\n%s", diff)
		}
		mustPublish(t, topic, numbered(10, 20)...)
		if diff := cmp.Diff(keys(numbered(0, 20)), keys(receive(t, b, 20)), sorted); diff != "" {
			t.Errorf("b differs:\n%s", diff)
		}
		if diff := cmp.Diff(keys(numbered(10, 20)), keys(receive(t, a, 10)), sorted); diff != "" {
			t.Errorf("a, continued, differs:\n%s", diff)
		}
	})
}

// Two receivers share a subscription: every message goes to one of them.
func TestTwoReceivers(t *testing.T) {
	eachReceiver(t, func(t *testing.T, _ implementation, c carrier) {
		topic := c.publish(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		var got []string
		var wg sync.WaitGroup
		for range 2 {
			sub := c.subscribe(t, "shared", BatchOptions{})
			wg.Go(func() {
				if err := sub.Receive(ctx, func(_ context.Context, ms []Message) error {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, keys(ms)...)
					if len(got) >= 1000 {
						cancel()
					}
					return nil
				}); err != nil {
					t.Errorf("receive: %v", err)
				}
			})
		}
		for n := 0; n < 1000; n += 50 {
			mustPublish(t, topic, numbered(n, n+50)...)
		}
		wg.Wait()
		slices.SortFunc(got, numerically)
		if diff := cmp.Diff(keys(numbered(0, 1000)), got); diff != "" {
			t.Errorf("received differs (-published +received):\n%s", diff)
		}
	})
}

func TestReceiveEndsWithItsContext(t *testing.T) {
	eachReceiver(t, func(t *testing.T, _ implementation, c carrier) {
		topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})

		// With nothing to receive.
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- sub.Receive(ctx, func(context.Context, []Message) error { return nil })
		}()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Receive = %v, want nil", err)
		}

		// In the middle of a batch, which is then not lost.
		mustPublish(t, topic, numbered(0, 1)...)
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		if err := sub.Receive(ctx, func(ctx context.Context, _ []Message) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		}); err != nil {
			t.Errorf("Receive = %v, want nil", err)
		}
		if got := keys(receive(t, sub, 1)); !slices.Equal(got, []string{"0"}) {
			t.Errorf("received %q, want the message again", got)
		}

		// With a context that has ended already.
		if err := sub.Receive(ctx, func(context.Context, []Message) error { return nil }); err != nil {
			t.Errorf("Receive = %v, want nil", err)
		}
	})
}
