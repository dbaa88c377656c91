// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/telemetrytest"
)

var errFull = errors.New("the disk is full")

var noContext context.Context // what an application has that forgot to pass one on

func TestInvalidEventsAreNamed(t *testing.T) {
	long := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		name   string
		entry  telemetry.Entry
		reason string
		field  string
	}{
		{"no names", telemetry.Entry{}, "feature_invalid", "feature"},
		{"no action", telemetry.Entry{Feature: "search"}, "action_invalid", "action"},
		{"short", telemetry.Entry{Feature: "s", Action: "executed"}, "feature_invalid", "feature"},
		{"digit", telemetry.Entry{Feature: "search", Action: "executed2"}, "action_invalid", "action"},
		{"underscore", telemetry.Entry{Feature: "search_bar", Action: "executed"}, "feature_invalid", "feature"},
		{"capital", telemetry.Entry{Feature: "Search", Action: "executed"}, "feature_invalid", "feature"},
		{"line break", telemetry.Entry{Feature: "search\n", Action: "executed"}, "feature_invalid", "feature"},
		{"NaN", telemetry.Entry{Feature: "search", Action: "executed", Params: telemetry.Params{Metadata: telemetry.Metadata{"a": math.NaN()}}}, "not_finite", "parameters.metadata"},
		{"infinite", telemetry.Entry{Feature: "search", Action: "executed", Params: telemetry.Params{Metadata: telemetry.Metadata{"a": math.Inf(-1)}}}, "not_finite", "parameters.metadata"},
		{"year 10000", telemetry.Entry{Feature: "search", Action: "executed", Params: telemetry.Params{Timestamp: long}}, "timestamp_invalid", "timestamp"},
		{"version", telemetry.Entry{Feature: "search", Action: "executed", Params: telemetry.Params{Version: math.MaxInt32 + 1}}, "undecodable", "parameters.version"},
		{"negative version", telemetry.Entry{Feature: "search", Action: "executed", Params: telemetry.Params{Version: math.MinInt}}, "undecodable", "parameters.version"},
		{"key", telemetry.Entry{Feature: "search", Action: "executed", Params: telemetry.Params{Metadata: telemetry.Metadata{"\xff": 1}}}, "invalid_utf8", "parameters.metadata"},
		{"product", telemetry.Entry{Feature: "search", Action: "executed", Params: telemetry.Params{Billing: telemetry.Billing{Product: "\xff"}}}, "invalid_utf8", "parameters.billing_metadata.product"},
		{"interaction", telemetry.Entry{Feature: "search", Action: "executed", Params: telemetry.Params{InteractionID: "\xff"}}, "invalid_utf8", "interaction.interaction_id"},
		{"size", telemetry.Entry{Feature: "search", Action: "executed", Params: telemetry.Params{InteractionID: strings.Repeat("x", 1<<20)}}, "too_large", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, events := recorder(t, options)
			good := telemetry.Entry{Feature: "search", Action: "clicked"}
			err := r.RecordAll(context.Background(), good, row.entry, good)
			var invalid telemetry.InvalidEvents
			if !errors.As(err, &invalid) || len(invalid) != 1 {
				t.Fatalf("RecordAll = %v, want one invalid event", err)
			}
			if got := invalid[0]; got.Index != 1 || got.Reason != row.reason || got.Field != row.field || got.Message == "" {
				t.Errorf("invalid event = %+v, want number 1, %s of %s", got, row.reason, row.field)
			}
			events.Want("search/clicked", "search/clicked")
		})
	}
}

func TestTextsOfTheContextAreChecked(t *testing.T) {
	for field, ctx := range map[string]context.Context{
		"user.anonymous_user_id":               telemetry.WithActor(context.Background(), telemetry.Actor{AnonymousUserID: "\xff"}),
		"user.sams_external_id":                telemetry.WithActor(context.Background(), telemetry.Actor{ExternalID: "\xff"}),
		"source.client.name":                   telemetry.WithClient(context.Background(), telemetry.Client{Name: "\xff"}),
		"source.client.version":                telemetry.WithClient(context.Background(), telemetry.Client{Name: "web", Version: "\xff"}),
		"interaction.trace_id":                 telemetry.WithInteraction(context.Background(), telemetry.Interaction{TraceID: "\xff"}),
		"interaction.geolocation.country_code": telemetry.WithInteraction(context.Background(), telemetry.Interaction{CountryCode: "\xff"}),
	} {
		r, events := recorder(t, telemetry.Options{})
		err := r.Record(ctx, "search", "executed", telemetry.Params{})
		var invalid telemetry.InvalidEvents
		if !errors.As(err, &invalid) || invalid[0].Reason != limits.ReasonInvalidUTF8 || invalid[0].Field != field {
			t.Errorf("Record = %v, want invalid UTF-8 in %s", err, field)
		}
		events.Want()
	}
	r, _ := recorder(t, telemetry.Options{FeatureFlags: func(context.Context) map[string]bool { return map[string]bool{"\xff": true} }})
	err := r.Record(context.Background(), "search", "executed", telemetry.Params{})
	if want := "record search/executed: event 0: invalid_utf8: feature_flags.flags: is not valid UTF-8"; err == nil || err.Error() != want {
		t.Errorf("Record = %v, want %s", err, want)
	}
}

func TestReceivedEventsAreJudgedOneByOne(t *testing.T) {
	deep := structpb.NewBoolValue(true)
	for range limits.Depth {
		deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
	}
	event := func(change func(*telemetrygatewayv1.Event)) *telemetrygatewayv1.Event {
		e := &telemetrygatewayv1.Event{Feature: "search", Action: "executed", Parameters: &telemetrygatewayv1.EventParameters{}}
		change(e)
		return e
	}
	private := func(v *structpb.Value) func(*telemetrygatewayv1.Event) {
		return func(e *telemetrygatewayv1.Event) {
			e.Parameters.PrivateMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{"a": v}}
		}
	}
	r, events := recorder(t, options)
	err := r.RecordReceived(
		everyone(),
		event(func(*telemetrygatewayv1.Event) {}),
		nil,
		event(func(e *telemetrygatewayv1.Event) { e.Id = strings.Repeat("x", limits.EventIDBytes+1) }),
		event(func(e *telemetrygatewayv1.Event) { e.Timestamp = &timestamppb.Timestamp{Nanos: -1} }),
		event(private(deep)),
		event(private(&structpb.Value{})),
		event(private(nil)),
		event(private(structpb.NewStringValue("\xff"))),
		event(func(e *telemetrygatewayv1.Event) {
			e.MarketingTracking = &telemetrygatewayv1.EventMarketingTracking{Url: new(string)}
			*e.MarketingTracking.Url = "\xff"
		}),
		event(func(e *telemetrygatewayv1.Event) {
			unknown := protowire.AppendTag(nil, 5000, protowire.BytesType)
			e.Parameters.ProtoReflect().SetUnknown(protowire.AppendBytes(unknown, make([]byte, limits.RecordedEventBytes)))
		}),
		event(func(e *telemetrygatewayv1.Event) { e.Action = "clicked" }),
	)
	var invalid telemetry.InvalidEvents
	if !errors.As(err, &invalid) {
		t.Fatalf("RecordReceived = %v, want invalid events", err)
	}
	want := []telemetry.InvalidEvent{
		{Index: 1, Reason: limits.ReasonFeatureInvalid, Field: "feature"},
		{Index: 2, Reason: limits.ReasonIDTooLong, Field: "id"},
		{Index: 3, Reason: limits.ReasonTimestampInvalid, Field: "timestamp"},
		{Index: 4, Reason: limits.ReasonTooDeep, Field: "parameters.private_metadata"},
		{Index: 5, Reason: limits.ReasonUndecodable, Field: "parameters.private_metadata"},
		{Index: 6, Reason: limits.ReasonUndecodable, Field: "parameters.private_metadata"},
		{Index: 7, Reason: limits.ReasonInvalidUTF8, Field: "parameters.private_metadata"},
		{Index: 8, Reason: limits.ReasonInvalidUTF8, Field: "marketing_tracking.url"},
		{Index: 9, Reason: limits.ReasonTooLarge},
	}
	if len(invalid) != len(want) {
		t.Fatalf("invalid events = %v, want %d", invalid, len(want))
	}
	for i, got := range invalid {
		got.Message = ""
		if got != want[i] {
			t.Errorf("invalid event = %+v, want %+v", got, want[i])
		}
	}
	if !strings.HasPrefix(err.Error(), "9 invalid events, the first is event 1: ") {
		t.Errorf("error = %q", err)
	}
	events.Want("search/executed", "search/clicked")
}

// The same event received twice has one ID if whoever received it gave it one.
func TestReceivedAgain(t *testing.T) {
	r, events := recorder(t, options)
	for range 2 {
		if err := r.RecordReceived(everyone(), &telemetrygatewayv1.Event{Id: "a", Feature: "search", Action: "executed"}); err != nil {
			t.Fatal(err)
		}
	}
	events.Want("search/executed")
}

func TestStoresInOrder(t *testing.T) {
	_, first := telemetrytest.New(t)
	_, second := telemetrytest.New(t)
	r := telemetry.New(options, first, second)
	record := func() error {
		return r.RecordAll(context.Background(), telemetry.Entry{Feature: "search", Action: "executed"}, telemetry.Entry{})
	}
	if err := record(); !errors.As(err, new(telemetry.InvalidEvents)) {
		t.Fatalf("RecordAll = %v", err)
	}
	first.Want("search/executed")
	second.Want("search/executed")
	if first.Last().GetId() != second.Last().GetId() {
		t.Error("one event has two IDs")
	}

	first.Fail(errFull)
	if err := record(); !errors.Is(err, errFull) || !errors.As(err, new(telemetry.InvalidEvents)) {
		t.Errorf("RecordAll = %v, want the store's error and the invalid event", err)
	}
	second.Want("search/executed") // not one more

	first.Fail(nil)
	_, other := telemetrytest.New(t)
	if err := r.To(other).Record(everyone(), "search", "clicked", telemetry.Params{}); err != nil {
		t.Fatal(err)
	}
	first.Want("search/executed")
	other.Want("search/clicked")
	if v := other.Last().GetSource().GetServer().GetVersion(); v != options.ServerVersion {
		t.Errorf("server version = %q, want the recorder's", v)
	}
}

func TestTryRecord(t *testing.T) {
	o := options
	var reported []error
	o.OnError = func(ctx context.Context, err error) {
		if ctx == nil {
			t.Error("the hook got no context")
		}
		reported = append(reported, err)
	}
	r, events := recorder(t, o)
	r.TryRecord(context.Background(), "search", "executed", telemetry.Params{})
	events.Want("search/executed")
	if len(reported) != 0 {
		t.Errorf("errors = %v", reported)
	}
	events.Fail(errFull)
	r.TryRecord(context.Background(), "search", "executed", telemetry.Params{})
	r.TryRecord(noContext, "search", "executed", telemetry.Params{})
	if len(reported) != 2 || !errors.Is(reported[0], errFull) {
		t.Errorf("errors = %v, want the store's and one about the context", reported)
	}
}

func TestErrorsAreLogged(t *testing.T) {
	var log bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(old)
	const canary = "canary"
	r, events := recorder(t, telemetry.Options{})
	events.Fail(errFull)
	ctx := telemetry.WithActor(context.Background(), telemetry.Actor{AnonymousUserID: canary})
	r.TryRecord(ctx, "search", "executed", telemetry.Params{PrivateMetadata: telemetry.PrivateMetadata{"query": canary}})
	r.TryRecord(ctx, "search", "executed", telemetry.Params{PrivateMetadata: telemetry.PrivateMetadata{"query": canary + "\xff"}})
	var none *telemetry.Recorder
	none.TryRecord(ctx, "search", "executed", telemetry.Params{InteractionID: canary})
	got := log.String()
	if strings.Count(got, "search/executed") != 3 || !strings.Contains(got, errFull.Error()) || !strings.Contains(got, "invalid_utf8") {
		t.Errorf("log = %s, want three errors", got)
	}
	if strings.Contains(got, canary) {
		t.Errorf("log quotes the event: %s", got)
	}
}

// Recording must never break the application: what makes no sense is an error.
func TestOddInput(t *testing.T) {
	ctx := context.Background()
	var none *telemetry.Recorder
	_, events := telemetrytest.New(t)
	r := telemetry.New(options, events)
	for name, record := range map[string]func() error{
		"nil context":     func() error { return r.Record(noContext, "search", "executed", telemetry.Params{}) },
		"nil for several": func() error { return r.RecordAll(noContext, telemetry.Entry{Feature: "search", Action: "executed"}) },
		"nil for received": func() error {
			return r.RecordReceived(noContext, &telemetrygatewayv1.Event{Feature: "search", Action: "executed"})
		},
		"nil recorder":   func() error { return none.Record(ctx, "search", "executed", telemetry.Params{}) },
		"empty recorder": func() error { return new(telemetry.Recorder).Record(ctx, "search", "executed", telemetry.Params{}) },
		"no store":       func() error { return telemetry.New(options).Record(ctx, "search", "executed", telemetry.Params{}) },
		"nil store":      func() error { return telemetry.New(options, nil).Record(ctx, "search", "executed", telemetry.Params{}) },
	} {
		if err := record(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := none.To(events).Record(ctx, "search", "executed", telemetry.Params{}); err != nil {
		t.Errorf("a store given to a nil recorder: %v", err)
	}
	events.Want("search/executed")
	if err := new(telemetry.Recorder).To(events).Record(ctx, "search", "executed", telemetry.Params{}); err != nil {
		t.Errorf("a store given to an empty recorder: %v", err)
	}
	if err := errors.Join(r.RecordAll(ctx), r.RecordReceived(ctx)); err != nil {
		t.Errorf("nothing: %v", err)
	}
	events.Want("search/executed", "search/executed")

	if telemetry.ActorFrom(noContext) != (telemetry.Actor{}) || telemetry.ClientFrom(ctx) != (telemetry.Client{}) {
		t.Error("there is someone in an empty context")
	}
	if got := telemetry.ActorFrom(telemetry.WithActor(noContext, telemetry.Actor{UserID: 7})); got.UserID != 7 {
		t.Errorf("actor = %v, want 7", got)
	}
}

func TestRecordersAreShared(t *testing.T) {
	r, events := recorder(t, options)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				r.TryRecord(everyone(), "search", "executed", telemetry.Params{Metadata: telemetry.Metadata{"a": 1}})
			}
		})
	}
	all.Wait()
	if n := len(events.All()); n != 400 { // by ID
		t.Errorf("%d events, want 400", n)
	}
}

func TestMetadata(t *testing.T) {
	if telemetry.Bool(true) != 1 || telemetry.Bool(false) != 0 {
		t.Error("Bool is not 1 and 0")
	}
	if telemetry.Number(uint64(1)<<53) != 1<<53 || telemetry.Number(-7) != -7 || telemetry.Number(float32(0.5)) != 0.5 || telemetry.Number(time.Second) != 1e9 {
		t.Error("Number is not its argument")
	}
	a, b := telemetry.Metadata{"a": 1, "b": 1}, telemetry.Metadata{"b": 2}
	merged := telemetry.MergeMetadata(a, nil, b)
	if len(merged) != 2 || merged["a"] != 1 || merged["b"] != 2 || a["b"] != 1 {
		t.Errorf("merged = %v of %v and %v", merged, a, b)
	}
	merged = telemetry.MergeMetadata()
	merged["c"] = 3 // not nil
}

// BenchmarkRecord measures all that is done up to the store, with a typical
// event.
func BenchmarkRecord(b *testing.B) {
	r := telemetry.New(options, discard{})
	ctx := everyone()
	b.ReportAllocs()
	for b.Loop() {
		err := r.Record(ctx, "search", "executed", telemetry.Params{
			Metadata:        telemetry.Metadata{"results": 12, "fuzzy": 1},
			PrivateMetadata: telemetry.PrivateMetadata{"query": "needle"},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Add(context.Context, ...*telemetrygatewayv1.Event) error { return nil }
