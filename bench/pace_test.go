// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

// TestPacer has two streams take messages in turn, none before it is due.
func TestPacer(t *testing.T) {
	const interval, lasts = time.Millisecond, 20 * time.Millisecond
	messages := []message{{events: 1}, {events: 2}, {events: 3}}
	began := time.Now()
	p, err := newPacer(messages, 2, interval, began, lasts)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for k := range int(lasts / interval) {
		m, due, ok := p.next(k % 2)
		if want := began.Add(time.Duration(k) * interval); !ok || !due.Equal(want) || m.events != messages[k%3].events {
			t.Errorf("message %d: %d events, due %v, %v; want %d, %v", k, m.events, due, ok, messages[k%3].events, want)
		}
		if early := time.Until(due); early > 0 {
			t.Errorf("message %d: %v early", k, early)
		}
	}
	for stream := range 2 {
		if _, _, ok := p.next(stream); ok {
			t.Errorf("stream %d goes on", stream)
		}
	}
}
