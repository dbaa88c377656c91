// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"net"
	"runtime"
)

// connAheadBytes is what each connection has for bytes that it has read and
// nobody has asked for: a dozen small frames.
const connAheadBytes = 4 << 10

// gatheringListener has connections that take fewer system calls than an HTTP/2
// server asks for. Where messages are small, and many streams share a connection,
// those are most of what a message costs.
type gatheringListener struct{ net.Listener }

func (l gatheringListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gatheringConn{conn, bufio.NewReaderSize(conn, connAheadBytes)}, nil
}

type gatheringConn struct {
	net.Conn
	ahead *bufio.Reader
}

// Read returns what is there. The server reads each frame's header by itself.
func (c *gatheringConn) Read(p []byte) (int, error) { return c.ahead.Read(p) }

// Write lets everything else that can run do so first. While the server is here
// it gathers frames, which then are written at once.
func (c *gatheringConn) Write(p []byte) (int, error) {
	runtime.Gosched()
	return c.Conn.Write(p)
}
