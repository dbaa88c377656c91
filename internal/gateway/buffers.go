// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"math/bits"
	"sync"
)

const (
	smallestBuffer = 12 // as a power of two
	largestBuffer  = 22
)

// buffers lends memory, in sizes that are powers of two. What is given back is
// lent again; the garbage collector takes what has not been for a while, so that
// nothing is kept of a burst.
type buffers struct {
	pools [largestBuffer - smallestBuffer + 1]sync.Pool
}

// take returns an empty slice with room for size bytes.
func (b *buffers) take(size int) []byte {
	class := max(bits.Len(uint(max(size, 1)-1)), smallestBuffer)
	if class > largestBuffer {
		return make([]byte, 0, size)
	}
	if buf, ok := b.pools[class-smallestBuffer].Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 0, 1<<class)
}

// give gives a slice back, also one that has been moved to grow. Nothing may use
// its memory any more.
func (b *buffers) give(buf []byte) {
	class := bits.Len(uint(cap(buf))) - 1
	if class < smallestBuffer || class > largestBuffer {
		return
	}
	buf = buf[:0]
	b.pools[class-smallestBuffer].Put(&buf)
}
