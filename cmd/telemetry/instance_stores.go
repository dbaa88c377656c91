// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/eventlog"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/queue"
)

// openPatience is how long a database that is only just starting is waited for.
const openPatience = 30 * time.Second

// instanceStores are where an instance keeps its events.
type instanceStores struct {
	queue     *queue.Queue
	log       *eventlog.Log // nil if there is none
	databases []*sql.DB
}

// openStores opens the queue and the log.
func (c *instanceConfig) openStores(ctx context.Context, policy queue.Policy, log *slog.Logger) (_ *instanceStores, err error) {
	s := new(instanceStores)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	db, err := s.open("-db", c.db)
	if err != nil {
		return nil, err
	}
	s.queue, err = patiently(ctx, "-db", log, db.PingContext, func(ctx context.Context) (*queue.Queue, error) {
		return queue.Open(ctx, db, queue.Options{Policy: policy, MaxAge: c.maxAge, MaxBytes: c.maxBytes, Retention: c.retention})
	})
	if err != nil || c.eventLog == "off" {
		return s, err
	}
	if c.eventLog != c.db {
		if db, err = s.open("-event-log", c.eventLog); err != nil {
			return nil, err
		}
	}
	s.log, err = patiently(ctx, "-event-log", log, db.PingContext, func(ctx context.Context) (*eventlog.Log, error) {
		return eventlog.Open(ctx, db, eventlog.Options{Retention: c.logRetention})
	})
	return s, err
}

func (s *instanceStores) open(flag, url string) (*sql.DB, error) {
	db, err := openDatabase(url)
	if err != nil {
		return nil, command.BadConfig("%s: %w", flag, err)
	}
	s.databases = append(s.databases, db)
	return db, nil
}

// patiently waits for a database that is only just starting, and says so once.
// Whatever else is wrong with it, a person has to mend. Once it is reached it
// may take as long as it needs: giving up while tables are made on a slow disk,
// or changed for a new version, would only begin the same work again.
func patiently[T any](ctx context.Context, flag string, log *slog.Logger, reach func(context.Context) error, open func(context.Context) (T, error)) (opened T, err error) {
	bound, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	waiting := false
	err = database.Retry(bound, func() (err error) {
		if err = reach(bound); err == nil {
			slow := time.AfterFunc(openPatience, func() {
				log.Warn("the database is there but takes long to open, and is waited for", "flag", flag, "since", openPatience)
			})
			opened, err = open(ctx)
			slow.Stop()
		}
		if !waiting && database.Temporary(err) {
			waiting = true
			log.Warn("the database is not there yet, and is waited for", "flag", flag, "within", openPatience, "error", err)
		}
		return err
	})
	switch {
	case err != nil && (bound.Err() != nil || database.Temporary(err)):
		return opened, wrap(flag, err)
	case err != nil:
		return opened, command.BadConfig("%s: %w", flag, err)
	}
	return opened, nil
}

func (s *instanceStores) close() error {
	var errs []error
	for _, db := range s.databases {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

// recordTo returns the stores of the recorder, the queue last. An administrator
// who says off wants nothing kept at all; what a licence says is about export
// alone. The log is open nevertheless, for what is in it to be deleted in time.
func (s *instanceStores) recordTo(off bool, m *observe.InstanceMetrics) []telemetry.Store {
	q := countedStore{s.queue, m}
	if s.log == nil || off {
		return []telemetry.Store{q}
	}
	return []telemetry.Store{s.log, q}
}

// countedStore counts what is written to the queue.
type countedStore struct {
	telemetry.Store
	metrics *observe.InstanceMetrics
}

func (s countedStore) Add(ctx context.Context, events ...*telemetrygatewayv1.Event) error {
	err := s.Store.Add(ctx, events...)
	s.metrics.QueuedEvents.Add(float64(len(events)), strconv.FormatBool(err != nil))
	return err
}

// stats is what metrics and readiness ask of the queue.
func (s *instanceStores) stats(ctx context.Context) (observe.QueueStats, error) {
	q, err := s.queue.Stats(ctx)
	return observe.QueueStats(q), wrap("queue", err)
}

// readiness returns what /readyz asks. What a database says goes to the log, once
// each time that it changes: it may name hosts and users, and pages of the
// internet can ask.
func (s *instanceStores) readiness(log *slog.Logger) func(context.Context) error {
	said := ""
	return func(ctx context.Context) error {
		what := "queue"
		_, err := s.stats(ctx)
		if err == nil && s.log != nil {
			what = "event log"
			_, err = s.log.Stats(ctx)
		}
		if err == nil {
			said = ""
			return nil
		}
		if text := err.Error(); text != said {
			said = text
			log.Error("not ready", "error", err)
		}
		return fmt.Errorf("the %s's database does not do what it is asked: see the log", what)
	}
}

// tidy deletes what is too old, until ctx ends. The exporter does that for the
// queue, where there is one.
func (s *instanceStores) tidy(ctx context.Context, every time.Duration, exporting bool, r *reporter, log *slog.Logger) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		var errs error
		if s.log != nil {
			n, err := s.log.Prune(ctx)
			r.metrics.EventLogPruned.Add(float64(n))
			errs = wrap("event log", err)
		}
		if !exporting {
			began := time.Now()
			_, err := s.queue.ApplyPolicy(ctx)
			pruned, pruneErr := s.queue.Prune(ctx)
			if pruned.Expired > 0 {
				log.Warn("events expired before they were exported", "events", pruned.Expired)
			}
			err = errors.Join(err, pruneErr)
			r.pruned(pruned, time.Since(began), err)
			errs = errors.Join(errs, err)
		}
		if errs != nil && ctx.Err() == nil {
			log.Error("what is too old cannot be deleted; it is tried again", "error", errs)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
