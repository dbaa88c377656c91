// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// acknowledge moves s by n messages exactly, though a batch may hold more.
func acknowledge(t testing.TB, s Subscription, n int) {
	t.Helper()
	sub := s.(*sqliteSubscription)
	if err := sub.write(t.Context(), func() error {
		return sub.file.exec(`UPDATE subscriptions SET position =
			(SELECT max(seq) FROM (SELECT seq FROM messages WHERE seq > position ORDER BY seq LIMIT ?)) WHERE name = ?`, n, sub.name)
	}); err != nil {
		t.Fatal(err)
	}
}

// A receiver that dies in the middle of a batch holds the lease until it runs
// out; then another one gets the batch.
func TestSQLiteLeaseTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "topic.db")
		mustPublish(t, sqliteTestTopic(t, path, sqliteOptions{}), numbered(0, 3)...)

		// What a receiver has done when it is killed while f runs.
		killed := mustSubscribe(t, "sqlite://"+path).(*sqliteSubscription)
		killed.owner = "killed"
		if there, err := killed.ready(t.Context()); err != nil || !there {
			t.Fatalf("ready = %v, %v", there, err)
		}

		begun := time.Now()
		if got := keys(receive(t, mustSubscribe(t, "sqlite://"+path), 3)); len(got) != 3 {
			t.Errorf("received %q", got)
		}
		if d := time.Since(begun); d < leaseTime || d > leaseTime+time.Second {
			t.Errorf("took over after %v, want %v", d, leaseTime)
		}
		// It was not killed, but slow: too late.
		if err := killed.moveTo(t.Context(), 3); !errors.Is(err, errLeaseLost) {
			t.Errorf("acknowledging after the lease was lost = %v, want errLeaseLost", err)
		}
	})
}

// The lease is kept for as long as f runs, and released when Receive ends.
func TestSQLiteLeaseRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "topic.db")
		topic := sqliteTestTopic(t, path, sqliteOptions{})
		mustPublish(t, topic, numbered(0, 1)...)
		a, b := mustSubscribe(t, "sqlite://"+path), mustSubscribe(t, "sqlite://"+path)
		actx, acancel := context.WithCancel(t.Context())
		bctx, bcancel := context.WithCancel(t.Context())
		ended := make(chan error)
		if err := a.Receive(actx, func(context.Context, []Message) error {
			go func() {
				ended <- b.Receive(bctx, func(context.Context, []Message) error {
					t.Error("the second receiver got the batch as well")
					return nil
				})
			}()
			time.Sleep(10 * leaseTime)
			acancel()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		bcancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}

		mustPublish(t, topic, numbered(1, 2)...)
		begun := time.Now()
		receive(t, b, 1)
		if d := time.Since(begun); d > time.Second {
			t.Errorf("the next receiver had to wait %v, want none after a release", d)
		}
	})
}

// f's context ends when another receiver has taken over.
func TestSQLiteLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "topic.db")
		mustPublish(t, sqliteTestTopic(t, path, sqliteOptions{}), numbered(0, 1)...)
		sub, other := mustSubscribe(t, "sqlite://"+path), rawSQLite(t, path)
		calls := 0
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if err := sub.Receive(ctx, func(ctx context.Context, _ []Message) error {
			if calls++; calls == 2 {
				cancel()
				return nil
			}
			mustExec(t, other, "UPDATE subscriptions SET owner = 'another', lease_until = 0")
			<-ctx.Done()
			if err := context.Cause(ctx); !errors.Is(err, errLeaseLost) {
				t.Errorf("f's context ended by %v, want errLeaseLost", err)
			}
			return nil // as if it had worked: it must come again all the same
		}); err != nil {
			t.Fatal(err)
		}
		if calls != 2 {
			t.Errorf("f was called %d times, want 2", calls)
		}
	})
}

// What f has dealt with is acknowledged even if ctx ends then and a publisher
// is in the way.
func TestSQLiteAcknowledgesAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "topic.db")
		mustPublish(t, sqliteTestTopic(t, path, sqliteOptions{}), numbered(0, 3)...)
		sub, other := mustSubscribe(t, "sqlite://"+path), rawSQLite(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		if err := sub.Receive(ctx, func(context.Context, []Message) error {
			mustExec(t, other, "BEGIN IMMEDIATE")
			go func() {
				time.Sleep(3 * time.Second)
				mustExec(t, other, "ROLLBACK")
			}()
			cancel()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		var position int
		if err := other.scan("SELECT position FROM subscriptions", nil, &position); err != nil || position != 3 {
			t.Errorf("position is %d (%v), want 3", position, err)
		}
	})
}

func TestSQLiteWhereToBegin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topic.db")
	at := "sqlite://" + path
	topic := sqliteTestTopic(t, path, sqliteOptions{})
	mustPublish(t, topic, numbered(0, 2)...)
	subs := map[string]Subscription{}
	for _, params := range []string{"", "?from=start&subscription=s", "?from=now&subscription=n", "?peek=start", "?peek=now"} {
		subs[params] = mustSubscribe(t, at+params)
	}
	mustPublish(t, topic, numbered(2, 4)...)
	for params, sub := range subs {
		want := keys(numbered(0, 4))
		if strings.Contains(params, "now") {
			want = want[2:]
		}
		if diff := cmp.Diff(want, keys(receive(t, sub, len(want)))); diff != "" {
			t.Errorf("%q differs:\n%s", params, diff)
		}
	}
	// One that exists goes on where it was, whatever "from" says.
	mustPublish(t, topic, numbered(4, 5)...)
	for _, params := range []string{"?from=start&subscription=s", "?from=now&subscription=n"} {
		if diff := cmp.Diff([]string{"4"}, keys(receive(t, mustSubscribe(t, at+params), 1))); diff != "" {
			t.Errorf("%q, continued, differs:\n%s", params, diff)
		}
	}
	// One that looks until now ends by itself.
	var got []string
	if err := mustSubscribe(t, at+"?peek=start&until=now").Receive(t.Context(), func(_ context.Context, ms []Message) error {
		got = append(got, keys(ms)...)
		mustPublish(t, topic, numbered(5, 6)...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(keys(numbered(0, 5)), got); diff != "" {
		t.Errorf("until now differs:\n%s", diff)
	}
	// Looking leaves no trace.
	var names string
	if err := rawSQLite(t, path).scan("SELECT group_concat(name, ' ') FROM (SELECT name FROM subscriptions ORDER BY name)", nil, &names); err != nil || names != "default n s" {
		t.Errorf("subscriptions are %q (%v)", names, err)
	}
}

func TestSQLiteBatchIsBounded(t *testing.T) {
	at := "sqlite://" + filepath.Join(t.TempDir(), "topic.db")
	topic, sub := mustOpen(t, at), mustSubscribe(t, at)
	ms := numbered(0, 2500)
	for range 3 {
		ms = append(ms, Message{Data: make([]byte, 4<<20)})
	}
	ms = append(ms, Message{Data: make([]byte, 8<<20+1)}, Message{Key: "last"})
	mustPublish(t, topic, ms...)
	var sizes []int
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := sub.Receive(ctx, func(_ context.Context, ms []Message) error {
		sizes = append(sizes, len(ms))
		if ms[len(ms)-1].Key == "last" {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1000, 1000, 501, 2, 1, 1}, sizes); diff != "" {
		t.Errorf("batches differ:\n%s", diff)
	}
}

func TestSQLiteReceiveEndsWithoutSubscription(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topic.db")
	sqliteTestTopic(t, path, sqliteOptions{})
	sub := mustSubscribe(t, "sqlite://"+path+"?subscription=a")
	mustExec(t, rawSQLite(t, path), "DELETE FROM subscriptions")
	if err := sub.Receive(t.Context(), func(context.Context, []Message) error { return nil }); !errors.Is(err, errNoSuchName) {
		t.Errorf("Receive = %v, want errNoSuchName", err)
	}
}
