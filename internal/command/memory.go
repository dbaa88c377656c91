// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// returnInterval is how long a burst has to be over for its memory to be
	// returned.
	returnInterval = 10 * time.Second
	// returnBytes is how much has to be allocated for it to be worth returning, and
	// at most in an interval for a burst to be over.
	returnBytes = 16 << 20
)

// ReturnMemory returns the memory of bursts to the operating system once they
// are over, until ctx ends. Go collects by itself when as much has been allocated
// as is in use, or after two minutes: an idle process allocates nothing, and would
// keep what a burst took for as long, and then return it slowly.
func ReturnMemory(ctx context.Context) {
	tick := time.NewTicker(returnInterval)
	defer tick.Stop()
	returned := allocated()
	for last := returned; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := allocated()
		if now-last < returnBytes && now-returned >= returnBytes {
			runtime.GC() // pools let go of what they have at the second collection
			debug.FreeOSMemory()
			returned = now
		}
		last = now
	}
}

// allocated is how many bytes have been allocated on the heap since the start.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
