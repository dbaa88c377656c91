// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	_ "modernc.org/sqlite"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/pipeline"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

var quiet = slog.New(slog.DiscardHandler)

// file is a topic.
type file struct {
	topic.Topic
	path string
}

// road is two topics, a warehouse's file, and a pipeline from one to the other
// while it runs.
type road struct {
	events, deadLetters file
	warehouse           string
	ended               chan error
}

func newRoad(t *testing.T) *road {
	open := func(name string) file {
		path := filepath.Join(t.TempDir(), name)
		tp, err := topic.Open(t.Context(), "sqlite://"+path+"?retention=forever", quiet)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tp.Close() })
		return file{tp, path}
	}
	r := &road{events: open("topic.db"), deadLetters: open("deadletter.db"), warehouse: filepath.Join(t.TempDir(), "warehouse.duckdb")}
	w, err := r.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	return r
}

func (r *road) open(ctx context.Context) (warehouse.Warehouse, error) {
	return warehouse.Open(ctx, "duckdb://"+r.warehouse, warehouse.Options{Same: pipeline.Same, Log: quiet})
}

func (r *road) options(from warehouse.Reader) Options {
	return Options{
		Topic: "sqlite://" + r.events.path, DeadLetters: "sqlite://" + r.deadLetters.path, Subscription: "pipeline",
		Query: from.Query,
	}
}

// take takes the balance while no pipeline runs.
func (r *road) take(t *testing.T, o Options) *Report {
	t.Helper()
	w, err := warehouse.OpenReader(t.Context(), "duckdb://"+r.warehouse, warehouse.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	all := r.options(w)
	all.Topic, all.Since = cmp.Or(o.Topic, all.Topic), o.Since
	report, err := Take(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func (r *road) publish(t *testing.T, to topic.Topic, ms ...topic.Message) {
	t.Helper()
	if err := errors.Join(to.Publish(t.Context(), ms)...); err != nil {
		t.Fatal(err)
	}
}

// land lands as many messages of each topic.
func (r *road) land(t *testing.T, events, deadLetters int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	_, enough := r.start(t, ctx, events, deadLetters)
	<-enough
	cancel()
	r.wait(t)
}

// start starts a pipeline. It returns its warehouse, and what is closed when so
// many messages have been dealt with.
func (r *road) start(t *testing.T, ctx context.Context, events, deadLetters int64) (warehouse.Reader, <-chan struct{}) {
	t.Helper()
	enough := make(chan struct{})
	left := new(atomic.Int64)
	left.Store(events + deadLetters)
	subscribe := func(f file) topic.Subscription {
		s, err := topic.Subscribe(t.Context(), "sqlite://"+f.path+"?subscription=pipeline", topic.BatchOptions{InFlight: 2}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return counting{s, left, enough}
	}
	opened := make(chan warehouse.Warehouse, 1)
	p := pipeline.New(pipeline.Options{
		Events: subscribe(r.events), DeadLetters: subscribe(r.deadLetters), DeadLetterTopic: r.deadLetters,
		Open: func(ctx context.Context) (warehouse.Warehouse, error) {
			w, err := r.open(ctx)
			if err == nil {
				opened <- w
			}
			return w, err
		},
		Metrics: observe.NewPipelineMetrics("test", "test"), Log: quiet,
	})
	r.ended = make(chan error, 1)
	go func() { r.ended <- p.Run(ctx) }()
	return <-opened, enough
}

func (r *road) wait(t *testing.T) {
	t.Helper()
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
}

// counting closes enough when no messages are left to be dealt with.
type counting struct {
	topic.Subscription
	left   *atomic.Int64
	enough chan struct{}
}

func (c counting) Receive(ctx context.Context, f func(context.Context, []topic.Message) error) error {
	return c.Subscription.Receive(ctx, func(ctx context.Context, ms []topic.Message) error {
		err := f(ctx, ms)
		if n := int64(len(ms)); err == nil && c.left.Add(-n) <= 0 && c.left.Load() > -n {
			close(c.enough)
		}
		return err
	})
}

// exec changes a topic's file behind everyone's back.
func (r *road) exec(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

func event(id string, variant float64) *v1.Event {
	return &v1.Event{
		Id: id, Feature: "codeSearch", Action: "executed", Timestamp: timestamppb.New(at(monday, 0)),
		Parameters: &v1.EventParameters{Metadata: map[string]float64{"variant": variant}},
	}
}

func encoder(t *testing.T, sender string) *payload.Encoder {
	t.Helper()
	e, err := payload.NewEncoder(&v1.RecordEventsRequestMetadata{
		Identifier: &v1.Identifier{Identifier: &v1.Identifier_UnlicensedInstance{
			UnlicensedInstance: &v1.Identifier_UnlicensedInstanceIdentifier{InstanceId: sender},
		}},
	}, payload.Sender{Source: "unlicensed_instance", ID: sender, Identity: "unlicensed/" + sender, Trust: "unlicensed"}, payload.KeyFingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// message is what the gateway publishes of an event.
func (r *road) message(t *testing.T, sender string, e *v1.Event, received time.Time) topic.Message {
	t.Helper()
	wire, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	data, labels, v := encoder(t, sender).Append(nil, wire, received)
	if v != nil {
		t.Fatal(v)
	}
	return carry(data, labels)
}

// letter is a dead letter of the gateway's.
func (r *road) letter(t *testing.T, sender string, received time.Time) topic.Message {
	t.Helper()
	e := event("refused", 1)
	e.Action = "not valid"
	wire, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return carry(encoder(t, sender).AppendDeadLetter(nil, wire, received, &limits.Violation{Reason: limits.ReasonActionInvalid, Field: "action", Message: "is not valid"}))
}

// replay is what is published of a dead letter once its action is mended.
func (r *road) replay(t *testing.T, m topic.Message) topic.Message {
	t.Helper()
	letter, err := payload.DecodeDeadLetter(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	data, labels, err := letter.Replay(m.Key, []byte(`{"action":"executed"}`))
	if err != nil {
		t.Fatal(err)
	}
	return carry(data, labels)
}

func carry(data []byte, labels payload.Labels) topic.Message {
	return topic.Message{Key: labels.Key, Data: data, Attributes: labels.Attributes}
}
