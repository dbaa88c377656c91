// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package deadletter_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/telemetrygateway/telemetry/internal/deadletter"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// receive takes n batches.
func receive(t testing.TB, sub topic.Subscription, n int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	err := sub.Receive(ctx, func(context.Context, []topic.Message) error {
		if n--; n == 0 {
			stop()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// withoutLabel is m without the label of a replay.
func withoutLabel(t *testing.T, m topic.Message, of topic.Message) topic.Message {
	t.Helper()
	id := payload.DeadLetterID(of.Data)
	data := strings.Replace(string(m.Data), fmt.Sprintf(`,"replay.of":"%s"`, hex.EncodeToString(id[:])), "", 1)
	if len(data) == len(m.Data) {
		t.Errorf("%s has no label with the ID of its dead letter", m.Data)
	}
	m.Data = []byte(data)
	return m
}

// TestReplay publishes what the gateway would have published, and no more.
func TestReplay(t *testing.T) {
	mended := published(t, badAction("a"), receivedAt)
	broken := event("b")
	broken.Feature = "Not Valid"
	taken := conflict(published(t, event("c"), receivedAt))
	url := file(t, "deadletter.db", mended, published(t, broken, receivedAt), taken, mended)
	to := file(t, "topic.db")

	why := map[string]string{}
	r := deadletter.ReplayOptions{Patch: fix, Report: func(l *deadletter.Letter, invalid error) {
		why[l.Field("event_id")] = fmt.Sprint(invalid)
	}}
	want := deadletter.Replayed{Looked: deadletter.Looked{Letters: 3, Matched: 3}, Published: 2, Invalid: 1}
	if got := replay(t, url, where(t), r); got != want {
		t.Errorf("a dry run: %v, want %v", got, want)
	}
	if got := read(t, to); len(got) != 0 {
		t.Fatalf("a dry run publishes %v", got)
	}
	r.Topic = open(t, to)
	if got := replay(t, url, where(t), r); got != want {
		t.Errorf("replayed %v, want %v", got, want)
	}
	if why["a"] != "<nil>" || why["c"] != "<nil>" || !strings.HasPrefix(why["b"], "feature_invalid: feature: ") || len(why) != 3 {
		t.Errorf("reported: %v", why)
	}
	got := read(t, to)
	if len(got) != 2 {
		t.Fatalf("published: %v", got)
	}
	got[0], got[1] = withoutLabel(t, got[0], mended), withoutLabel(t, got[1], taken)
	diff := cmp.Diff([]topic.Message{published(t, event("a"), receivedAt), published(t, event("c"), receivedAt)}, got,
		cmpopts.IgnoreFields(topic.Message{}, "Sequence"))
	if diff != "" {
		t.Errorf("published (-as the gateway does +replayed):\n%s", diff)
	}
	if left := read(t, url); len(left) != 4 {
		t.Errorf("%d dead letters are left, want all 4", len(left))
	}

	// Only what is meant, and the same each time.
	for range 2 {
		replay(t, url, where(t, "reason=id_conflict"), deadletter.ReplayOptions{Topic: r.Topic, Patch: []byte(`{"id":"d"}`)})
	}
	if got = read(t, to)[2:]; len(got) != 2 || got[0].Key != "unlicensed/site-1/d" || string(got[0].Data) != string(got[1].Data) {
		t.Errorf("replayed twice: %v", got)
	}
}

// TestReplayFails when the topic does: it is known what has been published for
// sure, and doing the same again is all there is to do.
func TestReplayFails(t *testing.T) {
	url := file(t, "deadletter.db", letters(t, 5)...)
	full := topic.NewMemory(3)
	defer full.Close()
	with(t, url, func(l *deadletter.Letters) {
		sum, err := l.Replay(t.Context(), where(t), deadletter.ReplayOptions{Topic: full, Patch: fix})
		if !errors.Is(err, topic.ErrFull) || sum.Published > 3 || sum.Invalid != 0 {
			t.Errorf("%v, %v; want %v", sum, err, topic.ErrFull)
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	with(t, url, func(l *deadletter.Letters) {
		if _, err := l.Replay(ctx, where(t), deadletter.ReplayOptions{Topic: full, Patch: fix}); !errors.Is(err, context.Canceled) {
			t.Errorf("stopped: %v", err)
		}
	})
}
