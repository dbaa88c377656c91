// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"math/rand/v2"
	"time"
)

const (
	firstPause = time.Second
	maxPause   = 5 * time.Minute
	// maxRetryAfter bounds what a gateway may ask for, so that a wrong unit or
	// clock there does not silence an instance for good.
	maxRetryAfter = 24 * time.Hour
	// startWithin spreads the first passes of instances that start together.
	startWithin = 10 * time.Second
)

// pause is how long to wait before the next pass after a number of failures in
// a row: any time up to a bound that doubles with each ("full jitter"), on top
// of what the gateway asked for.
func pause(failures int, interval, retryAfter time.Duration) time.Duration {
	most := min(interval, maxPause)
	if shift := failures - 1; shift < 20 {
		most = min(most, firstPause<<max(shift, 0))
	}
	return min(max(retryAfter, 0), maxRetryAfter) + upTo(most)
}

// around is a random time, a tenth shorter or longer than d at most.
func around(d time.Duration) time.Duration { return d - d/10 + upTo(d/5) }

// upTo is a random time between 0 and d.
func upTo(d time.Duration) time.Duration { return rand.N(d + 1) }
