// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package queue keeps the events that leave an instance until they have left:
// in the instance's own database, redacted before they get there.
//
// Every event that was ever recorded is in exactly one state, and
//
//	Recorded = Exported + DeadLettered + Filtered + Expired + Pending
//
// holds at every moment, because each change is counted in the transaction that
// makes it. An event that cannot leave becomes a dead letter and holds nobody
// up. Nothing here waits for the network.
package queue

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/telemetrygateway/telemetry/internal/database"
)

// Options say what a queue takes, and what it keeps for how long.
type Options struct {
	// Policy says which events leave, and which of their fields.
	Policy Policy
	// MaxAge and MaxBytes bound what is pending; 0 means no limit. Beyond them
	// Prune lets the oldest events expire. An event is as old as its timestamp
	// says, and as large as its payload.
	MaxAge   time.Duration
	MaxBytes int64
	// Retention is how long exported events can still be listed; 0 means 24
	// hours. As long as an event is there, adding it once more changes nothing.
	Retention time.Duration
	// AddTimeout bounds one call to Add; 0 means 10 seconds.
	AddTimeout time.Duration
	// Now is the clock; nil means time.Now and, for leases in PostgreSQL, the
	// server's.
	Now func() time.Time
}

// Queue is an export queue. Its methods may be called at the same time, and
// several processes may have the same queue open.
type Queue struct {
	db       *sql.DB
	dialect  database.Dialect
	uuids    bool // the table's IDs are of PostgreSQL's type uuid
	timed    bool // leases go by the server's clock
	options  Options
	instance string
	policy   atomic.Pointer[Policy]
	applied  atomic.Pointer[Policy] // what ApplyPolicy has gone through the whole queue with
	gatherer *database.Gatherer[record]
}

// Open opens the queue in db, which it makes or brings up to date if needed.
// It also takes over a table that the original service made, events included;
// the original can go on using it, but what it adds then is not in the sums.
//
// The queue does not close db.
func Open(ctx context.Context, db *sql.DB, o Options) (*Queue, error) {
	if o.Retention == 0 {
		o.Retention = 24 * time.Hour
	}
	if o.AddTimeout == 0 {
		o.AddTimeout = 10 * time.Second
	}
	ownClock := o.Now == nil
	if ownClock {
		o.Now = time.Now
	}
	q := &Queue{db: db, options: o}
	var err error
	if q.dialect, err = database.Detect(ctx, db); err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	q.timed = ownClock && q.dialect == database.Postgres
	if err := database.Migrate(ctx, db, q.dialect, "queue", steps(q.dialect)); err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	if q.uuids, err = hasUUIDs(ctx, db, q.dialect); err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	if q.instance, err = q.identify(ctx); err != nil {
		return nil, fmt.Errorf("open queue: instance ID: %w", err)
	}
	q.SetPolicy(o.Policy)
	q.gatherer = database.NewGatherer(gatherEvents, gatherBytes, q.commit)
	return q, nil
}

// InstanceID returns a UUID that was made together with the queue. It
// identifies an instance that has no ID of its own.
func (q *Queue) InstanceID() string { return q.instance }

// Policy returns the policy in force.
func (q *Queue) Policy() Policy { return *q.policy.Load() }

// SetPolicy changes the policy, at any time. It also holds for what is queued
// already: an event that may no longer leave is never claimed, and ApplyPolicy
// takes it out. What p refers to must not be changed afterwards.
func (q *Queue) SetPolicy(p Policy) { q.policy.Store(&p) }

func (q *Queue) now() time.Time { return q.options.Now() }

// identify returns the instance's ID and makes it the first time.
func (q *Queue) identify(ctx context.Context) (id string, err error) {
	err = q.write(ctx, func(c conn) error {
		if _, err := c.exec("INSERT INTO telemetry_instance (one, id) VALUES (1, ?) ON CONFLICT DO NOTHING", uuid.NewString()); err != nil {
			return err
		}
		return c.scan("SELECT id FROM telemetry_instance", nil, &id)
	})
	return id, err
}
