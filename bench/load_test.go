// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// TestLoader shows that nothing a sender sends goes uncounted: each message that
// was handed out is answered before a run ends, over more streams than there are
// connections, for one run after the other.
func TestLoader(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(serveObvious(l, nil))
	const streams = maxConnections + 1
	sender, err := newLoader(l.Addr().String(), streams, licensedMetadata("key"))
	if err != nil {
		t.Fatal(err)
	}
	defer sender.close()
	if err := sender.open(); err != nil {
		t.Fatal(err)
	}
	messages, err := newMix(1).messages(1, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, perStream := range []int64{1, 7} {
		var sent [streams]int64
		var events atomic.Int64
		acks, err := sender.run(2, func(stream int) (message, time.Time, bool) {
			m := messages[(int64(stream)+sent[stream])%int64(len(messages))]
			if sent[stream] == perStream {
				return m, time.Time{}, false
			}
			sent[stream]++
			events.Add(int64(m.events))
			return m, time.Now(), true
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(acks) != streams*int(perStream) || eventsOf(acks) != int(events.Load()) {
			t.Errorf("%d answers for %d events, want %d for %d", len(acks), eventsOf(acks), streams*perStream, events.Load())
		}
	}
	// Over before it began, it still sends one on each stream.
	if acks, err := sender.run(2, until(messages, streams, time.Now())); err != nil || len(acks) != streams {
		t.Errorf("%d answers, %v, want one on each of %d streams", len(acks), err, streams)
	}
	if err := sender.hangUp(); err != nil {
		t.Error(err)
	}
	if _, err := sender.run(2, until(messages, streams, time.Now())); err == nil {
		t.Error("messages were sent over streams that had ended")
	}
}
