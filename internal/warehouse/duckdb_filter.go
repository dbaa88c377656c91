// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"database/sql"
	"encoding/binary"
	"math/bits"
	"sync"

	"github.com/duckdb/duckdb-go/v2"
)

const (
	// filterKeys is how many keys the smallest part of a filter is for. It has
	// four bytes for each, with which about six of a million keys that are not
	// in the filter seem to be.
	filterKeys = 1 << 20
	// filterMostKeys is how many keys a filter is for at most, which takes 64 MB.
	filterMostKeys = 16 * filterKeys
)

// keyFilter holds the keys of a file's events, and perhaps others, so that what it
// does not hold is new for certain. To look for a batch's keys in the file takes
// time in proportion to all rows that are there. Its parts are Bloom filters.
type keyFilter struct {
	mu       sync.Mutex
	parts    []filterPart
	complete bool // nothing that is in the file is missing
}

// filterPart is a Bloom filter whose keys set sixteen bits of a block, two in
// each of its words. A block is what a processor reads at once.
type filterPart struct {
	blocks [][8]uint64
	room   int // keys that it is for, and does not have
}

func newFilterPart(keys int) filterPart {
	return filterPart{make([][8]uint64, keys*32/512), keys}
}

// newKeyFilter returns a filter for a file that has so many events, none of which
// it holds, or nil if they are too many.
func newKeyFilter(events int64) *keyFilter {
	keys := filterKeys
	for int64(keys) < events {
		keys *= 2
	}
	if keys > filterMostKeys {
		return nil
	}
	return &keyFilter{parts: []filterPart{newFilterPart(keys)}}
}

// bitsOf returns which block a key is in, and its bits there.
func (p *filterPart) bitsOf(key [16]byte) (block *[8]uint64, mask [8]uint64) {
	// Keys are as good as random.
	n, _ := bits.Mul64(binary.LittleEndian.Uint64(key[:8]), uint64(len(p.blocks)))
	x := binary.LittleEndian.Uint64(key[8:])
	for i := range mask {
		mask[i] = 1<<(x>>58) | 1<<(x>>52&63)
		x *= 0x9e3779b97f4a7c15 // odd; the highest bits then depend on all
	}
	return &p.blocks[n], mask
}

func (p *filterPart) has(key [16]byte) bool {
	block, mask := p.bitsOf(key)
	for i, m := range mask {
		if block[i]&m != m {
			return false
		}
	}
	return true
}

func (p *filterPart) add(key [16]byte) {
	block, mask := p.bitsOf(key)
	for i, m := range mask {
		block[i] |= m
	}
	p.room--
}

// add adds a key, and reports whether it seemed to be there. A filter that has
// become too large lets go of everything, and is never complete again.
func (f *keyFilter) add(key [16]byte) (known bool) {
	if len(f.parts) == 0 {
		return false
	}
	for i := range f.parts {
		if f.parts[i].has(key) {
			return true // and takes no room once more
		}
	}
	last := &f.parts[len(f.parts)-1]
	if last.room == 0 {
		keys := 0
		for i := range f.parts {
			keys += len(f.parts[i].blocks) * 512 / 32
		}
		if 2*keys > filterMostKeys {
			f.parts, f.complete = nil, false
			return false
		}
		f.parts = append(f.parts, newFilterPart(keys))
		last = &f.parts[len(f.parts)-1]
	}
	last.add(key)
	return false
}

// learn adds the keys of some events, and returns those of them that may be in
// the file. It may be called on nil.
func (f *keyFilter) learn(indexes []int, key func(i int) [16]byte) (perhaps []int) {
	if f == nil {
		return indexes
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range indexes {
		known := f.add(key(i))
		if known || !f.complete {
			perhaps = append(perhaps, i)
		}
	}
	return perhaps
}

// read adds the keys of all events that are in the file. What is inserted
// meanwhile has to be added by whoever inserts it.
func (f *keyFilter) read(ctx context.Context, conn *sql.Conn) error {
	rows, err := conn.QueryContext(ctx, "SELECT key_hash FROM telemetry.main.events")
	if err != nil {
		return err
	}
	defer rows.Close()
	var some [][16]byte
	flush := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, key := range some {
			f.add(key)
		}
		some = some[:0]
	}
	for rows.Next() {
		var key duckdb.UUID
		if err := rows.Scan(&key); err != nil {
			return err
		}
		if some = append(some, key); len(some) == 1024 {
			flush()
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	flush()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.complete = len(f.parts) > 0
	return nil
}
