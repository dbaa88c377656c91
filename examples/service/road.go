// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver is the application's choice

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/buffer"
	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/exporter"
	"github.com/telemetrygateway/telemetry/queue"
)

// road is how events get from the recorder to the gateway. There are two, and
// nothing else in this program knows which one it has: take the one that fits.
type road struct {
	store  telemetry.Store
	run    func(context.Context) error // sends until the context ends
	finish func(context.Context) error // sends what is left, and says what it could not
}

func newRoad(ctx context.Context, c config, id client.Identity, log *slog.Logger) (*road, error) {
	if c.db == "" {
		return inMemory(c.gateway, id, log)
	}
	return onDisk(ctx, c.db, c.gateway, id, log)
}

// inMemory keeps events in memory until the gateway has them. A crash loses
// what is there, usually the events of the last second.
func inMemory(gateway string, id client.Identity, log *slog.Logger) (*road, error) {
	c, err := client.New(gateway, id, client.Options{Protocol: client.Auto})
	if err != nil {
		return nil, err
	}
	b := buffer.New(c, buffer.Options{Logger: log})
	return &road{store: b, run: b.Run, finish: func(ctx context.Context) error {
		defer c.Close()
		err := b.Close(ctx)
		if unsent := (*buffer.UnsentError)(nil); errors.As(err, &unsent) {
			// They are still in hand here, for a program that has a place for them.
			log.Error("events are lost, because they could not be sent", "events", len(unsent.Events), "of", names(unsent))
		}
		return err
	}}, nil
}

// onDisk keeps events in a file until the gateway has them, so that nothing
// that was recorded is ever lost: what could not be sent is sent after the next
// start.
func onDisk(ctx context.Context, file, gateway string, id client.Identity, log *slog.Logger) (*road, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	// The queue is made for products that run at customers. This service is the
	// vendor's own, so nothing has to be redacted before it leaves.
	q, err := queue.Open(ctx, db, queue.Options{Policy: queue.Policy{Vendor: true}})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	e, err := exporter.New(q, gateway, exporter.Options{
		Service: id, Interval: 2 * time.Second, Grace: 2 * time.Second, Logger: log,
		Client: client.Options{Protocol: client.Auto},
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &road{store: q, run: e.Run, finish: func(ctx context.Context) error {
		_, exportErr := e.Export(ctx)
		stats, err := q.Stats(context.WithoutCancel(ctx))
		if stats.Pending > 0 {
			log.Warn("events are kept, and sent after the next start", "events", stats.Pending, "in", file, "because", exportErr)
		}
		return errors.Join(err, db.Close())
	}}, nil
}

// names says what unsent events are about, without what is in them.
func names(unsent *buffer.UnsentError) string {
	count := map[string]int{}
	for _, e := range unsent.Events {
		count[e.GetFeature()+"/"+e.GetAction()]++
	}
	var text []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		text = append(text, fmt.Sprintf("%s %d", name, count[name]))
	}
	return strings.Join(text, ", ")
}
