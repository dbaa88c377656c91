// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/queue"
)

// What administrator and licence say is the queue's policy. It holds for what is
// recorded from then on, and for what is queued already.
func ExampleQueue_SetPolicy() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "queue.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	q, err := queue.Open(ctx, db, queue.Options{})
	if err != nil {
		log.Fatal(err)
	}
	recorder := telemetry.New(telemetry.Options{}, q)

	// The administrator allows one private key of one event to leave.
	allowed, err := queue.ParseAllowList([]byte(`
allow:
  - {feature: search, action: executed, keys: [language], reason: which languages people search}
`))
	if err != nil {
		log.Fatal(err)
	}
	licensed, why := queue.LicenseMode("", queue.LicenseOptions{})
	fmt.Println(licensed, "because", why)
	q.SetPolicy(queue.Policy{Mode: queue.Strictest(licensed, queue.All), Allow: allowed})
	err = recorder.Record(ctx, "search", "executed", telemetry.Params{
		PrivateMetadata: telemetry.PrivateMetadata{"language": "go", "query": "needle"},
	})
	if err != nil {
		log.Fatal(err)
	}
	page, err := q.List(ctx, queue.Pending, 10, "")
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range page.Items {
		fmt.Println("queued:", item.Event.GetFeature(), item.Event.GetParameters().GetPrivateMetadata().AsMap())
	}

	// They change their mind: nothing leaves any more. An exporter applies a
	// policy by itself, where there is one.
	q.SetPolicy(queue.Policy{Mode: queue.Off})
	filtered, err := q.ApplyPolicy(ctx)
	fmt.Println("taken out:", filtered, err)
	// Output:
	// all because there is no licence key
	// queued: search map[language:go]
	// taken out: 1 <nil>
}
