// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package buffer_test

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/buffer"
	"github.com/telemetrygateway/telemetry/client"
)

// A service that records in memory, and may lose the events of a moment when it
// crashes.
func Example() {
	tokens, err := client.ClientCredentials{
		TokenURL: "https://accounts.example.com/oauth/token", ClientID: "pings", ClientSecret: os.Getenv("CLIENT_SECRET"),
	}.TokenSource()
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New("https://telemetry.example.com", client.Service("pings", "prod", tokens), client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	b := buffer.New(c, buffer.Options{})
	go b.Run(context.Background()) // until Close

	recorder := telemetry.New(telemetry.Options{ServerVersion: "1.2.3"}, b)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	serve(ctx, recorder)

	// Nothing records any more. What is left is sent now, or is named.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var unsent *buffer.UnsentError
	if err := b.Close(ctx); errors.As(err, &unsent) {
		log.Printf("%d events are lost: %v", len(unsent.Events), unsent.Cause)
	}
}

// serve is the service: it records until ctx ends.
func serve(ctx context.Context, recorder *telemetry.Recorder) {
	recorder.TryRecord(ctx, "pings", "received", telemetry.Params{})
	<-ctx.Done()
}
