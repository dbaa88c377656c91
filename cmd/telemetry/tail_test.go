// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"syscall"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"

	"github.com/telemetrygateway/telemetry/internal/command"
)

type tailLine struct {
	Key        string
	Attributes map[string]string
	Data       struct {
		Event struct{ ID string }
	}
}

func TestTail(t *testing.T) {
	g := startGateway(t, t.TempDir(), "127.0.0.1:0")
	if code, _, stderr := runOnce(t.Context(), "send", "-gateway", g.url, "-site-id", "s", "-count", "2500", "-seed", "1"); code != 0 {
		t.Fatal(stderr)
	}
	var want []string
	for _, e := range generate(t, 2500, 1) {
		want = append(want, e.id)
	}
	// Twice: looking takes nothing away.
	for range 2 {
		got := lines(t, "-topic", g.topic())
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d", len(got), len(want))
		}
		for i, text := range got {
			var line tailLine
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatalf("line %d: %v", i, err)
			}
			if line.Data.Event.ID != want[i] || line.Attributes["event.id"] != want[i] || !strings.HasSuffix(line.Key, want[i]) {
				t.Fatalf("line %d is %s, want event %s", i, text, want[i])
			}
		}
	}
	for _, n := range []string{"1", "3", "2000"} {
		if got := lines(t, "-topic", g.topic(), "-limit", n); len(got) != map[string]int{"1": 1, "3": 3, "2000": 2000}[n] {
			t.Errorf("-limit %s: %d lines", n, len(got))
		}
	}
	if got := lines(t, "-topic", g.deadLetters()); len(got) != 0 {
		t.Errorf("%d lines of an empty topic", len(got))
	}
}

// A reader that follows gets what is there and what comes, until it is told to
// stop, and that is no error.
func TestTailFollows(t *testing.T) {
	g := startGateway(t, t.TempDir(), "127.0.0.1:0")
	send := func(n string) {
		if code, _, stderr := runOnce(t.Context(), "send", "-gateway", g.url, "-site-id", "s", "-count", n); code != 0 {
			t.Error(stderr)
		}
	}
	send("2")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		defer w.Close()
		ended <- command.Report(root().Run(ctx, []string{"tail", "-topic", g.topic(), "-from-start", "-follow"}, w, io.Discard), io.Discard)
	}()
	lines := json.NewDecoder(r)
	read := func(n int) {
		for range n {
			if err := lines.Decode(new(tailLine)); err != nil {
				t.Fatal(err)
			}
		}
	}
	read(2)
	send("3")
	read(3)
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	// With a limit it ends by itself, also in the middle of what is there.
	if code, stdout, stderr := runOnce(t.Context(), "tail", "-topic", g.topic(), "-from-start", "-follow", "-limit", "4"); code != 0 || strings.Count(stdout, "\n") != 4 {
		t.Errorf("exit %d, %d lines, %s", code, strings.Count(stdout, "\n"), stderr)
	}
}

// Of a Pub/Sub subscription, what is printed is acknowledged.
func TestTailPubSub(t *testing.T) {
	const name, sub = "projects/p/topics/events", "projects/p/subscriptions/tail"
	s := pstest.NewServer()
	defer s.Close()
	t.Setenv("PUBSUB_EMULATOR_HOST", s.Addr)
	if _, err := s.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: name}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GServer.CreateSubscription(t.Context(), &pubsubpb.Subscription{Name: sub, Topic: name, AckDeadlineSeconds: 10}); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{`{"n":1}`, `{"n":2}`, "not JSON"} {
		s.Publish(name, []byte(data), map[string]string{"event.id": "x"})
	}
	code, stdout, stderr := runOnce(t.Context(), "tail", "-topic", "gcppubsub://"+sub, "-limit", "3")
	if code != 0 || strings.Count(stdout, "\n") != 3 || !strings.Contains(stdout, `"attributes":{"event.id":"x"},"data":{"n":2}}`) || !strings.Contains(stdout, `"data":"bm90IEpTT04="}`) {
		t.Errorf("exit %d, %s %s", code, stdout, stderr)
	}
	for _, m := range s.Messages() {
		if m.Acks == 0 {
			t.Errorf("message %s is not acknowledged", m.ID)
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestTailIntoAClosedPipe(t *testing.T) {
	g := startGateway(t, t.TempDir(), "127.0.0.1:0")
	if code, _, stderr := runOnce(t.Context(), "send", "-gateway", g.url, "-site-id", "s", "-count", "2"); code != 0 {
		t.Fatal(stderr)
	}
	var stderr strings.Builder
	code := command.Report(root().Run(t.Context(), []string{"tail", "-topic", g.topic(), "-from-start", "-follow"}, brokenPipe{}, &stderr), &stderr)
	if code != 0 || stderr.Len() > 0 {
		t.Errorf("exit %d, %q; want a quiet end", code, stderr.String())
	}
}

func TestTailIsAskedWrongly(t *testing.T) {
	for _, tt := range []struct{ args, stderr string }{
		{"", "where to begin?"},
		{"-from-start -limit -1", "must not be negative"},
		{"-from-start -topic sqlite:///nowhere/topic.db", "no such file"},
		{"-from-start -topic sqlite:///nowhere/topic.db", "give -topic the URL"},
		{"-from-start -topic sqlite:///nowhere/topic.db?subscription=x", "peek"},
		{"-from-start -topic memory:", "memory:"},
		{"-from-start -topic kafka://x", "unknown kind of topic"},
		{"-from-start -topic gcppubsub://projects/p/subscriptions/s", "-from-start does not go with Pub/Sub"},
		{"-topic gcppubsub://projects/p/subscriptions/s", "has no end"},
		{"-from-start -topic ://", "missing protocol scheme"},
	} {
		code, stdout, stderr := runOnce(t.Context(), append([]string{"tail"}, strings.Fields(tt.args)...)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, tt.stderr) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, stdout %q, stderr %q; want 2 and one line with %q", tt.args, code, stdout, stderr, tt.stderr)
		}
	}
}
