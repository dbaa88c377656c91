// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"runtime/debug"
	"testing"
)

// TestHeadroom is the same while little is in use, and then a part of it. What a
// process keeps to always leaves it.
func TestHeadroom(t *testing.T) {
	for live, want := range map[uint64]uint64{
		0:          32 << 20,
		4 << 20:    32 << 20,
		64 << 20:   32 << 20,
		256 << 20:  32 << 20,
		1024 << 20: 128 << 20,
	} {
		base := max(live, 4<<20)
		if got := base * uint64(headroom(live)) / 100; got > want || got < want*95/100 {
			t.Errorf("%d bytes in use: headroom %d, want %d", live, got, want)
		}
		if limit := uint64(limitFor(live)); limit < usualBytes || live > usualBytes && limit < live+live/headroomShare {
			t.Errorf("%d bytes in use: limit %d", live, limit)
		}
	}
}

// TestPacerKeepsTheLimit that was set, whatever is in use.
func TestPacerKeepsTheLimit(t *testing.T) {
	before, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer func() {
		debug.SetMemoryLimit(before)
		debug.SetGCPercent(percent)
	}()
	const most = 100 << 20
	p := &pacer{most: most}
	p.pace()
	if got := debug.SetMemoryLimit(-1); got != most {
		t.Errorf("the limit is %d, want %d", got, most)
	}
	if got := debug.SetGCPercent(100); got <= 100 {
		t.Errorf("little is in use, and is collected at %d %%", got)
	}
}
