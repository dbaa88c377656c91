// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// As many calls as allowed are under way at once, each with a batch of its own
// that is no larger than allowed.
func TestCallsAtOnce(t *testing.T) {
	eachReceiver(t, func(t *testing.T, _ implementation, c carrier) {
		const most, size = 3, 10
		topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{Messages: size, InFlight: most})
		mustPublish(t, topic, numbered(0, 200)...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		running, got := 0, []string(nil)
		all := make(chan struct{}) // closed when the most calls are under way
		if err := sub.Receive(ctx, func(_ context.Context, ms []Message) error {
			mu.Lock()
			running++
			if running > most || len(ms) > size {
				t.Errorf("call %d at once, with %d messages", running, len(ms))
			}
			if running == most {
				select {
				case <-all:
				default:
					close(all)
				}
			}
			mu.Unlock()
			<-all
			mu.Lock()
			defer mu.Unlock()
			running--
			if got = append(got, keys(ms)...); len(got) == 200 {
				cancel()
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, numerically)
		if diff := cmp.Diff(keys(numbered(0, 200)), got); diff != "" {
			t.Errorf("received differs (-published +received):\n%s", diff)
		}
	})
}

// What is published while a batch is under way does not wait for it, nor for
// more to come.
func TestNextDoesNotWait(t *testing.T) {
	eachReceiver(t, func(t *testing.T, _ implementation, c carrier) {
		topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{InFlight: 2})
		mustPublish(t, topic, numbered(0, 1)...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		second := make(chan struct{})
		if err := sub.Receive(ctx, func(_ context.Context, ms []Message) error {
			if ms[0].Key == "0" {
				mustPublish(t, topic, numbered(1, 2)...)
				<-second
				cancel()
				return nil
			}
			close(second)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// ordered runs f, in a bubble, for the topics whose acknowledgements have an
// order.
func ordered(t *testing.T, f func(t *testing.T, c carrier)) {
	for name, open := range map[string]func(testing.TB) carrier{"memory": newMemory, "sqlite": newSQLite} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, open(t)) })
		})
	}
}

// Batches end in the opposite order. None is acknowledged before those that
// came before it.
func TestAcknowledgedInOrder(t *testing.T) {
	ordered(t, func(t *testing.T, c carrier) {
		topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{Messages: 10, InFlight: 3})
		mustPublish(t, topic, numbered(0, 30)...)
		ctx, cancel := context.WithCancel(t.Context())
		if err := sub.Receive(ctx, func(_ context.Context, ms []Message) error {
			if ms[0].Key == "0" {
				synctest.Wait() // until the others are done, and all that follows from it
				cancel()
				return errors.New("never done")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(keys(numbered(0, 30)), keys(receive(t, c.subscribe(t, "all", BatchOptions{}), 30))); diff != "" {
			t.Errorf("received after that differs (-want +got):\n%s", diff)
		}
	})
}

// A batch that fails comes again, and with it those that came after it, though
// they were done. Those before it do not.
func TestBatchFailsAmongOthers(t *testing.T) {
	for fails, want := range map[string]map[string]int{
		"0":  {"0": 2, "10": 2, "20": 2},
		"10": {"0": 1, "10": 2, "20": 2},
		"20": {"0": 1, "10": 1, "20": 2},
	} {
		t.Run(fails, func(t *testing.T) {
			ordered(t, func(t *testing.T, c carrier) {
				topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{Messages: 10, InFlight: 3})
				mustPublish(t, topic, numbered(0, 30)...)
				ctx, cancel := context.WithCancel(t.Context())
				var mu sync.Mutex
				got := make(map[string]int)
				if err := sub.Receive(ctx, func(_ context.Context, ms []Message) error {
					mu.Lock()
					first := ms[0].Key
					got[first]++
					again := got[first] > 1
					if got["20"] == 2 {
						cancel()
					}
					mu.Unlock()
					if first == fails && !again {
						synctest.Wait()
						return errors.New("not this time")
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("deliveries differ (-want +got):\n%s", diff)
				}
				mustPublish(t, topic, numbered(30, 31)...)
				if diff := cmp.Diff([]string{"30"}, keys(receive(t, sub, 1))); diff != "" {
					t.Errorf("received after all was acknowledged (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Batches that end at any time arrive whole, once and unharmed: the memory of
// one is not used again while f has it.
func TestSlicesAreValidUntilTheirCallReturns(t *testing.T) {
	ordered(t, func(t *testing.T, c carrier) {
		topic := c.publish(t)
		var all []Message
		for n := range 2000 {
			all = append(all, Message{
				Key: fmt.Sprint(n), Data: bytes.Repeat([]byte(fmt.Sprint(n, " ")), rand.N(200)),
				Attributes: []Attribute{{"n", fmt.Sprint(n)}},
			})
		}
		mustPublish(t, topic, all...)
		sub := c.subscribe(t, "all", BatchOptions{Messages: 10, Bytes: 4000, InFlight: 4})
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var got []string
		if err := sub.Receive(ctx, func(_ context.Context, ms []Message) error {
			size := 0
			for range 3 {
				time.Sleep(rand.N(time.Second))
				size = 0
				for _, m := range ms {
					size += m.size()
					if want := all[m.Sequence-1]; m.Key != want.Key || !bytes.Equal(m.Data, want.Data) || !slices.Equal(m.Attributes, want.Attributes) {
						t.Errorf("message %d has become another", m.Sequence)
					}
				}
			}
			if size > 4000 && len(ms) > 1 {
				t.Errorf("a batch has %d bytes", size)
			}
			for _, m := range ms {
				scribble([]Message{m})
			}
			mu.Lock()
			defer mu.Unlock()
			if got = append(got, keys(ms)...); len(got) == len(all) {
				cancel()
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, numerically)
		if diff := cmp.Diff(keys(all), got); diff != "" {
			t.Errorf("received differs (-published +received):\n%s", diff)
		}
	})
}

// A receiver is told to stop while batches are with f, which takes its time. It
// keeps them to itself until f is done, and then acknowledges them.
func TestStopWithBatchesInFlight(t *testing.T) {
	ordered(t, func(t *testing.T, c carrier) {
		b := BatchOptions{Messages: 10, InFlight: 3}
		topic, first, second := c.publish(t), c.subscribe(t, "all", b), c.subscribe(t, "all", b)
		mustPublish(t, topic, numbered(0, 30)...)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		other, stopOther := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			<-ctx.Done()
			ended <- second.Receive(other, func(_ context.Context, ms []Message) error {
				t.Errorf("another receiver got %q", keys(ms))
				return nil
			})
		}()
		if err := first.Receive(ctx, func(ctx context.Context, ms []Message) error {
			<-ctx.Done()
			time.Sleep(rand.N(10 * leaseTime))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stopOther()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

// A process that is killed leaves the file as it is, with one batch done and an
// earlier one not: both are delivered again, once the lease has run out.
func TestSQLiteKilledBetweenBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		at := "sqlite://" + filepath.Join(dir, "topic.db")
		mustPublish(t, mustOpen(t, at), numbered(0, 40)...)
		sub := mustSubscribeWith(t, at, BatchOptions{Messages: 10, InFlight: 3})
		ctx, cancel := context.WithCancel(t.Context())
		var killed time.Time
		if err := sub.Receive(ctx, func(ctx context.Context, ms []Message) error {
			switch ms[0].Key {
			case "0", "20": // done; the first of them is acknowledged
				return nil
			case "10":
				synctest.Wait()
				killed = time.Now()
				copyTopic(t, filepath.Join(dir, "topic.db"), filepath.Join(dir, "left.db"))
				cancel()
			}
			return errors.New("never done")
		}); err != nil {
			t.Fatal(err)
		}
		got := receive(t, mustSubscribe(t, "sqlite://"+filepath.Join(dir, "left.db")), 30)
		if diff := cmp.Diff(keys(numbered(10, 40)), keys(got)); diff != "" {
			t.Errorf("received after the kill differs (-want +got):\n%s", diff)
		}
		if d := time.Since(killed); d < leaseTime-time.Second {
			t.Errorf("delivered again after %v: the lease was not kept", d)
		}
	})
}

// copyTopic copies a topic's file as a kill would leave it.
func copyTopic(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(from + suffix)
		if err == nil {
			err = os.WriteFile(to+suffix, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// When another receiver has taken over, the contexts of all calls end, and
// nothing is acknowledged, whatever they return.
func TestSQLiteLeaseLostInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "topic.db")
		mustPublish(t, sqliteTestTopic(t, path, sqliteOptions{}), numbered(0, 20)...)
		sub := mustSubscribeWith(t, "sqlite://"+path, BatchOptions{Messages: 10, InFlight: 2})
		other := rawSQLite(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		calls := make(map[string]int)
		if err := sub.Receive(ctx, func(ctx context.Context, ms []Message) error {
			mu.Lock()
			calls[ms[0].Key]++
			n := calls[ms[0].Key]
			if calls["10"] == 2 {
				cancel()
			}
			mu.Unlock()
			if n == 2 {
				return nil
			}
			if ms[0].Key == "10" {
				mustExec(t, other, "UPDATE subscriptions SET owner = 'another', lease_until = 0")
			}
			<-ctx.Done()
			if err := context.Cause(ctx); !errors.Is(err, errLeaseLost) {
				t.Errorf("the context ended by %v, want errLeaseLost", err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]int{"0": 2, "10": 2}, calls); diff != "" {
			t.Errorf("deliveries differ (-want +got):\n%s", diff)
		}
	})
}

// An acknowledgement that cannot be written is tried again; f is not called
// again for it.
func TestSQLiteAcknowledgesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "topic.db")
		topic := sqliteTestTopic(t, path, sqliteOptions{})
		mustPublish(t, topic, numbered(0, 10)...)
		sub, other := mustSubscribe(t, "sqlite://"+path), rawSQLite(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		if err := sub.Receive(ctx, func(_ context.Context, ms []Message) error {
			if got = append(got, keys(ms)...); len(got) > 10 {
				cancel()
				return nil
			}
			mustExec(t, other, "BEGIN IMMEDIATE")
			go func() {
				time.Sleep(3 * lockPatience)
				mustExec(t, other, "ROLLBACK")
				mustPublish(t, topic, numbered(10, 11)...)
			}()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(keys(numbered(0, 11)), got); diff != "" {
			t.Errorf("received differs (-published +received):\n%s", diff)
		}
	})
}

// As many batches have memory as may be under way, however many there were, and
// what a huge message needed is not kept.
func TestSQLiteMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := "sqlite://" + filepath.Join(t.TempDir(), "topic.db")
		topic := mustOpen(t, at)
		mustPublish(t, topic, slices.Repeat([]Message{{Data: make([]byte, 1000)}}, 500)...)
		mustPublish(t, topic, Message{Data: make([]byte, 1<<20)})
		b := BatchOptions{Messages: 10, Bytes: 10_000, InFlight: 2}
		w := &window{size: b, f: func(context.Context, []Message) error {
			time.Sleep(rand.N(time.Second))
			return nil
		}}
		retry := redelivery()
		sub := mustSubscribeWith(t, at+"?peek=start&until=now", b).(*sqliteSubscription)
		if err := sub.receive(t.Context(), w, &retry); err != nil {
			t.Fatal(err)
		}
		held := 0
		for _, b := range w.spare {
			held += b.memory()
		}
		if len(w.spare) > 2 || held == 0 || held > 2*2*b.Bytes {
			t.Errorf("%d batches hold %d bytes after 51 batches", len(w.spare), held)
		}
	})
}
