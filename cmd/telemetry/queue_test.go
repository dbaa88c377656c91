// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/telemetrygateway/telemetry/exporter"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/queue"
)

func openTestQueue(t *testing.T, url string) *queue.Queue {
	t.Helper()
	db, err := openDatabase(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	q, err := queue.Open(t.Context(), db, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// A dead letter says why, and comes back when it is replayed, as often as it
// takes.
func TestDeadLettersAreListedAndReplayed(t *testing.T) {
	dir := t.TempDir()
	url := "sqlite://" + filepath.Join(dir, "instance.db")
	q := openTestQueue(t, url)
	for _, e := range []*telemetrygatewayv1.Event{
		{Id: "good", Feature: "search", Action: "run", Timestamp: timestamppb.Now()},
		{Id: "bad", Feature: "No <feature>", Action: "run", Timestamp: timestamppb.Now()},
	} {
		if err := q.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	export, err := exporter.New(q, startGateway(t, t.TempDir(), "127.0.0.1:0").url, exporter.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		var out strings.Builder
		if err := root().Run(t.Context(), append([]string{"queue", args[0], "-db", url}, args[1:]...), &out, t.Output()); err != nil {
			t.Fatalf("telemetry queue %q: %v", args, err)
		}
		return out.String()
	}
	for range 2 {
		if _, err := export.Export(t.Context()); err != nil {
			t.Fatal(err)
		}
		var dead struct {
			ID, At, Reason, Field, Message string
			Event                          struct{ Feature string }
		}
		line := run("dead")
		if err := json.Unmarshal([]byte(line), &dead); err != nil {
			t.Fatalf("%q is not one line of JSON: %v", line, err)
		}
		if dead.ID != "bad" || dead.At == "" || dead.Reason != "feature_invalid" || dead.Field != "feature" || dead.Message == "" || dead.Event.Feature != "No <feature>" {
			t.Errorf("got %s", line)
		}
		if got := run("stats"); !strings.HasPrefix(got, `{"recorded":2,"exported":1,"dead_lettered":1,"filtered":0,"expired":0,"pending":0,`) {
			t.Errorf("stats: got %s", got)
		}
		if got := run("replay", "bad"); got != `{"replayed":1}`+"\n" {
			t.Errorf("replay: got %s", got)
		}
		if got := run("stats"); !strings.HasPrefix(got, `{"recorded":2,"exported":1,"dead_lettered":0,"filtered":0,"expired":0,"pending":1,`) {
			t.Errorf("stats after replay: got %s", got)
		}
	}
}
