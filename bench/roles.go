// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"

	"cloud.google.com/go/pubsub/v2"
	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/gateway"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/topic/pubsubfake"
)

// served is what a child serves.
type served struct {
	address string
	count   func(*usage) error // sets what only it knows; may be nil
	stop    func() error
}

func roles() map[string]func(childConfig) (*served, error) {
	return map[string]func(childConfig) (*served, error){
		"gateway": onLoopback(gatewayRole),
		"obvious": onLoopback(obviousRole),
		"floor":   onLoopback(floorRole),
		"pubsub":  onLoopback(pubsubRole),
		"shipped": shippedRole,
		"bare":    bareRole,
		"flood":   floodRole,

		"export":         exports(exportRole),
		"export-obvious": exports(obviousExportRole),

		"land":         exports(landRole),
		"land-obvious": exports(obviousLandRole),
		"land-delay":   delayRole,
	}
}

// onLoopback gives a role a listener.
func onLoopback(serve func(net.Listener, childConfig) (stop func() error, err error)) func(childConfig) (*served, error) {
	return func(c childConfig) (*served, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		stop, err := serve(l, c)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		return &served{address: l.Addr().String(), stop: stop}, nil
	}
}

// gatewayRole is the gateway as the command telemetry gateway wires it with
// its defaults, save for the topic and the keys of licences.
func gatewayRole(l net.Listener, c childConfig) (func() error, error) {
	ctx := context.Background()
	log, err := observe.NewLogger(os.Stderr, "text", "info")
	if err != nil {
		return nil, err
	}
	identities, err := identity.New(identity.Options{Licenses: identity.LicenseOptions{KeysFile: c.KeysFile, Log: log}})
	if err != nil {
		return nil, err
	}
	tracer, flush, err := observe.Tracing(ctx, observe.TracingOptions{Version: "bench", Log: log})
	if err != nil {
		return nil, err
	}
	tracing, err := otelconnect.NewInterceptor(otelconnect.WithTracerProvider(tracer), otelconnect.WithoutMetrics())
	if err != nil {
		return nil, err
	}
	t, err := topic.Open(ctx, c.Topic, log)
	if err != nil {
		return nil, err
	}
	dead, err := topic.Open(ctx, "sqlite://deadletter.db", log)
	if err != nil {
		return nil, err
	}
	g := gateway.New(gateway.Options{
		Topic: t, DeadLetters: dead, Identities: identities, Metrics: observe.NewMetrics("bench", "bench"),
		Interceptors: []connect.Interceptor{tracing}, Log: log,
	})
	health := observe.NewHealth(observe.HealthOptions{Ready: t.Ping, Version: "bench"})
	debug.SetMemoryLimit(limits.InFlightBytes + limits.PendingResponseBytes + limits.OtherBytes)
	go command.Garbage(ctx)
	mux := http.NewServeMux()
	g.Handle(mux)
	health.Handle(mux)
	stop := serveHTTP(l, mux, log, func() { health.Stop(); g.Stop() })
	return func() error {
		return errors.Join(stop(), t.Close(), dead.Close(), flush(ctx))
	}, nil
}

// floorRole is served exactly as the gateway is.
func floorRole(l net.Listener, c childConfig) (func() error, error) {
	log := slog.New(slog.DiscardHandler)
	t, err := topic.Open(context.Background(), c.Topic, log)
	if err != nil {
		return nil, err
	}
	f := &floor{t}
	debug.SetMemoryLimit(limits.InFlightBytes + limits.PendingResponseBytes + limits.OtherBytes)
	stop := serveHTTP(l, f.handler(), log, nil)
	return func() error { return errors.Join(stop(), t.Close()) }, nil
}

// serveHTTP serves until the function it returns is called.
func serveHTTP(l net.Listener, h http.Handler, log *slog.Logger, stopping func()) func() error {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gateway.Serve(ctx, l, h, gateway.ServeOptions{Stop: stopping, Log: log}) }()
	return func() error {
		cancel()
		return <-ended
	}
}

func obviousRole(l net.Listener, c childConfig) (func() error, error) {
	if c.Topic == "discard:" {
		stop := serveObvious(l, nil)
		return func() error { stop(); return nil }, nil
	}
	client, err := pubsub.NewClient(context.Background(), pubsubProject)
	if err != nil {
		return nil, fmt.Errorf("open Pub/Sub: %w", err)
	}
	publisher := client.Publisher(pubsubTopic)
	stop := serveObvious(l, publisher)
	return func() error {
		stop()
		publisher.Stop()
		return client.Close()
	}, nil
}

const (
	pubsubProject = "bench"
	pubsubTopic   = "events"
	pubsubURL     = "gcppubsub://projects/" + pubsubProject + "/topics/" + pubsubTopic
)

func pubsubRole(l net.Listener, _ childConfig) (func() error, error) {
	stop := pubsubfake.Serve(l, new(pubsubfake.Server))
	return func() error { stop(); return nil }, nil
}
