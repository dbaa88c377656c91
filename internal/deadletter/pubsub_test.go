// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package deadletter_test

import (
	"fmt"
	"slices"
	"testing"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/google/uuid"

	"github.com/telemetrygateway/telemetry/internal/deadletter"
	"github.com/telemetrygateway/telemetry/internal/topic/emulator"
)

// pubsubTopic makes a topic with a subscription, and returns their URLs.
func pubsubTopic(t *testing.T) (topicURL, subscriptionURL string) {
	t.Helper()
	emulator.Start(t)
	id := uuid.NewString()
	topicName, subscriptionName := "projects/test/topics/t-"+id, "projects/test/subscriptions/s-"+id
	topics, err := pubsub.NewTopicAdminClient(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer topics.Close()
	if _, err := topics.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topicName}); err != nil {
		t.Fatal(err)
	}
	subscriptions, err := pubsub.NewSubscriptionAdminClient(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer subscriptions.Close()
	if _, err := subscriptions.CreateSubscription(t.Context(), &pubsubpb.Subscription{Name: subscriptionName, Topic: topicName}); err != nil {
		t.Fatal(err)
	}
	return "gcppubsub://" + topicName, "gcppubsub://" + subscriptionName
}

// TestPubSub looks at a subscription and gives back all of it, and takes from it
// only what it has published.
func TestPubSub(t *testing.T) {
	at, url := pubsubTopic(t)
	var want []string
	for i := range 20 {
		publish(t, at, published(t, badAction(fmt.Sprintf("mended-%02d", i)), receivedAt))
		want = append(want, fmt.Sprintf("mended-%02d", i))
	}
	broken := event("still broken")
	broken.Feature = "Not Valid"
	publish(t, at, published(t, broken, receivedAt), conflict(published(t, event("other"), receivedAt)))
	want = append(want, "other", "still broken")

	look := func(want ...string) {
		t.Helper()
		got, looked := list(t, url, where(t))
		slices.Sort(got)
		if !slices.Equal(got, want) || looked != (deadletter.Looked{Letters: len(want), Matched: len(want)}) {
			t.Fatalf("the subscription has %q, %v; want %q", got, looked, want)
		}
	}
	look(want...)
	to := file(t, "topic.db")
	r := deadletter.ReplayOptions{Patch: fix}
	if sum := replay(t, url, where(t, "stage=gateway"), r); sum.Published != 20 || sum.Invalid != 1 || sum.Letters != 22 {
		t.Errorf("a dry run: %v", sum)
	}
	r.Topic = open(t, to)
	if sum := replay(t, url, where(t, "stage=gateway"), r); sum.Published != 20 || sum.Invalid != 1 || sum.Letters != 22 {
		t.Errorf("replayed: %v", sum)
	}
	if got := read(t, to); len(got) != 20 {
		t.Errorf("%d events are published, want 20", len(got))
	}
	look("other", "still broken")
}
