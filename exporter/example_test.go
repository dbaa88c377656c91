// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter_test

import (
	"context"
	"database/sql"
	"log"
	"os"
	"os/signal"

	_ "modernc.org/sqlite" // the driver is the application's choice

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/exporter"
	"github.com/telemetrygateway/telemetry/queue"
)

// A service that must not lose an event: what is recorded is on disk when
// Record returns, and is sent from there.
func Example_service() {
	tokens, err := client.ClientCredentials{
		TokenURL: "https://accounts.example.com/oauth/token", ClientID: "pings", ClientSecret: os.Getenv("CLIENT_SECRET"),
	}.TokenSource()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	db, err := sql.Open("sqlite", "file:/var/lib/pings/telemetry.db?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	// The zero policy redacts, for the instances of customers. A service is the
	// vendor's own.
	q, err := queue.Open(ctx, db, queue.Options{Policy: queue.Policy{Vendor: true}})
	if err != nil {
		log.Fatal(err)
	}
	e, err := exporter.New(q, "https://telemetry.example.com", exporter.Options{Service: client.Service("pings", "prod", tokens)})
	if err != nil {
		log.Fatal(err)
	}
	go serve(ctx, telemetry.New(telemetry.Options{ServerVersion: "1.2.3"}, q))
	if err := e.Run(ctx); err != nil { // what is left stays in the queue
		log.Fatal(err)
	}
}

// serve is the service: it records until ctx ends.
func serve(ctx context.Context, recorder *telemetry.Recorder) {
	recorder.TryRecord(ctx, "pings", "received", telemetry.Params{})
	<-ctx.Done()
}
