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
	goPercent = 100 // Go's default
	// memoryInterval is how often a process looks at its memory, and returnAfter how
	// many times it has to see that a burst is over.
	memoryInterval = time.Second
	returnAfter    = 10
	// returnBytes is how much has to be allocated for it to be worth returning, and
	// at most in an interval for a burst to be over.
	returnBytes = 16 << 20
	// headroomBytes is how much garbage there may be when little is in use; when
	// much is, it may be a part of that, as 1/headroomShare.
	headroomBytes = 32 << 20
	headroomShare = 8
	// usualBytes is what a process keeps to without a lack of headroom, all but its
	// program included, and besideHeap what it then has besides the heap.
	usualBytes = 208 << 20
	besideHeap = 48 << 20
)

// Garbage is looked after until ctx ends.
//
// By default Go collects when as much has been allocated as is in use: with a few
// megabytes in use that is all the time, and with hundreds it doubles what the
// process takes. Here it has the same headroom with little in use, and a
// smaller part with much. And it keeps to usualBytes if that leaves headroom: what
// is free within the heap is then returned to the operating system before it
// grows. The limit that is set when Garbage is called holds all the same, and an
// operator who has set GOGC decides alone.
//
// Once a burst is over, its memory is returned. A process that is idle allocates
// nothing, and would keep for two minutes what a burst took, and then return it
// slowly.
func Garbage(ctx context.Context) {
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	if percent := debug.SetGCPercent(goPercent); percent == goPercent {
		(&pacer{most: debug.SetMemoryLimit(-1)}).run(ctx)
	} else {
		debug.SetGCPercent(percent)
	}
	last, _ := heap()
	returned, quiet := last, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		allocated, _ := heap()
		if quiet++; allocated-last >= returnBytes {
			quiet = 0
		}
		last = allocated
		if quiet >= returnAfter && allocated-returned >= returnBytes {
			runtime.GC() // pools let go of what they have at the second collection
			debug.FreeOSMemory()
			returned = allocated
		}
	}
}

// A pacer says when to collect next, after each collection.
type pacer struct {
	most    int64 // limit that holds whatever is in use
	percent int   // as last set
	limit   int64
}

// run paces until ctx ends.
func (p *pacer) run(ctx context.Context) {
	p.pace()
	// What nobody refers to is cleaned up after the next collection.
	runtime.AddCleanup(new([16]byte), func(p *pacer) {
		if ctx.Err() == nil {
			p.run(ctx)
		}
	}, p)
}

func (p *pacer) pace() {
	_, live := heap()
	if percent := headroom(live); percent < p.percent*9/10 || percent > p.percent*11/10 {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
	if limit := min(p.most, limitFor(live)); limit < p.limit*9/10 || limit > p.limit*11/10 {
		p.limit = limit
		debug.SetMemoryLimit(limit)
	}
}

// headroom is how much garbage there may be when so many bytes are in use, in
// percent of these.
func headroom(live uint64) int {
	live = max(live, headroomBytes/8)
	return int(100 * max(headroomBytes, live/headroomShare) / live)
}

// limitFor is what a process keeps to when so many bytes are in use.
func limitFor(live uint64) int64 {
	return max(usualBytes, int64(live+live/headroomShare)+besideHeap)
}

// heap returns how many bytes have been allocated since the start, and how many
// were in use at the last collection.
func heap() (allocated, live uint64) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64(), sample[1].Value.Uint64()
}
