// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// How much memory a process takes that runs a pipeline. Everything that runs one
// has these, so that what is measured is what is shipped.
const (
	// DefaultBatch is how many events are inserted together at most. It is
	// DuckDB's row group.
	DefaultBatch = 8192
	// GCPercent is how much garbage there may be, as a part of what is in use.
	// Batches hardly have pointers, so to collect more than twice as often as
	// usual takes little.
	GCPercent = 40

	// batchBytes is enough for the default batch of events of 3 kB, which is twice
	// as much as usual, and keeps what is in flight well below what DuckDB takes.
	batchBytes = 24 << 20
	// inFlight lets one batch be decoded while another is inserted, and the one
	// before is committed.
	inFlight = 3
	// goBytes is what Go's memory is kept to beyond that of messages in flight and
	// of known keys; DuckDB's has a limit of its own.
	goBytes = 48 << 20
)

// Batches returns how events are to be handed out for a warehouse, at most so
// many of them at once.
func Batches(messages int, warehouseURL string) topic.BatchOptions {
	return topic.BatchOptions{Messages: messages, Bytes: min(batchBytes, warehouse.BatchBytes(warehouseURL)), InFlight: inFlight}
}

// MemoryLimit returns what Go's memory is to be kept to, in bytes, when events are
// handed out so: one batch is being read while the others are in flight, and the
// warehouse knows the keys that it has.
func MemoryLimit(b topic.BatchOptions) int64 {
	return int64((b.InFlight+1)*b.Bytes + warehouse.FilterBytes + goBytes)
}
