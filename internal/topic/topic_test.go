// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// implementations is every technology in this folder. The tests of this file
// and of receive_test.go hold for each of them.
var implementations = []implementation{
	{name: "discard", open: newDiscard},
	{name: "log", open: newLog},
	{name: "memory", open: newMemory, ordered: true, backlog: true},
	{name: "sqlite", open: newSQLite, ordered: true, durable: true, backlog: true},
	{name: "gcppubsub", open: newPubSub, durable: true},
}

type implementation struct {
	name string
	// open makes a topic that has not existed before.
	open func(t testing.TB) carrier
	// ordered: messages arrive in the order they were published in.
	ordered bool
	// durable: messages and acknowledgements outlive Close.
	durable bool
	// backlog: a new subscription begins with messages that were published
	// before it was first opened.
	backlog bool
}

// carrier is one topic. Each function opens it, and fails the test on an error;
// only a durable topic is opened again after its Close. The test closes what it
// gets, or leaves it to the t.Cleanup that the functions register: closing
// twice is allowed.
type carrier struct {
	publish func(t testing.TB) Topic
	// subscribe is nil where nothing can be received.
	subscribe func(t testing.TB, name string, b BatchOptions) Subscription
}

func newDiscard(testing.TB) carrier {
	return carrier{publish: func(testing.TB) Topic { return new(Discard) }}
}

func newLog(testing.TB) carrier {
	return carrier{publish: func(testing.TB) Topic { return NewLog(io.Discard) }}
}

func newMemory(testing.TB) carrier {
	m := NewMemory(DefaultMemoryMessages)
	return carrier{
		publish:   func(testing.TB) Topic { return m },
		subscribe: func(_ testing.TB, name string, b BatchOptions) Subscription { return m.Subscribe(name, b) },
	}
}

func newSQLite(t testing.TB) carrier {
	at := "sqlite://" + filepath.Join(t.TempDir(), "topic.db")
	return carrier{
		publish: func(t testing.TB) Topic { return mustOpen(t, at) },
		subscribe: func(t testing.TB, name string, b BatchOptions) Subscription {
			return mustSubscribeWith(t, at+"?subscription="+name, b)
		},
	}
}

func mustOpen(t testing.TB, rawURL string) Topic {
	t.Helper()
	topic, err := Open(t.Context(), rawURL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { topic.Close() })
	return topic
}

func mustSubscribe(t testing.TB, rawURL string) Subscription {
	t.Helper()
	return mustSubscribeWith(t, rawURL, BatchOptions{})
}

func mustSubscribeWith(t testing.TB, rawURL string, b BatchOptions) Subscription {
	t.Helper()
	s, err := Subscribe(t.Context(), rawURL, b, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// each runs f for every implementation.
func each(t *testing.T, f func(t *testing.T, i implementation, c carrier)) {
	for _, i := range implementations {
		t.Run(i.name, func(t *testing.T) { f(t, i, i.open(t)) })
	}
}

func mustPublish(t testing.TB, topic Topic, ms ...Message) {
	t.Helper()
	for _, err := range topic.Publish(t.Context(), ms) {
		if err != nil {
			t.Fatalf("publish: %v", err)
		}
	}
}

// numbered returns messages with the keys from, from+1, … to-1.
func numbered(from, to int) []Message {
	var ms []Message
	for n := from; n < to; n++ {
		ms = append(ms, Message{Key: fmt.Sprint(n), Data: []byte(fmt.Sprintf(`{"n":%d}`, n))})
	}
	return ms
}

func TestPublishNothing(t *testing.T) {
	each(t, func(t *testing.T, _ implementation, c carrier) {
		topic := c.publish(t)
		if errs := topic.Publish(t.Context(), nil); errs != nil {
			t.Errorf("Publish(nil) = %v, want nil", errs)
		}
		if errs := topic.Publish(t.Context(), []Message{}); errs != nil {
			t.Errorf("Publish of no messages = %v, want nil", errs)
		}
	})
}

func TestPing(t *testing.T) {
	each(t, func(t *testing.T, _ implementation, c carrier) {
		topic := c.publish(t)
		if err := topic.Ping(t.Context()); err != nil {
			t.Errorf("Ping = %v", err)
		}
		mustPublish(t, topic, numbered(0, 1)...)
		if err := topic.Ping(t.Context()); err != nil {
			t.Errorf("Ping after Publish = %v", err)
		}
		topic.Close()
		if err := topic.Ping(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Ping after Close = %v, want ErrClosed", err)
		}
	})
}

func TestClose(t *testing.T) {
	each(t, func(t *testing.T, _ implementation, c carrier) {
		topic := c.publish(t)
		var sub Subscription
		if c.subscribe != nil {
			sub = c.subscribe(t, "close", BatchOptions{})
		}
		// Publishers are under way when the topic is closed: each message is
		// published, or else its error is ErrClosed.
		var mu sync.Mutex
		var published []string
		var wg sync.WaitGroup
		begun := make(chan struct{}, 8)
		for p := range 8 {
			wg.Go(func() {
				for n := 0; ; n++ {
					if n == 1 {
						begun <- struct{}{}
					}
					ms := numbered(p*1_000_000+n*10, p*1_000_000+n*10+10)
					errs := topic.Publish(t.Context(), ms)
					if errs == nil {
						mu.Lock()
						for _, m := range ms {
							published = append(published, m.Key)
						}
						mu.Unlock()
						continue
					}
					if len(errs) != len(ms) {
						t.Errorf("%d errors for %d messages", len(errs), len(ms))
					}
					for _, err := range errs {
						if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrFull) {
							t.Errorf("Publish after Close = %v, want ErrClosed", err)
						}
					}
					if errors.Is(errs[0], ErrClosed) {
						return
					}
				}
			})
		}
		for range 8 {
			<-begun
		}
		if err := topic.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		wg.Wait()
		if err := topic.Close(); err != nil {
			t.Errorf("second Close = %v", err)
		}
		if sub == nil {
			return
		}
		var got []string
		for _, m := range receive(t, sub, len(published)) {
			got = append(got, m.Key)
		}
		sorted := cmpopts.SortSlices(strings.Compare)
		if diff := cmp.Diff(published, got, sorted); diff != "" {
			t.Errorf("received differs (-published +received):\n%s", diff)
		}
	})
}

// Publish is called with a context that has ended, and the caller uses its
// buffers again at once: what then arrives, if anything, is as it was.
func TestPublishCancelled(t *testing.T) {
	each(t, func(t *testing.T, _ implementation, c carrier) {
		topic := c.publish(t)
		var sub Subscription
		if c.subscribe != nil {
			sub = c.subscribe(t, "cancelled", BatchOptions{})
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		data := bytes.Repeat([]byte("a"), 1000)
		ms := []Message{
			{Key: "1", Data: data[:500], Attributes: []Attribute{{"k", "v"}}},
			{Key: "2", Data: data[500:]},
		}
		errs := topic.Publish(ctx, ms)
		if len(errs) != 2 || !errors.Is(errs[0], context.Canceled) || !errors.Is(errs[1], context.Canceled) {
			t.Fatalf("Publish = %v, want context.Canceled for each of 2 messages", errs)
		}
		scribble(ms)
		mustPublish(t, topic, Message{Key: "end"})
		if sub == nil {
			return
		}
		for _, m := range receiveUntil(t, sub, func(m Message) bool { return m.Key == "end" }) {
			if bytes.ContainsFunc(m.Data, func(r rune) bool { return r != 'a' }) || strings.Contains(m.Key, "#") {
				t.Errorf("the topic kept the caller's bytes: %q", m.Key)
			}
		}
	})
}

// The context ends while Publish is at work, at any moment of it. What was
// published arrives, what arrives is as it was, and nothing reads the caller's
// buffers any more (the race detector would see it).
func TestPublishCancelledMidway(t *testing.T) {
	each(t, func(t *testing.T, _ implementation, c carrier) {
		topic := c.publish(t)
		var sub Subscription
		if c.subscribe != nil {
			sub = c.subscribe(t, "midway", BatchOptions{})
		}
		published := make(map[string]bool)
		for n := range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			ms := numbered(n*100, n*100+100)
			go func() {
				for range n * 20 {
					runtime.Gosched()
				}
				cancel()
			}()
			ks := keys(ms)
			errs := topic.Publish(ctx, ms)
			scribble(ms)
			for i, key := range ks {
				published[key] = errs == nil || errs[i] == nil
			}
		}
		mustPublish(t, topic, Message{Key: "end"})
		if sub == nil {
			return
		}
		maps.DeleteFunc(published, func(_ string, ok bool) bool { return !ok })
		end := false
		receiveUntil(t, sub, func(m Message) bool {
			delete(published, m.Key)
			if end = end || m.Key == "end"; m.Key != "end" && string(m.Data) != fmt.Sprintf(`{"n":%s}`, m.Key) {
				t.Errorf("the topic kept the caller's bytes: %q %q", m.Key, m.Data)
			}
			return end && len(published) == 0
		})
	})
}

// The caller uses its buffers again as soon as Publish returns.
func TestPublishKeepsNoBytes(t *testing.T) {
	each(t, func(t *testing.T, _ implementation, c carrier) {
		if c.subscribe == nil {
			return
		}
		topic, sub := c.publish(t), c.subscribe(t, "bytes", BatchOptions{})
		ms := make([]Message, 100)
		data := bytes.Repeat([]byte("a"), 100*len(ms))
		texts := []byte("key" + "k" + "v")
		text := func(from, to int) string { return unsafe.String(&texts[from], to-from) }
		for i := range ms {
			ms[i] = Message{Key: text(0, 3), Data: data[100*i:][:100], Attributes: []Attribute{{text(3, 4), text(4, 5)}}}
		}
		mustPublish(t, topic, ms...)
		scribble(ms)
		copy(texts, "#####")
		for _, m := range receive(t, sub, len(ms)) {
			if string(m.Data) != strings.Repeat("a", 100) || m.Key != "key" || m.Attributes[0] != (Attribute{"k", "v"}) {
				t.Fatalf("the topic kept the caller's bytes: %q %q %v", m.Key, m.Data, m.Attributes)
			}
		}
	})
}

// scribble overwrites everything in ms that the caller may write to.
func scribble(ms []Message) {
	for i := range ms {
		for j := range ms[i].Data {
			ms[i].Data[j] = '#'
		}
		for j := range ms[i].Attributes {
			ms[i].Attributes[j] = Attribute{"#", "#"}
		}
		ms[i] = Message{Key: "#"}
	}
}

func TestConcurrentPublishers(t *testing.T) {
	each(t, func(t *testing.T, _ implementation, c carrier) {
		const publishers, calls, batch = 32, 10, 7
		topic := c.publish(t)
		var sub Subscription
		if c.subscribe != nil {
			sub = c.subscribe(t, "all", BatchOptions{})
		}
		var wg sync.WaitGroup
		for p := range publishers {
			wg.Go(func() {
				for n := range calls {
					from := (p*calls + n) * batch
					if errs := topic.Publish(t.Context(), numbered(from, from+batch)); errs != nil {
						t.Errorf("publish: %v", errors.Join(errs...))
					}
				}
			})
		}
		wg.Wait()
		if sub == nil {
			return
		}
		want := numbered(0, publishers*calls*batch)
		got := receive(t, sub, len(want))
		if diff := cmp.Diff(readable(want), readable(got)); diff != "" {
			t.Errorf("received differs (-published +received):\n%s", diff)
		}
	})
}
