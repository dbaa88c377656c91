// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/netutil"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// ServeOptions of Serve.
type ServeOptions struct {
	// TLS is nil for cleartext.
	TLS *tls.Config
	// Connections is how many may be open at once, zero for
	// limits.Connections. Further ones wait.
	Connections int
	// ConnectionsPerNetwork is how many of them may come from one address, zero
	// for limits.ConnectionsPerNetwork. Further ones are closed. It does not
	// hold for TrustedProxies.
	ConnectionsPerNetwork int
	TrustedProxies        []netip.Prefix
	// StopTimeout is how long calls may take to finish once ctx has ended,
	// zero for limits.StopTimeout.
	StopTimeout time.Duration
	// Stop is called when ctx has ended, before calls are waited for.
	Stop func()
	Log  *slog.Logger
}

// Serve serves h on l until ctx ends: HTTP/1.1 and HTTP/2 on one port, in
// cleartext or with TLS. Then it takes no more connections, lets calls finish
// within the bound, and returns nil, or an error that says how many it had to
// cut off. It closes l.
func Serve(ctx context.Context, l net.Listener, h http.Handler, o ServeOptions) error {
	if o.Connections == 0 {
		o.Connections = limits.Connections
	}
	if o.ConnectionsPerNetwork == 0 {
		o.ConnectionsPerNetwork = min(limits.ConnectionsPerNetwork, o.Connections)
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = limits.StopTimeout
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(o.TLS != nil)
	protocols.SetUnencryptedHTTP2(o.TLS == nil)
	server := &http.Server{
		Handler:   bounded(h),
		Protocols: protocols,
		TLSConfig: o.TLS,
		// There is no ReadTimeout or WriteTimeout: they would cut long
		// streams. Each call has deadlines of its own.
		ReadHeaderTimeout: limits.StallTimeout,
		IdleTimeout:       limits.IdleTimeout,
		MaxHeaderBytes:    limits.HeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: limits.StreamsPerConnection,
			// What the network may deliver before a call has asked for it.
			MaxReceiveBufferPerConnection: limits.ConnectionBufferBytes,
			MaxReceiveBufferPerStream:     limits.StreamBufferBytes,
			SendPingTimeout:               limits.PingInterval,
			PingTimeout:                   limits.StallTimeout,
		},
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	if err := sendWindowsFirst(server); err != nil {
		return fmt.Errorf("set up HTTP/2: %w", err)
	}
	l = &sharingListener{Listener: l, open: perNetwork{max: o.ConnectionsPerNetwork, exempt: o.TrustedProxies}}
	l = netutil.LimitListener(l, o.Connections)
	l = gatheringListener{l}
	served := make(chan error, 1)
	go func() {
		if o.TLS != nil {
			served <- server.ServeTLS(l, "", "")
		} else {
			served <- server.Serve(l)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	if o.Stop != nil {
		o.Stop()
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.StopTimeout)
	defer cancel()
	err := server.Shutdown(bound)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("calls were still open after %v and have been cut off; their senders keep what was not acknowledged", o.StopTimeout)
	}
	return errors.Join(err, server.Close())
}

// bounded gives peers a bound for what they can still do when h is done or asks
// for nothing: sending a body that nobody wants, which HTTP/1.1 reads to the
// end, and taking the response. Calls set bounds of their own meanwhile.
func bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.ProtoMajor == 1 {
			_ = control.SetReadDeadline(time.Now().Add(limits.StallTimeout))
			// The connection still has that of the request before.
			_ = control.SetWriteDeadline(time.Time{})
		}
		h.ServeHTTP(w, r)
		_ = control.SetWriteDeadline(time.Now().Add(limits.IdleTimeout))
	})
}
