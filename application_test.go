// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/gateway"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// application is what the examples run in: its store prints events.
func application() (context.Context, *telemetry.Recorder) {
	return context.Background(), telemetry.New(telemetry.Options{}, printer{})
}

type printer struct{}

func (printer) Add(_ context.Context, events ...*telemetrygatewayv1.Event) error {
	for _, e := range events {
		fmt.Println(e.GetFeature(), e.GetAction(), e.GetParameters().GetMetadata(), e.GetParameters().GetPrivateMetadata().AsMap())
	}
	return nil
}

// startGateway starts a gateway as the command does, and returns its URL.
func startGateway(dir string) (url string, stop func()) {
	quiet := slog.New(slog.DiscardHandler)
	identities, err := identity.New(identity.Options{Licenses: identity.LicenseOptions{Log: quiet}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	open := func(name string) topic.Topic {
		t, err := topic.Open(ctx, "sqlite://"+filepath.Join(dir, name), quiet)
		if err != nil {
			log.Fatal(err)
		}
		return t
	}
	events, dead := open("topic.db"), open("deadletter.db")
	g := gateway.New(gateway.Options{
		Topic: events, DeadLetters: dead, Identities: identities, Metrics: observe.NewMetrics("example", "example"), Log: quiet,
	})
	mux := http.NewServeMux()
	g.Handle(mux)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := gateway.Serve(ctx, l, mux, gateway.ServeOptions{Stop: g.Stop, Log: quiet}); err != nil {
			log.Print(err)
		}
	}()
	return "http://" + l.Addr().String(), func() {
		cancel()
		<-ended
		events.Close()
		dead.Close()
	}
}
