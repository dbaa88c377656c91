// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/eventlog"
	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
)

// recorders are how many goroutines record at once.
var recorders = []int{1, 16}

// full is the queue with many events in it, and empty the one without.
const (
	empty = "empty"
	full  = "full"
)

// What is recorded into.
const (
	onlyQueue   = "queue"
	logAndQueue = "log+queue"
	oneByOne    = "obvious"
)

// recordName is the name of a cell.
func recordName(database, stores string, recorders int, queued string) string {
	return fmt.Sprintf("record-%s/%s-%d-%s", database, stores, recorders, queued)
}

// recording measures what it takes to record an event, for an application that
// waits until it is on disk.
type recording struct {
	instances *instances
	queued    int // events in the full queue
	progress  func(format string, a ...any)
	opened    map[string]*recorded
}

// recorded is one database that is recorded into.
type recorded struct {
	recorders map[string]*telemetry.Recorder // by what is recorded into
	databases []*sql.DB
}

func (r *recording) cells() []cell {
	r.opened = map[string]*recorded{}
	var cells []cell
	for _, kind := range databases {
		for _, n := range recorders {
			for _, stores := range []string{onlyQueue, logAndQueue, oneByOne} {
				for _, queued := range []string{empty, full} {
					if stores == oneByOne && queued == full {
						continue // it is to show what the empty queue is worth
					}
					cells = append(cells, cell{recordName(kind, stores, n, queued), func(d time.Duration) (sample, error) {
						opened, err := r.open(kind, queued)
						if err != nil {
							return sample{}, err
						}
						return record(opened.recorders[stores], n, d)
					}})
				}
			}
		}
	}
	return cells
}

// open opens a queue and an event log, as empty or full as asked for, and keeps
// them for the rounds to come.
func (r *recording) open(kind, queued string) (*recorded, error) {
	if o, ok := r.opened[kind+queued]; ok {
		return o, nil
	}
	name, err := r.instances.make(kind)
	if err != nil {
		return nil, err
	}
	if queued == full {
		r.progress("filling a queue in %s with %s events", kind, thousands(r.queued))
		if err := fill(name, r.queued); err != nil {
			return nil, err
		}
	}
	q, db, err := openQueue(name)
	if err != nil {
		return nil, err
	}
	o := &recorded{databases: []*sql.DB{db}}
	r.opened[kind+queued] = o
	logs := db
	if kind == "sqlite" { // a file of its own, as "telemetry instance" has it
		if logs, err = openDatabase(name + ".log"); err != nil {
			return nil, err
		}
		o.databases = append(o.databases, logs)
	}
	log, err := eventlog.Open(context.Background(), logs, eventlog.Options{})
	if err != nil {
		return nil, err
	}
	d, err := database.Detect(context.Background(), db)
	if err != nil {
		return nil, err
	}
	options := telemetry.Options{ServerVersion: "bench"}
	o.recorders = map[string]*telemetry.Recorder{
		onlyQueue:   telemetry.New(options, q),
		logAndQueue: telemetry.New(options, log, q),
		oneByOne:    telemetry.New(options, inserts{db, d}),
	}
	return o, nil
}

func (r *recording) close() error {
	var errs []error
	for _, o := range r.opened {
		for _, db := range o.databases {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// record records for d from n goroutines at once.
func record(r *telemetry.Recorder, n int, d time.Duration) (sample, error) {
	ctx := telemetry.WithActor(context.Background(), telemetry.Actor{UserID: 7})
	ctx = telemetry.WithInteraction(ctx, telemetry.Interaction{ID: "bench", TraceID: "0af7651916cd43dd8448eb211c80319c"})
	ctx = telemetry.WithClient(ctx, telemetry.Client{Name: "web", Version: "1.82.4"})
	var (
		mu     sync.Mutex
		waits  []time.Duration
		failed error
		all    sync.WaitGroup
	)
	before, err := ownUsage()
	if err != nil {
		return sample{}, err
	}
	begun := time.Now()
	for range n {
		all.Go(func() {
			var own []time.Duration
			var err error
			for err == nil && time.Since(begun) < d {
				started := time.Now()
				err = r.Record(ctx, "search.results", "executed", telemetry.Params{
					Metadata:        telemetry.Metadata{"durationMs": 12.5, "resultCount": 7, "position": 1, "queryLength": 12},
					PrivateMetadata: telemetry.PrivateMetadata{"query": "needle in a haystack"},
				})
				own = append(own, time.Since(started))
			}
			mu.Lock()
			defer mu.Unlock()
			waits = append(waits, own...)
			failed = errors.Join(failed, err)
		})
	}
	all.Wait()
	took := time.Since(begun)
	after, err := ownUsage()
	return newSample(len(waits), took, after.minus(before), waits), errors.Join(failed, err)
}

// inserts is the obvious store: a statement and a transaction for each event.
// It redacts and counts nothing.
type inserts struct {
	db      *sql.DB
	dialect database.Dialect
}

func (s inserts) Add(ctx context.Context, events ...*pb.Event) error {
	return database.Retry(ctx, func() error {
		for _, e := range events {
			payload, err := proto.Marshal(e)
			if err != nil {
				return err
			}
			_, err = s.db.ExecContext(ctx, s.dialect.Bind("INSERT INTO telemetry_events_export_queue (id, timestamp, payload_pb) VALUES (?, ?, ?)"),
				e.GetId(), s.dialect.Time(e.GetTimestamp().AsTime()), payload)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := fmt.Sprint(n)
	var groups []string
	for len(s) > 3 {
		groups = append([]string{s[len(s)-3:]}, groups...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, groups...), ",")
}
