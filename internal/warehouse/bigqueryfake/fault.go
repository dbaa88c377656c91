// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package bigqueryfake

import (
	"net"
	"sync"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Fault is what goes wrong with one request to append rows.
type Fault struct {
	lost   bool           // the rows do not land
	silent bool           // there is no answer
	reset  bool           // all connections are reset in place of an answer
	answer *status.Status // nothing lands, and this is the answer
	ends   bool           // the answer ends the call, instead of coming in a response
}

// The ways to go wrong.
var (
	// None lets a request pass.
	None = Fault{}
	// Swallow lands the rows and never answers.
	Swallow = Fault{silent: true}
	// ResetAfter lands the rows and resets the connection instead of answering.
	ResetAfter = Fault{reset: true}
	// ResetBefore resets the connection and lands nothing.
	ResetBefore = Fault{lost: true, reset: true}
	// Quota says that the throughput is exhausted.
	Quota = Fault{answer: status.New(codes.ResourceExhausted, "Exceeds 'AppendRows throughput' quota, user_id: project0000 (status: INSUFFICIENT_TOKENS), you can issue a raise quota request through Google Cloud Console."), ends: true}
	// Closing ends a connection that has been open for long, as the service does.
	Closing = Fault{answer: status.New(codes.Aborted, "Closing the stream because server is closed/restarted. Please reconnect."), ends: true}
	// Finalized says that the stream takes no more rows.
	Finalized = Fault{answer: storageError(codes.InvalidArgument, storagepb.StorageError_STREAM_FINALIZED, "Stream has been finalized and cannot be appended")}
)

// Answer is a fault of any code. Nothing lands.
func Answer(code codes.Code, message string) Fault {
	return Fault{answer: status.New(code, message), ends: true}
}

// Fail makes the next requests to append rows go wrong, one fault each.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// CutAfter resets the connections of the Storage Write API when as many more
// bytes have arrived on them, in the middle of whatever comes then.
func (s *Server) CutAfter(bytes int) { s.conns.cutAfter(bytes) }

func storageError(code codes.Code, detail storagepb.StorageError_StorageErrorCode, message string) *status.Status {
	st, err := status.New(code, message).WithDetails(&storagepb.StorageError{Code: detail, ErrorMessage: message})
	if err != nil {
		panic(err) // only when code is OK
	}
	return st
}

// cutter is a listener that can reset what it has accepted.
type cutter struct {
	net.Listener
	mu     sync.Mutex
	open   map[net.Conn]bool
	budget int // bytes until everything is reset; 0 for no end
}

func (c *cutter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = true
	return &cutConn{conn, c}, nil
}

func (c *cutter) cutAfter(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget = bytes
}

// reset breaks all connections, so that peers see a reset and not an end.
func (c *cutter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	clear(c.open)
}

// took counts bytes that have arrived and reports whether it is time to cut.
func (c *cutter) took(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget == 0 {
		return false
	}
	if c.budget -= n; c.budget > 0 {
		return false
	}
	c.budget = 0
	return true
}

type cutConn struct {
	net.Conn
	c *cutter
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.c.took(n) {
		c.c.reset()
		return 0, net.ErrClosed
	}
	return n, err
}
