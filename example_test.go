// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/exporter"
	"github.com/telemetrygateway/telemetry/queue"
)

// From an empty directory to an event that has arrived at a gateway.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	// A queue, in a database of the application's.
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "telemetry.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	q, err := queue.Open(ctx, db, queue.Options{})
	if err != nil {
		log.Fatal(err)
	}

	// A recorder, and an event.
	recorder := telemetry.New(telemetry.Options{ServerVersion: "1.0.0"}, q)
	ctx = telemetry.WithActor(ctx, telemetry.Actor{UserID: 7})
	err = recorder.Record(ctx, "search", "executed", telemetry.Params{
		Metadata: telemetry.Metadata{"results": telemetry.Number(12), "fuzzy": telemetry.Bool(true)},
	})
	if err != nil {
		log.Fatal(err)
	}
	stats, err := q.Stats(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("queued:", stats.Pending)

	// An exporter. Most applications leave it to Run, in a goroutine. The
	// gateway here is one in this process; "telemetry gateway" starts another.
	gateway, stop := startGateway(dir)
	defer stop()
	e, err := exporter.New(q, gateway, exporter.Options{
		Identity: func() exporter.Identity { return exporter.Identity{InstanceID: "my-site"} },
	})
	if err != nil {
		log.Fatal(err)
	}
	pass, err := e.Export(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("arrived:", pass.Accepted)
	// Output:
	// queued: 1
	// arrived: 1
}

func ExampleRecorder_Record() {
	ctx, recorder := application()

	query, results := "needle", []string{"haystack.go", "haystack_test.go"}
	err := recorder.Record(ctx, "search", "executed", telemetry.Params{
		Metadata:        telemetry.Metadata{"results": telemetry.Number(len(results))},
		PrivateMetadata: telemetry.PrivateMetadata{"query": query},
		Billing:         telemetry.Billing{Product: "search", Category: "core"},
	})
	fmt.Println(err)
	// Output:
	// search executed map[results:2] map[query:needle]
	// <nil>
}

// One event that breaks a rule does not spoil the others.
func ExampleRecorder_RecordAll() {
	ctx, recorder := application()

	err := recorder.RecordAll(
		ctx,
		telemetry.Entry{Feature: "search", Action: "opened"},
		telemetry.Entry{Feature: "search", Action: "1st-result"},
		telemetry.Entry{Feature: "search", Action: "closed"},
	)
	var invalid telemetry.InvalidEvents
	if errors.As(err, &invalid) {
		for _, v := range invalid {
			fmt.Println("not recorded:", v.Index, v.Field, v.Message)
		}
	}
	// Output:
	// search opened map[] map[]
	// search closed map[] map[]
	// not recorded: 1 action is not 2 to 64 bytes: a small letter first, then letters, dots and dashes
}

// An event is queued if the transaction commits, and only then.
func ExampleRecorder_To() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "app.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	q, err := queue.Open(ctx, db, queue.Options{})
	if err != nil {
		log.Fatal(err)
	}
	recorder := telemetry.New(telemetry.Options{}, q)

	for _, succeeds := range []bool{false, true} {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			log.Fatal(err)
		}
		// … what the application changes …
		if err := recorder.To(q.Tx(tx)).Record(ctx, "users", "created", telemetry.Params{}); err != nil {
			log.Fatal(err)
		}
		if succeeds {
			err = tx.Commit()
		} else {
			err = tx.Rollback()
		}
		if err != nil {
			log.Fatal(err)
		}
		stats, err := q.Stats(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("queued:", stats.Pending)
	}
	// Output:
	// queued: 0
	// queued: 1
}
