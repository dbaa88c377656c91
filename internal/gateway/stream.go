// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// recordEvents serves a stream: metadata, then any number of events messages,
// each of which gets one response.
func (g *Gateway) recordEvents(ctx context.Context, stream *connect.BidiStream[streamRequest, streamResponse]) error {
	c := callOf(ctx)
	var s *session
	closed := func() {}
	defer func() { closed() }() // once its responses are written
	out := newResponder(ctx, stream.Conn(), c, g.budget)
	// Should there be a panic, nothing may be written after we return.
	defer func() { _ = out.close() }()
	err := func() error {
		var req request
		for {
			c.await()
			// A frame of our own, rather than stream.Receive, lets go of a
			// large one and reuses a small one.
			var frame streamRequest
			if err := stream.Conn().Receive(&frame); err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			c.charge.settle(int64(len(frame.wire)))
			if err := req.splitStream(frame.wire); err != nil {
				return invalid("%w", err)
			}
			switch req.arm {
			case noArm:
			case unknownArm:
				return invalid("the message carries field %d, which this gateway does not know; it takes metadata and events", req.unknown)
			case metadataArm:
				if s != nil {
					return invalid("metadata may only be sent once, as the first message of a stream")
				}
				var err error
				if s, err = g.newSession(ctx, req.metadata, stream.Peer().Addr, stream.RequestHeader()); err != nil {
					return err
				}
				opened, err := g.streamOpened(s.sender.Kind)
				if err != nil {
					return err
				}
				closed = opened
				c.introduced(classOf(s.sender))
			case eventsArm:
				if s == nil {
					return invalid("events before metadata: the first message of a stream must be its metadata")
				}
				if err := s.recheck(ctx); err != nil {
					return err
				}
				size := len(frame.wire)
				a := s.record(ctx, req.events, size)
				response, limited := a.append(nil), a.refusal != nil
				// Neither a stream that is idle from now on nor a sender that
				// does not read its responses may hold the message's memory,
				// or its share of what others wait for.
				clear(req.events)
				frame.wire = nil
				c.done()
				if err := out.send(response); err != nil {
					return err
				}
				if limited {
					s.holdBack(ctx, size)
				}
			}
			c.done()
		}
	}()
	// A message that ended the stream is held no longer, though its sender may
	// take minutes to read the responses before.
	c.done()
	if unread := out.close(); err == nil {
		err = unread
	}
	g.streamEnded(s, err)
	return err
}

// holdBack waits after a message of size bytes that was more than its sender
// may send. All such messages together are received at a bounded rate, because
// to receive them is most of what they cost: flow control makes their senders
// wait instead of licensed ones.
func (s *session) holdBack(ctx context.Context, size int) {
	now := time.Now()
	r := s.g.limited.ReserveN(now, min(size+limits.LimitedOverhead, limits.LimitedBurstBytes))
	wait := r.DelayFrom(now)
	if wait > limits.LimitedWait {
		r.CancelAt(now)
		wait = limits.LimitedWait
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	case <-s.g.serving.Done():
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// A responder writes responses while the next message is already being
// received. Without it a sender that reads nothing until it has sent all would
// be stuck, with us, as soon as its responses no longer fit into the
// connection's buffers.
type responder struct {
	ctx    context.Context
	conn   connect.StreamingHandlerConn
	c      *call
	budget *budget
	ended  chan struct{}

	mu     sync.Mutex
	change *sync.Cond
	queue  [][]byte
	bytes  int64 // in queue and being written
	closed bool
	err    error
}

func newResponder(ctx context.Context, conn connect.StreamingHandlerConn, c *call, b *budget) *responder {
	r := &responder{ctx: ctx, conn: conn, c: c, budget: b, ended: make(chan struct{})}
	r.change = sync.NewCond(&r.mu)
	go r.run()
	return r
}

// send queues a response. It blocks while too much is waiting to be read.
func (r *responder) send(wire []byte) error {
	share, cost := r.share(), r.cost(wire)
	if err := share.responses.Acquire(r.ctx, cost); err != nil {
		return connect.NewError(connect.CodeCanceled, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.err == nil && r.bytes > 0 && r.bytes+cost > limits.StreamResponseBytes {
		r.change.Wait()
	}
	if r.err != nil {
		share.responses.Release(cost)
		return r.err
	}
	r.queue = append(r.queue, wire)
	r.bytes += cost
	r.change.Broadcast()
	return nil
}

func (r *responder) share() *share { return &r.budget.shares[r.c.class] }

func (r *responder) cost(wire []byte) int64 {
	return min(int64(len(wire))+64, r.share().responsesMax)
}

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
		cost := r.cost(wire)
		r.share().responses.Release(cost)
		r.mu.Lock()
		r.bytes -= cost
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
	if err := r.c.control.SetWriteDeadline(time.Now().Add(limits.IdleTimeout)); err != nil {
		return internal("set write deadline: %w", err)
	}
	if err := r.conn.Send(&streamResponse{wire: wire}); err != nil {
		return err
	}
	if err := r.c.control.SetWriteDeadline(time.Time{}); err != nil {
		return internal("clear write deadline: %w", err)
	}
	return nil
}
