// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestKeyFilter adds keys to a filter until it grows, and then until it is too
// large: what was added may always be there, and nearly nothing else.
func TestKeyFilter(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	keys := make([][16]byte, 4<<16)
	for i := range keys {
		random.Read(keys[i][:])
	}
	f := &keyFilter{parts: []filterPart{newFilterPart(1 << 16)}, complete: true}
	all := make([]int, len(keys))
	for i := range all {
		all[i] = i
	}
	key := func(i int) [16]byte { return keys[i] }
	if perhaps := f.learn(all, key); len(perhaps) > 4 {
		t.Errorf("%d of %d new keys seem to be there", len(perhaps), len(keys))
	}
	if len(f.parts) != 3 {
		t.Errorf("%d parts for four times as many keys as the first is for", len(f.parts))
	}
	room := f.parts[2].room
	if perhaps := f.learn(all, key); len(perhaps) != len(keys) {
		t.Errorf("%d of %d keys are there", len(perhaps), len(keys))
	}
	if len(f.parts) != 3 || f.parts[2].room != room {
		t.Errorf("keys take room once more: %d parts, room %d, was %d", len(f.parts), f.parts[len(f.parts)-1].room, room)
	}
	strangers, seen := 0, 0
	for range 1 << 20 {
		var key [16]byte
		random.Read(key[:])
		if strangers++; seems(f, key) {
			seen++
		}
	}
	if seen > strangers/20_000 {
		t.Errorf("%d of %d keys that were never added seem to be there", seen, strangers)
	}

	f.parts = []filterPart{{make([][8]uint64, filterMostKeys/keysInBlock), 1}}
	if perhaps := f.learn(all[:1], key); len(perhaps) != 0 {
		t.Error("a new key seems to be there")
	}
	for range 2 {
		if perhaps := f.learn(all, key); len(perhaps) != len(all) && f.complete {
			t.Errorf("a filter that is too large still knows %d of %d", len(perhaps), len(all))
		}
	}
	if f.complete || f.parts != nil {
		t.Error("a filter that is too large is still complete")
	}
	if newKeyFilter(filterMostKeys) == nil || newKeyFilter(filterMostKeys+1) != nil {
		t.Error("a filter is for another number of keys than it says")
	}
	if perhaps := (*keyFilter)(nil).learn(all, key); len(perhaps) != len(all) {
		t.Errorf("without a filter %d of %d are perhaps there", len(perhaps), len(all))
	}
}

func seems(f *keyFilter, key [16]byte) bool {
	return slices.ContainsFunc(f.parts, func(p filterPart) bool { return p.has(key) })
}
