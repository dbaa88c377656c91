// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/google/uuid"
)

const (
	// filterKeys is how many keys the smallest part of a filter is for. It has
	// four bytes for each, with which about six of a million keys that are not
	// in the filter seem to be.
	filterKeys = 1 << 20
	// filterMostKeys is how many keys a filter is for at most.
	filterMostKeys = 16 * filterKeys

	// FilterBytes is how much memory of Go's an open DuckDB file takes at most,
	// beyond that of the batches that are being inserted.
	FilterBytes = 4 * filterMostKeys
)

// keyFilter holds the keys of a file's events, and perhaps others, so that what it
// does not hold is new for certain. To look for a batch's keys in the file takes
// time in proportion to all rows that are there. Its parts are Bloom filters. One
// goroutine uses it at a time.
type keyFilter struct {
	parts    []filterPart
	complete bool // nothing that is in the file is missing
}

// filterPart is a Bloom filter whose keys set sixteen bits of a block, two in
// each of its words. A block is what a processor reads at once.
type filterPart struct {
	blocks [][8]uint64
	room   int // keys that it is for, and does not have
}

// keysInBlock is how many keys there are for each block.
const keysInBlock = 16

func newFilterPart(keys int) filterPart {
	return filterPart{make([][8]uint64, keys/keysInBlock), keys}
}

// newKeyFilter returns a filter for a file that has so many events, none of which
// it holds, or nil if they are too many.
func newKeyFilter(events int64) *keyFilter {
	if events > filterMostKeys {
		return nil
	}
	// A quarter more is room for some days, as a rule.
	parts := (int(events)*5/4 + filterKeys - 1) / filterKeys
	return &keyFilter{parts: []filterPart{newFilterPart(min(max(1, parts)*filterKeys, filterMostKeys))}}
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
			keys += len(f.parts[i].blocks) * keysInBlock
		}
		if keys = min(keys, filterMostKeys-keys); keys <= 0 {
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
	for _, i := range indexes {
		known := f.add(key(i))
		if known || !f.complete {
			perhaps = append(perhaps, i)
		}
	}
	return perhaps
}

// rowsAtOnce is how many events' keys are read together, which takes some MB. To
// find where the next ones begin takes longer the more there are before.
const rowsAtOnce = 8 * rowGroup

// read adds the keys of all events that are in the file. Nothing is inserted
// meanwhile.
//
// A query's rows would cost a microsecond each, and be in memory all at once. So
// DuckDB joins the keys of some rows to one text, which takes a tenth of that.
func (f *keyFilter) read(ctx context.Context, conn *sql.Conn) error {
	var events, last int64
	if err := conn.QueryRowContext(ctx, "SELECT count(*), coalesce(max(rowid), -1) FROM telemetry.main.events").Scan(&events, &last); err != nil {
		return err
	}
	rows, err := conn.PrepareContext(ctx, "SELECT coalesce(string_agg(CAST(key_hash AS VARCHAR), ''), '') FROM telemetry.main.events WHERE rowid >= ? AND rowid < ?")
	if err != nil {
		return err
	}
	defer rows.Close()
	for row := int64(0); row <= last; row += rowsAtOnce {
		var keys string
		if err := rows.QueryRowContext(ctx, row, min(row+rowsAtOnce, last+1)).Scan(&keys); err != nil {
			return err
		}
		n, err := f.addAll(keys)
		if err != nil {
			return err
		}
		events -= n
	}
	if events != 0 {
		return fmt.Errorf("%d events have no row, or more than one", events)
	}
	f.complete = len(f.parts) > 0
	return nil
}

// addAll adds keys that DuckDB has written one after the other, and returns how
// many there are.
func (f *keyFilter) addAll(keys string) (n int64, err error) {
	const length = len("00000000-0000-0000-0000-000000000000")
	for ; len(keys) >= length; keys = keys[length:] {
		key, err := uuid.Parse(keys[:length])
		if err != nil {
			return n, err
		}
		f.add(key)
		n++
	}
	return n, nil
}
