// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"syscall"
	"time"
)

// pacedWindow is how many messages a paced stream leaves unanswered: so many
// that it is never the sender who waits.
const pacedWindow = 1000

// paced returns messages at the times at which they are due: one each interval,
// the streams in turn. One that is sent late counts from when it was due, so
// that waiting in line is waiting.
func paced(messages []message, streams int, interval time.Duration, started time.Time, d time.Duration) func(stream int) (message, time.Time, bool) {
	sent := make([]int, streams)
	return func(stream int) (message, time.Time, bool) {
		k := sent[stream]*streams + stream
		sent[stream]++
		due := started.Add(time.Duration(k) * interval)
		if due.Sub(started) >= d {
			return message{}, due, false
		}
		sleepUntil(due)
		return messages[k%len(messages)], due, true
	}
}

// sleepUntil asks the kernel, because the runtime's timers of an idle process
// wake it up to a millisecond late, which would count as latency.
func sleepUntil(due time.Time) {
	for {
		left := syscall.NsecToTimespec(time.Until(due).Nanoseconds())
		if left.Nano() <= 0 {
			return
		}
		_ = syscall.Nanosleep(&left, nil) // a signal ends it early
	}
}
