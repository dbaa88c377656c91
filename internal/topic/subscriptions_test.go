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
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/telemetrygateway/telemetry/internal/topic/emulator"
)

func TestSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "topic.db")
		at := "sqlite://" + path
		topic := sqliteTestTopic(t, path, sqliteOptions{retention: time.Hour})
		if got, err := Subscriptions(t.Context(), at); err != nil || len(got) != 0 {
			t.Errorf("Subscriptions of a new topic = %v, %v", got, err)
		}
		begun := time.Now()
		slow, fast := mustSubscribe(t, at+"?subscription=slow"), mustSubscribe(t, at+"?subscription=fast")
		for n := range 10 {
			time.Sleep(time.Second)
			mustPublish(t, topic, Message{Data: make([]byte, 100*(n+1))})
		}
		acknowledge(t, slow, 4)
		acknowledge(t, fast, 10)
		second := func(n int) time.Time { return begun.Add(time.Duration(n) * time.Second) }
		check := func(what string, want []SubscriptionInfo) {
			t.Helper()
			got, err := Subscriptions(t.Context(), at+"?subscription=slow")
			if err != nil {
				t.Fatal(err)
			}
			// Whoever waits for a lock sleeps a little, also by this clock.
			if diff := cmp.Diff(want, got, cmpopts.EquateApproxTime(time.Second/2)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		check("at first", []SubscriptionInfo{
			{Name: "fast", Position: 10},
			{Name: "slow", Position: 4, Unread: 6, Bytes: 6 * 550, Oldest: second(5)},
		})

		// What all have read is removed; one that never read anything has missed it.
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		mustSubscribe(t, at+"?subscription=late")
		check("later", []SubscriptionInfo{
			{Name: "fast", Position: 10},
			{Name: "late", Unread: 6, Bytes: 4500, Oldest: second(5)},
			{Name: "slow", Position: 4, Unread: 6, Bytes: 4500, Oldest: second(5)},
		})

		// A receiver that is at work holds it.
		ctx, cancel := context.WithCancel(t.Context())
		if err := slow.Receive(ctx, func(context.Context, []Message) error {
			defer cancel()
			check("held", []SubscriptionInfo{
				{Name: "fast", Position: 10},
				{Name: "late", Unread: 6, Bytes: 4500, Oldest: second(5)},
				{Name: "slow", Position: 4, Unread: 6, Bytes: 4500, Oldest: second(5), HeldUntil: time.Now().Add(leaseTime)},
			})
			if err := DropSubscription(t.Context(), at, "slow"); err == nil || !strings.Contains(err.Error(), "a receiver holds it") {
				t.Errorf("DropSubscription while it is held = %v", err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := DropSubscription(t.Context(), at, "slo"); err == nil || !strings.Contains(err.Error(), "there are: fast, late, slow") {
			t.Errorf("DropSubscription of none = %v", err)
		}
		for _, name := range []string{"slow", "late"} {
			if err := DropSubscription(t.Context(), at, name); err != nil {
				t.Errorf("DropSubscription = %v", err)
			}
		}
		check("after dropping", []SubscriptionInfo{{Name: "fast", Position: 10}})
		if err := slow.Receive(t.Context(), nil); !errors.Is(err, errNoSuchName) {
			t.Errorf("Receive of a subscription that was dropped = %v", err)
		}
		// Nothing holds the messages any longer.
		time.Sleep(2 * cleanEvery)
		synctest.Wait()
		if s := mustStats(t, topic); s.Messages != 0 {
			t.Errorf("%d messages are left", s.Messages)
		}
	})
}

func TestSubscriptionsWhereThereAreNone(t *testing.T) {
	for _, tt := range []struct{ url, want string }{
		{"memory:", "keeps none"},
		{"gcppubsub://projects/p/topics/t", "gcloud pubsub subscriptions list"},
		{"sqlite://", "name a file"},
		{"sqlite://" + t.TempDir() + "/none.db", "no such file"},
		{"sqlite://topic.db?subscriptoin=a", "unknown parameter"},
	} {
		if _, err := Subscriptions(t.Context(), tt.url); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Subscriptions(%q) = %v, want it to say %q", tt.url, err, tt.want)
		}
		if err := DropSubscription(t.Context(), tt.url, "a"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("DropSubscription(%q) = %v, want it to say %q", tt.url, err, tt.want)
		}
	}
}

func TestPeekUnread(t *testing.T) {
	at := "sqlite://" + filepath.Join(t.TempDir(), "topic.db")
	topic, sub := mustOpen(t, at), mustSubscribe(t, at+"?subscription=a")
	mustPublish(t, topic, numbered(0, 10)...)
	acknowledge(t, sub, 4)
	for range 2 { // it changes nothing
		var got []string
		peek := mustSubscribe(t, at+"?peek=unread&subscription=a&until=now")
		mustPublish(t, topic, numbered(10, 11)...)
		if err := peek.Receive(t.Context(), func(_ context.Context, ms []Message) error {
			got = append(got, keys(ms)...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(keys(numbered(4, 10)), got[:6]); diff != "" {
			t.Errorf("unread differs (-want +got):\n%s", diff)
		}
	}
	if _, err := Subscribe(t.Context(), at+"?peek=unread&subscription=b", BatchOptions{}, nil); err == nil || !strings.Contains(err.Error(), `has no subscription "b"`) {
		t.Errorf("Subscribe = %v, want that there is no such subscription", err)
	}
}

func TestTopicOf(t *testing.T) {
	// Whoever publishes to the topic of a subscription removes nothing from it:
	// how long messages stay was said by whoever opened it by name.
	path := filepath.Join(t.TempDir(), "a topic.db")
	at, err := TopicOf(t.Context(), "sqlite://"+path+"?subscription=a")
	if want := "sqlite://" + path + "?retention=forever"; err != nil || at != want {
		t.Fatalf("TopicOf = %q, %v, want %q", at, err, want)
	}
	synctest.Test(t, func(t *testing.T) {
		topic, sub := mustOpen(t, at), mustSubscribe(t, "sqlite://"+path+"?subscription=a")
		mustPublish(t, topic, numbered(0, 3)...)
		acknowledge(t, sub, 3)
		mustExec(t, rawSQLite(t, path), "UPDATE messages SET published_at = 0") // in 1970
		time.Sleep(2 * cleanEvery)
		synctest.Wait()
		if s := mustStats(t, topic.(*sqliteTopic)); s.Messages != 3 {
			t.Errorf("%d messages are left, want 3", s.Messages)
		}
	})

	c := newPubSub(t)
	topic, sub := c.publish(t).(*pubsubTopic), c.subscribe(t, "all", BatchOptions{}).(*pubsubSubscription)
	at, err = TopicOf(t.Context(), "gcppubsub://"+sub.resource.String())
	if want := "gcppubsub://" + topic.resource.String(); err != nil || at != want {
		t.Errorf("TopicOf = %q, %v, want %q", at, err, want)
	}

	emulator.Start(t)
	for url, want := range map[string]string{
		"memory:": "as sqlite: and gcppubsub: have",
		"gcppubsub://projects/p/subscriptions/missing": "does not exist",
		"gcppubsub://projects/p/topics/t":              "receiving a subscription",
	} {
		if _, err := TopicOf(t.Context(), url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("TopicOf(%q) = %v, want it to say %q", url, err, want)
		}
	}
}
