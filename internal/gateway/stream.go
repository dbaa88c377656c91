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
func (g *Gateway) recordEvents(ctx context.Context, conn *connect.BidiStream[streamRequest, streamResponse]) error {
	s := &stream{g: g, call: callOf(ctx), conn: conn}
	proving, cancel := g.whileServing(ctx)
	defer cancel()
	s.proving = proving
	s.responses = newResponder(ctx, conn.Conn(), s.call, g.budget)
	defer s.close() // should there be a panic, nothing may be written after we return
	err := s.serve(ctx)
	// A message that ended the stream is held no longer, though its sender may
	// take minutes to read the responses before.
	s.call.done()
	if failed := s.close(); err == nil || failed != nil && errors.Is(err, errStopping) {
		err = failed
	}
	g.streamEnded(s.session, err)
	return err
}

// A stream is received by one goroutine, published by another, and its responses
// are written by a third. A message that takes one turn to encode is encoded by the
// first, and a larger one by a goroutine of its own, while the next is received.
type stream struct {
	g         *Gateway
	call      *call
	conn      *connect.BidiStream[streamRequest, streamResponse]
	responses *responder
	proving   context.Context // for finding out who sends

	// From its introduction on.
	session   *session
	encoding  chan struct{} // has room for the one message that is encoded
	publisher *publisher
	ended     func() // counts it no longer
}

// serve returns nil when the sender has half-closed.
func (s *stream) serve(ctx context.Context) error {
	for {
		// Whoever does not read its responses may send no more.
		if err := s.responses.await(); err != nil {
			return err
		}
		m, err := s.receive()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if m.request.arm == eventsArm {
			err = s.record(ctx, m)
		} else {
			err = s.introduce(ctx, &m.request)
			s.g.memory.giveMessage(m)
			s.call.done()
		}
		if err != nil {
			return err
		}
	}
}

// receive returns the next message.
func (s *stream) receive() (*message, error) {
	s.call.await()
	m := s.g.memory.takeMessage()
	var err error
	if m.wire, err = s.call.receive(&s.g.memory.buffers); m.wire == nil && err == nil {
		// A frame of our own, rather than conn.Receive, is not kept by the library.
		var frame streamRequest
		err = s.conn.Conn().Receive(&frame)
		m.wire = frame.wire
	}
	if err == nil {
		s.call.charge.settle(int64(len(m.wire)))
		if bad := m.request.splitStream(m.wire); bad != nil {
			err = invalid("%w", bad)
		}
	}
	if err != nil {
		s.g.memory.giveMessage(m)
		return nil, err
	}
	return m, nil
}

// introduce takes a message that has no events.
func (s *stream) introduce(ctx context.Context, r *request) (err error) {
	switch {
	case r.arm == unknownArm:
		return invalid("the message carries field %d, which this gateway does not know; it takes metadata and events", r.unknown)
	case r.arm == noArm:
		return nil
	case s.session != nil:
		return invalid("metadata may only be sent once, as the first message of a stream")
	}
	session, err := s.g.newSession(ctx, r.metadata, s.conn.Peer().Addr, s.conn.RequestHeader())
	if err != nil {
		return err
	}
	s.session = session
	if s.ended, err = s.g.streamOpened(session.sender.Kind); err != nil {
		return err
	}
	s.call.introduced(classOf(session.sender))
	s.encoding = make(chan struct{}, 1)
	s.publisher = newPublisher(ctx, session, s.responses)
	return nil
}

// record has a message encoded and published while the next one is received. What
// it is charged for goes with it.
func (s *stream) record(ctx context.Context, m *message) error {
	if s.session == nil {
		return invalid("events before metadata: the first message of a stream must be its metadata")
	}
	if err := s.session.recheck(s.proving); err != nil {
		return err
	}
	limited, size := s.session.admit(m), len(m.wire)
	m.charge = s.call.handOver()
	s.encoding <- struct{}{}
	if len(m.request.events) <= turnEvents && size <= turnBytes {
		s.encode(ctx, m)
	} else {
		go s.encode(ctx, m)
	}
	if limited {
		s.session.holdBack(ctx, size)
	}
	return nil
}

// encode encodes a message and hands it over to be published.
func (s *stream) encode(ctx context.Context, m *message) {
	defer func() {
		if fault := recover(); fault != nil {
			s.publisher.publish(&chunk{message: m, last: true, fault: s.g.recovered(ctx, s.conn.Spec(), nil, fault)})
		}
		<-s.encoding
	}()
	s.session.each(ctx, m, s.publisher.publish)
}

// close waits until all messages are published and their responses written, and
// returns why that is not so. It may be called again.
func (s *stream) close() error {
	var failed error
	if s.publisher != nil {
		s.encoding <- struct{}{} // nothing is encoded any more
		failed = s.publisher.close()
		<-s.encoding
	}
	if unread := s.responses.close(); failed == nil {
		failed = unread
	}
	if s.ended != nil {
		s.ended()
		s.ended = nil
	}
	return failed
}

// A publisher publishes a stream's chunks one after the other. While it does, the
// next one is encoded and waits.
type publisher struct {
	session   *session
	responses *responder
	chunks    chan *chunk
	close     func() error
}

func newPublisher(ctx context.Context, s *session, r *responder) *publisher {
	p := &publisher{session: s, responses: r, chunks: make(chan *chunk)}
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	p.close = sync.OnceValue(func() error { close(p.chunks); return <-ended })
	return p
}

// publish hands over a chunk once the one before is published.
func (p *publisher) publish(c *chunk) { p.chunks <- c }

// run returns what went wrong, after which nothing more is published.
func (p *publisher) run(ctx context.Context) (failed error) {
	for c := range p.chunks {
		m, last := c.message, c.last
		if failed == nil {
			failed = c.fault
		}
		if failed == nil {
			failed = p.deliver(ctx, c)
		}
		if failed != nil && last {
			m.charge.release() // nobody knows who still uses its memory
			p.responses.c.handled()
			p.responses.c.stop() // which may be waiting for its next message
		}
	}
	return failed
}

// deliver publishes a chunk, and answers a message of which it is the last.
func (p *publisher) deliver(ctx context.Context, c *chunk) (err error) {
	g := p.session.g
	defer func() {
		if fault := recover(); fault != nil {
			err = g.recovered(ctx, p.responses.conn.Spec(), nil, fault)
		}
	}()
	m, last := c.message, c.last
	p.session.publish(ctx, c)
	g.memory.giveChunk(c)
	if last {
		p.session.conclude(ctx, m)
		response := m.answer.append(nil)
		g.memory.giveMessage(m)
		p.responses.send(response)
		p.responses.c.handled()
	}
	return nil
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
