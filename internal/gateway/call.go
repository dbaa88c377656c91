// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// A call is one request to the gateway's services, seen from below: its body.
//
// It stands between the network and the RPC library because only here can a
// message be refused, or made to wait for memory, before it is in memory. It
// follows the framing (a byte of flags, four of length, then the message) just
// far enough to know whether the peer is between two messages or inside one.
type call struct {
	ctx     context.Context
	body    io.ReadCloser
	from    io.Reader // the body, or a little that has been read of it ahead
	out     http.ResponseWriter
	control *http.ResponseController
	max     int64 // bytes of the largest message, received and decompressed
	charge  charge
	class   class

	// enveloped is set for gRPC, gRPC-Web and streaming Connect. Other bodies
	// are one message without a prefix, of size bytes, or -1.
	enveloped  bool
	http1      bool
	wireFormat bool // its messages are protobuf's, not JSON
	compressed bool // one message without a prefix, compressed
	size       int64
	// introduction is set until the first message of a stream has been taken.
	// That message is small and arrives before the sender is known.
	introduction bool
	introduceBy  time.Time // when that message must be complete

	sendPrefix [5]byte
	prefix     [5]byte
	prefixLen  int
	ahead      []byte    // of prefix, what await has read and Read has not returned yet
	left       int64     // of the message being read
	received   int64     // of a body that is one message
	receiving  bool      // one of its share's receivers
	due        time.Time // when the message being read must be complete
	err        error     // of the last Read, which all later ones return

	// arrived is how much of the message being read has; known is called once
	// the sender is. Both are for others, who wait.
	arrived atomic.Int64
	known   func()

	mu       sync.Mutex
	deadline deadline // of what is being waited for
	stopping bool
	crowding bool // ended, because others wait for its memory
	between  bool // no message is begun
	underWay int  // messages of a stream that are received and not answered
}

// wireFormats are the types of bodies whose messages are taken as they arrive.
var wireFormats = map[string]bool{
	"application/grpc": true, "application/grpc+proto": true,
	"application/grpc-web": true, "application/grpc-web+proto": true,
	"application/connect+proto": true,
}

// callAheadBytes is what of a stream may be in memory although nothing has asked
// for it, so that a small message is read at once, and not in two parts.
const callAheadBytes = 1 << 10

// newCall takes over a request's body.
func newCall(w http.ResponseWriter, r *http.Request, b *budget, maxBytes int64) *call {
	// Neither the RPC library nor the standard asks for lower case.
	t := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Type")))
	enc := r.Header.Get("Content-Encoding")
	c := &call{
		ctx:        r.Context(),
		body:       r.Body,
		from:       r.Body,
		out:        w,
		control:    http.NewResponseController(w),
		max:        maxBytes,
		charge:     charge{b: b},
		enveloped:  strings.HasPrefix(t, "application/grpc") || strings.HasPrefix(t, "application/connect+"),
		wireFormat: wireFormats[t],
		compressed: enc != "" && enc != "identity",
		size:       r.ContentLength,
		known:      func() {},
		between:    true,
		http1:      r.ProtoMajor == 1,
	}
	c.deadline = deadline{mu: &c.mu, passed: c.wake}
	if c.enveloped {
		c.from = bufio.NewReaderSize(r.Body, callAheadBytes)
	}
	return c
}

// start takes the deadline of reading over from the HTTP server, until end.
func (c *call) start() {
	if c.http1 {
		_ = c.control.SetReadDeadline(time.Time{})
	}
}

// introduced says that the first message has been taken and whom later ones
// are charged to.
func (c *call) introduced(of class) {
	c.introduction = false
	c.class = of
	c.known()
}

// done says that the message last received has been dealt with.
func (c *call) done() {
	c.charge.release()
}

// busy says that a message has been received and not been dealt with. To wait
// for the memory of another one then could be to wait for ever; and none comes,
// unless a unary call goes on after its only message.
func (c *call) busy() bool { return c.charge.process > 0 || c.charge.prove > 0 }

// handOver returns what the message last received is charged, for who deals with
// it while the next one arrives, and who must call handled.
func (c *call) handOver() charge {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.underWay++
	return c.charge.hand()
}

// handled says that a message that was handed over has been dealt with. The time
// for which a sender may be idle begins.
func (c *call) handled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.underWay--; c.underWay == 0 && c.between && !c.stopping && c.deadline.at.IsZero() {
		c.deadline.set(time.Now().Add(limits.IdleTimeout))
	}
}

// answer says that a unary call's response has size bytes and is about to be
// written, for which its sender has as long as that of a stream.
func (c *call) answer(size int) error {
	c.charge.settle(int64(size))
	if err := c.control.SetWriteDeadline(time.Now().Add(limits.IdleTimeout)); err != nil {
		return internal("set write deadline: %w", err)
	}
	return nil
}

// send writes a message of a stream in wire format, as the RPC library would. It
// must have written the first one: it then remembers that there is a body.
func (c *call) send(wire []byte) error {
	binary.BigEndian.PutUint32(c.sendPrefix[1:], uint32(len(wire)))
	_, err := c.out.Write(c.sendPrefix[:])
	if err == nil {
		_, err = c.out.Write(wire)
	}
	if err == nil {
		err = c.control.Flush()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("write a response: %w", err))
	}
	// Else a peer went away.
	return connect.NewError(connect.CodeCanceled, fmt.Errorf("write a response: %w", err))
}

// stop makes the call end before its next message.
func (c *call) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if c.between {
		// Wakes a Read that waits for the next message.
		c.wake()
	}
}

// makeRoom ends the call in the middle of a message.
func (c *call) makeRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.crowding = true
	c.wake()
}

// wake makes a Read fail that waits. The caller holds mu.
func (c *call) wake() { _ = c.control.SetReadDeadline(time.Unix(1, 0)) }

// arrive waits until there is memory to receive a message of size bytes.
func (c *call) arrive(size int64) error {
	share := &c.charge.b.shares[c.class]
	if share.receive.TryAcquire(share.receiveCost(size)) {
		share.receive.Release(share.receiveCost(size))
	} else {
		defer share.receivers.crowded()()
	}
	if err := c.charge.arrive(c.ctx, c.class, size); err != nil {
		return endedWaiting(err)
	}
	share.receivers.add(c, size)
	c.due = dueTime(size)
	return nil
}

// end gives back what the call holds.
func (c *call) end() {
	c.charge.b.shares[c.class].receivers.remove(c)
	c.charge.release()
	c.known()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline.stop() // control is not to be used any more
	if c.http1 {
		// The server reads to the end what the call has not.
		_ = c.control.SetReadDeadline(time.Now().Add(limits.StallTimeout))
	}
}

func (c *call) Close() error { return c.body.Close() }

// await returns when the next message of a stream has begun, or never will. The
// RPC library takes a buffer from its pool before it begins to read, and that
// buffer may be as large as the largest message: a stream that is idle, or whose
// message waits for memory, must not have one.
func (c *call) await() {
	for len(c.ahead) < len(c.prefix) && c.err == nil {
		n, err := c.read(c.prefix[len(c.ahead):])
		c.ahead = c.prefix[:len(c.ahead)+n]
		if errors.Is(err, io.EOF) {
			return // Read finds the end again
		}
		c.err = err
	}
}

// receive returns the next message of a stream, in memory from lent, if it is in
// wire format and not compressed: its size is known, so that it need not be copied
// from a buffer that grows. It returns nil if the RPC library is to read what comes
// next. await comes first.
func (c *call) receive(lent *buffers) ([]byte, error) {
	if c.err != nil || len(c.ahead) < len(c.prefix) || c.ahead[0] != 0 || !c.wireFormat || c.left == 0 {
		return nil, nil
	}
	c.ahead = nil
	size := c.left
	wire := lent.take(int(size))[:size]
	for at := 0; at < len(wire); {
		n, err := c.readMessage(wire[at:])
		at += n
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			c.err = err
		case err != nil && c.left > 0:
			c.err = invalid("the message was promised to have %d bytes and ended after %d", size, at)
		}
		if c.err != nil {
			return nil, c.err
		}
	}
	return wire, nil
}

// Read returns errors with an RPC code, which the RPC library passes on.
func (c *call) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	n, err := c.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

func (c *call) read(p []byte) (int, error) {
	if !c.enveloped {
		return c.readWhole(p)
	}
	if c.left > 0 {
		return c.readMessage(p)
	}
	timeout := limits.StallTimeout
	if c.prefixLen == 0 && !c.introduction && !c.busy() {
		timeout = limits.IdleTimeout
	}
	if err := c.wait(timeout, c.prefixLen == 0); err != nil {
		return 0, err
	}
	n, err := c.from.Read(p[:min(len(p), len(c.prefix)-c.prefixLen)])
	c.prefixLen += copy(c.prefix[c.prefixLen:], p[:n])
	if err != nil && !errors.Is(err, io.EOF) {
		return n, c.failed(err, timeout)
	}
	if c.prefixLen == len(c.prefix) {
		c.prefixLen = 0
		if begun := c.begin(c.prefix[0]&1 != 0, int64(binary.BigEndian.Uint32(c.prefix[1:]))); begun != nil {
			// The RPC library has not seen the whole prefix yet: it gets
			// the error in its place.
			return 0, begun
		}
	}
	return n, err
}

// begin is called when the size of a message is known and before any of it is
// read.
func (c *call) begin(compressed bool, size int64) error {
	c.compressed = compressed
	c.left = size
	switch {
	case c.busy():
		return connect.NewError(connect.CodeUnimplemented, errors.New("a unary call has one message; this one has another"))
	case c.introduction && size > limits.FirstMessageBytes:
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(
			"the first message of a stream must be its metadata, of at most %d bytes; this one has %d", limits.FirstMessageBytes, size))
	case size > c.max:
		return tooLarge(size, c.max)
	case size == 0:
		return nil
	case c.introduction:
		c.due = dueTime(size)
		return nil
	}
	return c.arrive(size)
}

// dueTime is when a message must have arrived. Senders that trickle must not
// hold memory for long that others wait for.
func dueTime(size int64) time.Time {
	return time.Now().Add(limits.StallTimeout + time.Duration(size)*time.Second/limits.SlowestBytesPerSecond)
}

// readMessage reads on in a message whose size is known.
func (c *call) readMessage(p []byte) (int, error) {
	if err := c.wait(limits.StallTimeout, false); err != nil {
		return 0, err
	}
	n, err := c.from.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.arrived.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		return n, c.failed(err, limits.StallTimeout)
	}
	if c.left == 0 {
		if err := c.complete(int64(binary.BigEndian.Uint32(c.prefix[1:]))); err != nil {
			return n, err
		}
	}
	return n, err
}

// complete is called when all of a message has arrived.
func (c *call) complete(size int64) error {
	c.charge.b.shares[c.class].receivers.remove(c)
	// A deadline would go on running while the message is dealt with. Whoever
	// was to make room and has arrived after all is forgiven.
	c.mu.Lock()
	c.crowding = false
	c.due = time.Time{}
	c.deadline.set(c.due)
	c.mu.Unlock()
	if c.compressed {
		size = c.max // what it may become
	} else if c.introduction {
		return nil
	}
	if err := c.charge.complete(c.ctx, c.class, size); err != nil {
		return endedWaiting(err)
	}
	return nil
}

// readWhole reads a body that is one message. Its end is all that tells how
// long it is, so it is charged for the largest unless the sender said.
func (c *call) readWhole(p []byte) (int, error) {
	if c.between {
		if c.size > c.max {
			return 0, tooLarge(c.size, c.max)
		}
		if c.size < 0 {
			c.size = c.max
		}
		if err := c.arrive(c.size); err != nil {
			return 0, err
		}
	}
	if c.received > c.max {
		return 0, tooLarge(c.received, c.max)
	}
	if err := c.wait(limits.StallTimeout, false); err != nil {
		return 0, err
	}
	n, err := c.from.Read(p)
	c.received += int64(n)
	c.arrived.Add(int64(n))
	if errors.Is(err, io.EOF) && !c.busy() {
		if err := c.complete(c.size); err != nil {
			return n, err
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, c.failed(err, limits.StallTimeout)
	}
	return n, err
}

var errStopping = connect.NewError(connect.CodeUnavailable, errors.New("the gateway is stopping; connect again and send what was not acknowledged"))

var errCrowding = connect.NewError(connect.CodeResourceExhausted, errors.New("this message arrived too slowly while others waited for memory; send fewer events in a message"))

// wait sets how long the next read may take, unless the call is to end here.
func (c *call) wait(timeout time.Duration, between bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case between && c.stopping:
		return errStopping
	case !between && c.crowding:
		return errCrowding
	}
	var deadline time.Time
	if !between || c.underWay == 0 { // otherwise handled sets it
		deadline = time.Now().Add(timeout)
	}
	if !between && !c.due.IsZero() && c.due.Before(deadline) {
		deadline = c.due
	}
	if c.introduction && c.introduceBy.Before(deadline) {
		deadline = c.introduceBy
	}
	c.deadline.set(deadline)
	c.between = between
	return nil
}

// failed explains an error of the network.
func (c *call) failed(err error, timeout time.Duration) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.crowding:
		return errCrowding
	case c.stopping:
		return errStopping
	case c.introduction:
		return connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("no metadata arrived in %v; connect again", limits.StallTimeout))
	}
	return connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("nothing arrived for %v; connect again", timeout))
}

func tooLarge(size, limit int64) error {
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("a message of %d bytes is too large: this gateway takes up to %d; send fewer events in a message", size, limit))
}

func endedWaiting(err error) error {
	return connect.NewError(connect.CodeCanceled, fmt.Errorf("wait for memory: %w", err))
}
