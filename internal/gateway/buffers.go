// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"math/bits"
	"sync"
	"unsafe"
)

const (
	smallestBuffer = 12 // as a power of two
	largestBuffer  = 22
	// bufferSteps is how many sizes there are for each power of two.
	bufferSteps = 4
)

// buffers lends memory, in few sizes. What is given back is lent again; the garbage
// collector takes what has not been for a while, so that nothing is kept of a
// burst.
type buffers struct {
	pools [(largestBuffer-smallestBuffer)*bufferSteps + 1]sync.Pool
}

// bufferSize is the size of the buffers of a pool.
func bufferSize(pool int) int {
	power := smallestBuffer + pool/bufferSteps
	return 1<<power + pool%bufferSteps<<power/bufferSteps
}

// bufferPool is the pool of the largest buffers that are not larger than size,
// which is at least that of the smallest.
func bufferPool(size int) int {
	power := bits.Len(uint(size)) - 1
	return (power-smallestBuffer)*bufferSteps + (size-1<<power)*bufferSteps>>power
}

// take returns an empty slice with room for size bytes.
func (b *buffers) take(size int) []byte {
	if size > 1<<largestBuffer {
		return make([]byte, 0, size)
	}
	size = max(size, 1<<smallestBuffer)
	pool := bufferPool(size)
	if bufferSize(pool) < size {
		pool++
	}
	if first, ok := b.pools[pool].Get().(*byte); ok {
		return unsafe.Slice(first, bufferSize(pool))[:0]
	}
	return make([]byte, 0, bufferSize(pool))
}

// give gives a slice back, also one that has been moved to grow. Nothing may use
// its memory any more.
func (b *buffers) give(buf []byte) {
	if cap(buf) < 1<<smallestBuffer || cap(buf) >= 1<<largestBuffer<<1 {
		return
	}
	// A slice in a pool would be an allocation.
	b.pools[min(bufferPool(cap(buf)), len(b.pools)-1)].Put(unsafe.SliceData(buf))
}
