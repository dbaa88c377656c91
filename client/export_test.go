// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net"
	"net/http"
)

// Dial makes the client's connections from now on.
func (c *Client) Dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	for _, h := range c.http {
		h.Transport.(*http.Transport).DialContext = dial
	}
}

// DialTokens makes a token source's connections from now on.
func DialTokens(s TokenSource, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	s.(*credentialTokens).http.Transport.(*http.Transport).DialContext = dial
}
