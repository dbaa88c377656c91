// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/telemetrygateway/telemetry/internal/topic"
)

// storySubscribe is the command "subscribe PATH NAME" of stories: it makes a
// subscription of a SQLite topic.
func storySubscribe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: subscribe PATH NAME")
	}
	s, err := topic.Subscribe(context.Background(), "sqlite://"+ts.MkAbs(args[0])+"?subscription="+args[1], topic.BatchOptions{}, slog.New(slog.DiscardHandler))
	ts.Check(err)
	ts.Check(s.Close())
}
