// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package deadletter_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/deadletter"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

var receivedAt = time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.UTC)

// event returns an event that breaks no rule.
func event(id string) *telemetrygatewayv1.Event {
	return &telemetrygatewayv1.Event{
		Id: id, Feature: "cody.chat", Action: "opened", Timestamp: timestamppb.New(receivedAt.Add(-time.Hour)),
		User: &telemetrygatewayv1.EventUser{AnonymousUserId: proto.String("somebody")},
	}
}

// badAction returns one that does.
func badAction(id string) *telemetrygatewayv1.Event {
	e := event(id)
	e.Action = "Not Valid"
	return e
}

// fix mends it.
var fix = []byte(`{"action":"opened"}`)

func encoder(t testing.TB) *payload.Encoder {
	t.Helper()
	e, err := payload.NewEncoder(&telemetrygatewayv1.RecordEventsRequestMetadata{
		Identifier: &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_UnlicensedInstance{
			UnlicensedInstance: &telemetrygatewayv1.Identifier_UnlicensedInstanceIdentifier{InstanceId: "site-1"},
		}},
	}, payload.Sender{Source: "unlicensed_instance", ID: "site-1", Identity: "unlicensed/site-1", Trust: "unlicensed"}, payload.KeyFingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func message(labels payload.Labels, data []byte) topic.Message {
	return topic.Message{Key: labels.Key, Data: data, Attributes: labels.Attributes}
}

// published is what the gateway makes of an event: a payload, or a dead letter.
func published(t testing.TB, e *telemetrygatewayv1.Event, at time.Time) topic.Message {
	t.Helper()
	wire, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	encoder := encoder(t)
	data, labels, v := encoder.Append(nil, wire, at)
	if v != nil {
		data, labels = encoder.AppendDeadLetter(nil, wire, at, v)
	}
	return message(labels, data)
}

// conflict is the dead letter that the pipeline makes of a payload.
func conflict(m topic.Message) topic.Message {
	data, labels := payload.AppendUnlandable(nil, m.Key, m.Data, m.Attributes, &limits.Violation{Reason: limits.ReasonIDConflict, Field: "id", Message: "is taken"})
	return message(labels, data)
}

// letters returns n dead letters of the gateway's.
func letters(t testing.TB, n int) (ms []topic.Message) {
	for i := range n {
		ms = append(ms, published(t, badAction(fmt.Sprintf("event-%d", i)), receivedAt))
	}
	return ms
}

// file returns the URL of a new topic that has ms.
func file(t testing.TB, name string, ms ...topic.Message) string {
	t.Helper()
	url := "sqlite://" + filepath.Join(t.TempDir(), name)
	publish(t, url, ms...)
	return url
}

func open(t testing.TB, url string) topic.Topic {
	t.Helper()
	to, err := topic.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { to.Close() })
	return to
}

func publish(t testing.TB, url string, ms ...topic.Message) {
	t.Helper()
	for _, err := range open(t, url).Publish(t.Context(), ms) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// read returns all that a SQLite topic has.
func read(t testing.TB, url string) (ms []topic.Message) {
	t.Helper()
	sub, err := topic.Subscribe(t.Context(), url+"?peek=start&until=now", topic.BatchOptions{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	err = sub.Receive(t.Context(), func(_ context.Context, batch []topic.Message) error {
		for _, m := range batch {
			m.Data, m.Attributes = slices.Clone(m.Data), slices.Clone(m.Attributes)
			ms = append(ms, m)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

// quiet is how long these tests wait for Pub/Sub to have nothing more to say.
const quiet = 5 * time.Second

// with opens dead letters for f.
func with(t testing.TB, url string, f func(*deadletter.Letters)) {
	t.Helper()
	l, err := deadletter.Open(t.Context(), url, quiet, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f(l)
}

func where(t testing.TB, conditions ...string) deadletter.Selection {
	t.Helper()
	var s deadletter.Selection
	for _, c := range conditions {
		parsed, err := deadletter.ParseCondition(c)
		if err != nil {
			t.Fatal(err)
		}
		s.Where = append(s.Where, parsed)
	}
	return s
}

// list returns the event IDs of the dead letters that are meant.
func list(t testing.TB, url string, which deadletter.Selection) (ids []string, looked deadletter.Looked) {
	t.Helper()
	with(t, url, func(l *deadletter.Letters) {
		var err error
		looked, err = l.List(t.Context(), which, func(l *deadletter.Letter) error {
			ids = append(ids, l.Field("event_id"))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	return ids, looked
}

func replay(t testing.TB, url string, which deadletter.Selection, r deadletter.ReplayOptions) deadletter.Replayed {
	t.Helper()
	var sum deadletter.Replayed
	with(t, url, func(l *deadletter.Letters) {
		var err error
		if sum, err = l.Replay(t.Context(), which, r); err != nil {
			t.Fatal(err)
		}
	})
	return sum
}
