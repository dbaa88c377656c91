// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"sync/atomic"
)

// Discard is a topic that takes every message and keeps none: for measuring
// what publishes to it.
type Discard struct{ closed atomic.Bool }

// Publish forgets ms.
func (d *Discard) Publish(ctx context.Context, ms []Message) []error {
	if d.closed.Load() {
		return errorForEach(ms, ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return errorForEach(ms, err)
	}
	return nil
}

// Ping returns an error only after Close.
func (d *Discard) Ping(context.Context) error {
	if d.closed.Load() {
		return ErrClosed
	}
	return nil
}

// Close ends publishing.
func (d *Discard) Close() error {
	d.closed.Store(true)
	return nil
}
