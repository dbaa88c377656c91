// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// A responder writes responses while the next message is already being
// received. Without it a sender that reads nothing until it has sent all would
// be stuck, with us, as soon as its responses no longer fit into the
// connection's buffers.
type responder struct {
	ctx    context.Context
	conn   connect.StreamingHandlerConn
	c      *call
	budget *budget
	begun  bool // a response has been written
	ended  chan struct{}

	mu     sync.Mutex
	change *sync.Cond
	queue  [][]byte
	bytes  int64 // in queue and being written
	paid   int64 // of these, charged to the share of responses
	closed bool
	err    error
	// overdue is when the response being written must have been.
	overdue deadline
}

func newResponder(ctx context.Context, conn connect.StreamingHandlerConn, c *call, b *budget) *responder {
	r := &responder{ctx: ctx, conn: conn, c: c, budget: b, ended: make(chan struct{})}
	r.change = sync.NewCond(&r.mu)
	r.overdue = deadline{mu: &r.mu, passed: func() { _ = c.control.SetWriteDeadline(time.Unix(1, 0)) }}
	go r.run()
	return r
}

// send queues a response. It does not block: who received the message may wait
// for what it has handed over. If there is no room, await is what blocks.
func (r *responder) send(wire []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, wire)
	r.bytes += cost(wire)
	if owed := r.due() - r.paid; r.share().responses.TryAcquire(owed) {
		r.paid += owed
	}
	r.change.Broadcast()
}

// await blocks while too much is waiting to be read, and returns an error once
// nothing can be written any more.
func (r *responder) await() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.err == nil {
		switch owed := r.due() - r.paid; {
		case owed > 0:
			r.mu.Unlock()
			err := r.share().responses.Acquire(r.ctx, owed)
			r.mu.Lock()
			if err != nil {
				return connect.NewError(connect.CodeCanceled, err)
			}
			r.paid += owed
			r.settle()
		case r.bytes > limits.StreamResponseBytes:
			r.change.Wait()
		default:
			return nil
		}
	}
	return r.err
}

// settle gives back what is paid too much. The caller holds mu.
func (r *responder) settle() {
	if extra := r.paid - r.due(); extra > 0 {
		r.paid -= extra
		r.share().responses.Release(extra)
	}
}

func (r *responder) share() *share { return &r.budget.shares[r.c.class] }

func cost(wire []byte) int64 { return int64(len(wire)) + 64 }

// due is what is to be paid for all that waits. The caller holds mu.
func (r *responder) due() int64 { return min(r.bytes, r.share().responsesMax) }

// close waits until all responses are written.
func (r *responder) close() error {
	r.mu.Lock()
	r.closed = true
	r.change.Broadcast()
	r.mu.Unlock()
	<-r.ended
	return r.err
}

func (r *responder) run() {
	defer close(r.ended)
	for {
		r.mu.Lock()
		for len(r.queue) == 0 && !r.closed {
			r.change.Wait()
		}
		if len(r.queue) == 0 {
			r.overdue.stop()
			r.mu.Unlock()
			return
		}
		wire := r.queue[0]
		r.queue[0], r.queue = nil, r.queue[1:]
		failed := r.err != nil
		r.mu.Unlock()

		var err error
		if !failed {
			err = r.write(wire)
		}
		r.mu.Lock()
		r.overdue.set(time.Time{})
		r.bytes -= cost(wire)
		r.settle()
		if err != nil {
			r.err = err
		}
		r.change.Broadcast()
		r.mu.Unlock()
	}
}

// write gives a sender as long to read a response as it may be idle: it may
// be busy sending.
func (r *responder) write(wire []byte) error {
	r.mu.Lock()
	r.overdue.set(time.Now().Add(limits.IdleTimeout))
	r.mu.Unlock()
	if r.begun && r.c.wireFormat {
		return r.c.send(wire)
	}
	r.begun = true
	return r.conn.Send(&streamResponse{wire: wire})
}
