// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// quiet is for what a test does not look at.
var quiet = slog.New(slog.DiscardHandler)

// A carrier is a topic that has messages and subscriptions.
type carrier struct {
	topic.Topic
	subscribe func(t testing.TB, b topic.BatchOptions) topic.Subscription
}

// carriers are the topics that need nothing but this process.
var carriers = []struct {
	name string
	open func(t testing.TB) carrier
}{
	{"memory", memoryCarrier},
	{"SQLite", func(t testing.TB) carrier { return sqliteCarrier(t, filepath.Join(t.TempDir(), "topic.db")) }},
}

func memoryCarrier(testing.TB) carrier {
	m := topic.NewMemory(topic.DefaultMemoryMessages)
	return carrier{m, func(_ testing.TB, b topic.BatchOptions) topic.Subscription { return m.Subscribe("pipeline", b) }}
}

func sqliteCarrier(t testing.TB, path string) carrier {
	t.Helper()
	tp, err := topic.Open(context.Background(), "sqlite://"+path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tp.Close() })
	return carrier{tp, func(t testing.TB, b topic.BatchOptions) topic.Subscription {
		t.Helper()
		s, err := topic.Subscribe(context.Background(), "sqlite://"+path+"?subscription=pipeline", b, quiet)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}}
}

// A road is everything that events pass in a test.
type road struct {
	events, deadLetters carrier
	warehouse           string // URL
}

func newRoad(t testing.TB, open func(testing.TB) carrier) *road {
	return &road{open(t), open(t), "duckdb://" + filepath.Join(t.TempDir(), "warehouse.duckdb")}
}

// eachRoad runs f with every kind of topic.
func eachRoad(t *testing.T, f func(t *testing.T, r *road)) {
	for _, c := range carriers {
		t.Run(c.name, func(t *testing.T) { f(t, newRoad(t, c.open)) })
	}
}

// options are those of a pipeline of small batches, two at once.
func (r *road) options(t testing.TB) Options {
	b := topic.BatchOptions{Messages: 16, InFlight: 2}
	return Options{
		Events:          r.events.subscribe(t, b),
		DeadLetters:     r.deadLetters.subscribe(t, b),
		DeadLetterTopic: r.deadLetters,
		Open:            r.open,
		Metrics:         observe.NewPipelineMetrics("test", "test"),
		Log:             quiet,
	}
}

func (r *road) open(ctx context.Context) (warehouse.Warehouse, error) {
	return warehouse.Open(ctx, r.warehouse, warehouse.Options{Same: Same})
}

func publish(t testing.TB, to topic.Topic, ms ...topic.Message) {
	t.Helper()
	for part := range slices.Chunk(ms, limits.RequestMessages) {
		if err := errors.Join(to.Publish(t.Context(), part)...); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs a pipeline until stop is called, which waits for its end.
func start(t testing.TB, p *Pipeline) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// drain lands everything that is left, and returns what that counted. Neither
// topic may get anything meanwhile.
func (r *road) drain(t testing.TB) *observe.PipelineMetrics {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := r.options(t)
	// A batch at a time: what is acknowledged is preceded by nothing that is not.
	one := topic.BatchOptions{Messages: 100}
	last := func(s topic.Subscription, then func()) topic.Subscription {
		return tapped{s, func(ctx context.Context, ms []topic.Message, f receiver) error {
			ended := slices.ContainsFunc(ms, func(m topic.Message) bool { return m.Key == endKey })
			err := f(ctx, ms)
			if ended && err == nil {
				then()
			}
			return err
		}}
	}
	end := topic.Message{Key: endKey, Data: []byte("the end")}
	o.Events = last(r.events.subscribe(t, one), func() { publish(t, r.deadLetters, end) })
	o.DeadLetters = last(r.deadLetters.subscribe(t, one), cancel)
	publish(t, r.events, end)
	if err := New(o).Run(ctx); err != nil {
		t.Fatalf("Run: %v", err)
	}
	return o.Metrics
}

// endKey is of messages that are no events, and only there to be the last.
const endKey = "end"

type receiver func(context.Context, []topic.Message) error

// tapped puts something between a subscription and its receiver.
type tapped struct {
	topic.Subscription
	tap func(ctx context.Context, ms []topic.Message, f receiver) error
}

func (s tapped) Receive(ctx context.Context, f func(context.Context, []topic.Message) error) error {
	return s.Subscription.Receive(ctx, func(ctx context.Context, ms []topic.Message) error { return s.tap(ctx, ms, f) })
}

// handled returns s and a channel that is closed once n of its messages, or more,
// have been handled.
func handled(s topic.Subscription, n int64) (topic.Subscription, <-chan struct{}) {
	var left atomic.Int64
	left.Store(n)
	done := make(chan struct{})
	return tapped{s, func(ctx context.Context, ms []topic.Message, f receiver) error {
		err := f(ctx, ms)
		if k := int64(len(ms)); err == nil {
			if now := left.Add(-k); now <= 0 && now+k > 0 {
				close(done)
			}
		}
		return err
	}}, done
}

// troubled puts something before the insertion into a warehouse.
type troubled struct {
	warehouse.Warehouse
	insert func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error)
}

type inserter func(context.Context, *warehouse.Batch) (warehouse.Result, error)

func (w troubled) Insert(ctx context.Context, b *warehouse.Batch) (warehouse.Result, error) {
	return w.insert(ctx, b, w.Warehouse.Insert)
}

// trouble makes an Options.Open of warehouses whose insertion is f's.
func (r *road) trouble(f func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error)) func(context.Context) (warehouse.Warehouse, error) {
	return func(ctx context.Context) (warehouse.Warehouse, error) {
		w, err := r.open(ctx)
		if err != nil {
			return nil, err
		}
		return troubled{w, f}, nil
	}
}

// An occurrence is one event as one sender sent it.
type occurrence struct {
	sender   string
	n        int           // numbers the sender's events
	variant  int           // those of one number and different variants conflict
	received time.Duration // after a certain time
}

// message returns what the gateway makes of an occurrence.
func (o occurrence) message(t testing.TB) topic.Message {
	t.Helper()
	encoder, err := payload.NewEncoder(&v1.RecordEventsRequestMetadata{
		Identifier: &v1.Identifier{Identifier: &v1.Identifier_UnlicensedInstance{
			UnlicensedInstance: &v1.Identifier_UnlicensedInstanceIdentifier{InstanceId: o.sender},
		}},
	}, payload.Sender{Source: "unlicensed_instance", ID: o.sender, Identity: "unlicensed/" + o.sender, Trust: "unlicensed"}, payload.KeyFingerprint)
	if err != nil {
		t.Fatal(err)
	}
	event, err := proto.Marshal(&v1.Event{
		Id: fmt.Sprintf("event-%d", o.n), Feature: "codeSearch", Action: "executed",
		Timestamp:  &timestamppb.Timestamp{Seconds: 1_790_000_000 + int64(o.n)},
		Parameters: &v1.EventParameters{Metadata: map[string]float64{"variant": float64(o.variant)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	data, labels, v := encoder.Append(nil, event, time.Unix(1_790_000_000, 0).Add(o.received))
	if v != nil {
		t.Fatal(v)
	}
	return topic.Message{Key: labels.Key, Data: data, Attributes: labels.Attributes}
}

// poison returns a message that cannot be decoded.
func poison(n int) topic.Message {
	return topic.Message{Key: fmt.Sprintf("poison/%d", n), Data: fmt.Appendf(nil, "poison %d", n)}
}

// query returns the rows of an answer as text. No pipeline may be running.
func (r *road) query(t testing.TB, sql string) [][]string {
	t.Helper()
	w, err := warehouse.OpenReader(context.Background(), r.warehouse, warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return query(t, w, sql)
}

func query(t testing.TB, from warehouse.Reader, sql string) [][]string {
	t.Helper()
	rows, err := from.Query(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all [][]string
	for {
		values, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		var row []string
		for _, v := range values {
			switch v := v.(type) {
			case []byte:
				row = append(row, string(v))
			case time.Time:
				row = append(row, v.UTC().Format(time.RFC3339Nano))
			default:
				row = append(row, fmt.Sprint(v))
			}
		}
		all = append(all, row)
	}
}

// A ledger knows what was published. It is told what it needs by the tables
// alone, and shares nothing with the code that fills them.
type ledger struct {
	events map[string]map[string]occurrence // by key, by data
	poison map[string]bool                  // by data
}

func newLedger() *ledger {
	return &ledger{events: map[string]map[string]occurrence{}, poison: map[string]bool{}}
}

// add makes the message of an occurrence and notes it.
func (l *ledger) add(t testing.TB, o occurrence) topic.Message {
	t.Helper()
	m := o.message(t)
	if l.events[m.Key] == nil {
		l.events[m.Key] = map[string]occurrence{}
	}
	l.events[m.Key][string(m.Data)] = o
	return m
}

// addPoison makes a message that is no payload and notes it.
func (l *ledger) addPoison(n int) topic.Message {
	m := poison(n)
	l.poison[string(m.Data)] = true
	return m
}

// check compares the tables with what was published, row by row.
func (l *ledger) check(t testing.TB, r *road) {
	t.Helper()
	landed := map[string]occurrence{}
	for _, row := range r.query(t, "SELECT identity || '/' || event_id, CAST(payload AS VARCHAR) FROM events") {
		key, data := row[0], row[1]
		o, ok := l.events[key][data]
		if !ok {
			t.Errorf("event %s was altered, or never published: %s", key, data)
		}
		if _, twice := landed[key]; twice {
			t.Errorf("event %s landed twice", key)
		}
		landed[key] = o
	}
	wantRejected, wantDuplicates := map[string]string{"the end": "payload_invalid"}, map[string]bool{}
	for data := range l.poison {
		wantRejected[data] = "payload_invalid"
	}
	for key, all := range l.events {
		won, ok := landed[key]
		if !ok {
			t.Errorf("event %s was lost", key)
			continue
		}
		for data, o := range all {
			switch {
			case o.variant != won.variant:
				wantRejected[data] = "id_conflict"
			case o != won:
				wantDuplicates[fmt.Sprint(key, " ", time.Unix(1_790_000_000, 0).Add(o.received).UTC().Format(time.RFC3339Nano))] = true
			}
		}
	}
	rejected := map[string]string{}
	for _, row := range r.query(t, "SELECT bytes, reason, stage FROM events_rejected") {
		data, reason := row[0], row[1]
		if wantRejected[data] != reason && (data != "the end" || reason != "payload_invalid") {
			t.Errorf("rejected with reason %q, want %q: %s", reason, wantRejected[data], data)
		}
		// The end is there twice: as no event, and as no dead letter.
		if rejected[data] != "" && data != "the end" {
			t.Errorf("rejected twice: %s", data)
		}
		rejected[data] = reason
	}
	for data, reason := range wantRejected {
		if rejected[data] == "" {
			t.Errorf("lost, should have been rejected with reason %s: %s", reason, data)
		}
	}
	duplicates := map[string]bool{}
	for _, row := range r.query(t, "SELECT identity || '/' || event_id, received_at FROM events_duplicates") {
		d := row[0] + " " + row[1]
		if !wantDuplicates[d] || duplicates[d] {
			t.Errorf("not a duplicate, or noted twice: %s", d)
		}
		duplicates[d] = true
	}
	for d := range wantDuplicates {
		if !duplicates[d] {
			t.Errorf("duplicate not noted: %s", d)
		}
	}
	t.Logf("%d events landed, %d were rejected, %d came again", len(landed), len(rejected), len(duplicates))
}
