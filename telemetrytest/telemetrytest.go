// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package telemetrytest shows what an application records, to the application's
// own tests. Nothing is faked but the store: events are made and validated as in
// production.
//
//	func TestSearch(t *testing.T) {
//		recorder, events := telemetrytest.New(t)
//		search(recorder, "needle")
//
//		e := events.One("search", "executed")
//		if n := e.GetParameters().GetMetadata()["results"]; n != 3 {
//			t.Errorf("recorded %v results", n)
//		}
//	}
//
// What an application does while nothing can be recorded is tested with
// Events.Fail.
package telemetrytest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Events are the events recorded in a test, in order. It is a telemetry.Store,
// for tests that make a recorder of their own; get it from New all the same. It
// may be used by several goroutines at once, but for what ends a test, which is
// for the test's own goroutine.
type Events struct {
	tb testing.TB

	mu       sync.Mutex
	recorded []*telemetrygatewayv1.Event
	ids      map[string]struct{}
	failure  error
}

// New returns a recorder and what it records. The test fails when TryRecord
// cannot record, unless Events.Fail asked for that.
func New(tb testing.TB) (*telemetry.Recorder, *Events) {
	events := &Events{tb: tb, ids: map[string]struct{}{}}
	return telemetry.New(telemetry.Options{ServerVersion: "0.0.0+test", OnError: events.onError}, events), events
}

func (e *Events) onError(_ context.Context, err error) {
	e.tb.Helper()
	e.mu.Lock()
	wanted := e.failure != nil
	e.mu.Unlock()
	if !wanted {
		e.tb.Errorf("telemetry: %v", err)
	}
}

// Add adds events that some other recorder made. Like any store it takes an
// event once, however often it is added. It is as strict as a recorder.
func (e *Events) Add(_ context.Context, events ...*telemetrygatewayv1.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failure != nil {
		return e.failure
	}
	for i, event := range events {
		if fault := limits.CheckEvent(event); fault != nil {
			return fmt.Errorf("telemetrytest: event %d: %w", i, fault)
		}
		encoded, err := proto.Marshal(event)
		if err != nil {
			return fmt.Errorf("telemetrytest: event %d: %w", i, err)
		}
		if len(encoded) > limits.RecordedEventBytes {
			return fmt.Errorf("telemetrytest: event %d takes %d bytes, more than %d", i, len(encoded), limits.RecordedEventBytes)
		}
	}
	for _, event := range events {
		if _, known := e.ids[event.GetId()]; !known {
			e.ids[event.GetId()] = struct{}{}
			e.recorded = append(e.recorded, event)
		}
	}
	return nil
}

// Fail makes recording fail with err from now on, as a queue does whose disk is
// full. Fail(nil) makes it work again.
func (e *Events) Fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failure = err
}

// All returns what was recorded, the oldest first. The events must not be
// changed.
func (e *Events) All() []*telemetrygatewayv1.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.recorded)
}

// Of returns what was recorded of one feature and action, the oldest first.
func (e *Events) Of(feature, action string) []*telemetrygatewayv1.Event {
	return slices.DeleteFunc(e.All(), func(event *telemetrygatewayv1.Event) bool {
		return event.GetFeature() != feature || event.GetAction() != action
	})
}

// Last returns the event recorded last. The test ends as failed if there is
// none.
func (e *Events) Last() *telemetrygatewayv1.Event {
	e.tb.Helper()
	all := e.All()
	if len(all) == 0 {
		e.tb.Fatal("no event was recorded")
	}
	return all[len(all)-1]
}

// One returns the only event of a feature and action. The test ends as failed
// if there is none, or more than one.
func (e *Events) One(feature, action string) *telemetrygatewayv1.Event {
	e.tb.Helper()
	found := e.Of(feature, action)
	if len(found) != 1 {
		e.tb.Fatalf("%s/%s was recorded %d times, want once; recorded are: %s", feature, action, len(found), e)
	}
	return found[0]
}

// Want fails the test unless exactly these events were recorded, in this order:
// each as feature/action. Without any, it wants that nothing was recorded.
func (e *Events) Want(names ...string) {
	e.tb.Helper()
	if got := e.names(); !slices.Equal(got, names) {
		e.tb.Errorf("recorded are: %s\nwant:         %s", list(got), list(names))
	}
}

// Reset forgets what was recorded so far.
func (e *Events) Reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recorded, e.ids = nil, map[string]struct{}{}
}

// String names what was recorded, as in "search/executed, search/clicked".
func (e *Events) String() string { return list(e.names()) }

func (e *Events) names() []string {
	var names []string
	for _, event := range e.All() {
		names = append(names, event.GetFeature()+"/"+event.GetAction())
	}
	return names
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
