// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// Store keeps events. A queue and an event log are stores; so is anything else
// that can say when it has events for good.
type Store interface {
	// Add returns nil when every one of the events is durable in the store, and
	// an error when it is not known to be. Events are told apart by ID, so
	// adding the same ones again does no harm. Add must not change the events,
	// because other stores get the same ones. It may be called by several
	// goroutines at once.
	Add(ctx context.Context, events ...*telemetrygatewayv1.Event) error
}

// Options change how a Recorder makes events. The zero value works. The hooks
// may be called by several goroutines at once, and a call that records several
// events calls each of them once.
type Options struct {
	// ServerVersion is the version of the software that records.
	ServerVersion string
	// TraceID returns the trace that ctx belongs to, in hexadecimal; "" or only
	// zeros if there is none. See the package comment for OpenTelemetry's.
	TraceID func(ctx context.Context) string
	// FeatureFlags returns the flags that were evaluated for the actor in ctx.
	FeatureFlags func(ctx context.Context) map[string]bool
	// Now is time.Now unless set.
	Now func() time.Time
	// OnError is told why TryRecord could not record. The error holds the
	// names of feature and action, and nothing else of the event. Unless set,
	// it is logged to slog.Default.
	OnError func(ctx context.Context, err error)
}

// Recorder makes events and adds them to its stores. It may be used by several
// goroutines at once.
type Recorder struct {
	options Options
	stores  []Store
}

// New returns a recorder that adds each event to all of the stores, one after
// the other. The first store that fails ends that, so put the one last that
// matters to others: what is in the queue is in the event log as well.
func New(o Options, stores ...Store) *Recorder {
	return &Recorder{options: o, stores: stores}
}

// To returns a recorder with the same options and other stores, such as a queue
// within a transaction.
func (r *Recorder) To(stores ...Store) *Recorder {
	if r == nil {
		return New(Options{}, stores...)
	}
	return &Recorder{options: r.options, stores: stores}
}

// Record records that action happened to feature. It returns nil when the event
// is durable in every store, InvalidEvents when the event breaks a rule, and
// otherwise the error of a store; then the event may or may not be there.
func (r *Recorder) Record(ctx context.Context, feature, action constant, p Params) error {
	err := r.RecordAll(ctx, Entry{Feature: feature, Action: action, Params: p})
	if err != nil {
		return fmt.Errorf("record %s/%s: %w", feature, action, err)
	}
	return nil
}

// TryRecord records like Record where recording must not fail what is being
// recorded: an error goes to Options.OnError.
func (r *Recorder) TryRecord(ctx context.Context, feature, action constant, p Params) {
	err := r.Record(ctx, feature, action, p)
	if err == nil {
		return
	}
	if ctx == nil {
		ctx = context.Background()
	}
	if r != nil && r.options.OnError != nil {
		r.options.OnError(ctx, err)
		return
	}
	slog.Default().ErrorContext(ctx, "telemetry event not recorded", "error", err)
}

// RecordAll records several events with one write to each store. An event that
// breaks a rule does not spoil its neighbours: the others are recorded, and
// InvalidEvents names those that were not. It is joined with a store's error if
// there is one as well, so use errors.As.
func (r *Recorder) RecordAll(ctx context.Context, entries ...Entry) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	about := r.describe(ctx)
	var (
		events  = make([]*telemetrygatewayv1.Event, 0, len(entries))
		invalid InvalidEvents
	)
	for i := range entries {
		e, fault, err := about.recorded(&entries[i])
		if err != nil {
			return err
		}
		if fault == nil {
			fault = check(e)
		}
		if fault != nil {
			invalid = append(invalid, invalidEvent(i, fault))
			continue
		}
		events = append(events, e)
	}
	return r.add(ctx, events, invalid)
}

// RecordReceived records events that were received from clients, such as web
// pages. A client says what happened: feature, action, parameters, marketing
// tracking, its own name and version, and the interaction's ID. Who acted is
// not for it to say: user, feature flags, source.server, trace and geolocation
// are always those of ctx, whatever the events hold. So is a client or an
// interaction's ID that an event does not have.
//
// An event's ID is kept if it has one: whoever receives events derives it from
// something that is the same when a client sends again. So is its timestamp.
// What is wrong is reported as by RecordAll. The events are not changed and must
// not be changed later.
func (r *Recorder) RecordReceived(ctx context.Context, events ...*telemetrygatewayv1.Event) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	about := r.describe(ctx)
	var (
		valid   = make([]*telemetrygatewayv1.Event, 0, len(events))
		invalid InvalidEvents
	)
	for i, received := range events {
		e, err := about.received(received)
		if err != nil {
			return err
		}
		if fault := checkReceived(e); fault != nil {
			invalid = append(invalid, invalidEvent(i, fault))
			continue
		}
		valid = append(valid, e)
	}
	return r.add(ctx, valid, invalid)
}

// usable returns an error instead of the panic, or the silence, that would
// otherwise follow.
func (r *Recorder) usable(ctx context.Context) error {
	switch {
	case ctx == nil:
		return errors.New("telemetry: the context is nil")
	case r == nil || len(r.stores) == 0 || slices.Contains(r.stores, nil):
		return errors.New("telemetry: the recorder has no store, or one that is nil: give New or To one, such as a queue")
	}
	return nil
}

// add writes the events to all stores and reports the invalid ones as well.
func (r *Recorder) add(ctx context.Context, events []*telemetrygatewayv1.Event, invalid InvalidEvents) error {
	var failed error
	for _, s := range r.stores {
		if len(events) == 0 {
			break
		}
		if failed = s.Add(ctx, events...); failed != nil {
			break
		}
	}
	switch {
	case len(invalid) == 0:
		return failed
	case failed == nil:
		return invalid
	}
	return errors.Join(invalid, failed)
}
