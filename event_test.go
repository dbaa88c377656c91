// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/telemetrytest"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)

// options are options with everything set.
var options = telemetry.Options{
	ServerVersion: "5.2.0",
	Now:           func() time.Time { return now },
	TraceID:       func(context.Context) string { return "0af7651916cd43dd8448eb211c80319c" },
	FeatureFlags: func(ctx context.Context) map[string]bool {
		return map[string]bool{"new-search": true, "old-search": telemetry.ActorFrom(ctx).UserID == 0}
	},
}

// everyone is a context in which everything is known.
func everyone() context.Context {
	ctx := telemetry.WithActor(context.Background(), telemetry.Actor{UserID: 7, AnonymousUserID: "anon", ExternalID: "sams"})
	ctx = telemetry.WithClient(ctx, telemetry.Client{Name: "web", Version: "1.2"})
	return telemetry.WithInteraction(ctx, telemetry.Interaction{ID: "click", CountryCode: "NZ"})
}

func recorder(t testing.TB, o telemetry.Options) (*telemetry.Recorder, *telemetrytest.Events) {
	_, events := telemetrytest.New(t)
	return telemetry.New(o, events), events
}

func same(t *testing.T, got, want *telemetrygatewayv1.Event) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(want, "id")); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func TestEventHasAllThatIsKnown(t *testing.T) {
	r, events := recorder(t, options)
	before := time.Now().Truncate(time.Millisecond)
	if err := r.Record(everyone(), "search", "executed", telemetry.Params{
		Version:         3,
		Metadata:        telemetry.Metadata{"results": 12, "fuzzy": telemetry.Bool(true)},
		PrivateMetadata: telemetry.PrivateMetadata{"query": "needle"},
		Billing:         telemetry.Billing{Product: "search", Category: "core"},
	}); err != nil {
		t.Fatal(err)
	}
	got := events.Last()
	same(t, got, &telemetrygatewayv1.Event{
		Timestamp: timestamppb.New(now),
		Feature:   "search",
		Action:    "executed",
		Source: &telemetrygatewayv1.EventSource{
			Server: &telemetrygatewayv1.EventSource_Server{Version: "5.2.0"},
			Client: &telemetrygatewayv1.EventSource_Client{Name: "web", Version: proto.String("1.2")},
		},
		Parameters: &telemetrygatewayv1.EventParameters{
			Version:         3,
			Metadata:        map[string]float64{"results": 12, "fuzzy": 1},
			PrivateMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"query": structpb.NewStringValue("needle")}},
			BillingMetadata: &telemetrygatewayv1.EventBillingMetadata{Product: "search", Category: "core"},
		},
		User: &telemetrygatewayv1.EventUser{
			UserId: proto.Int64(7), AnonymousUserId: proto.String("anon"), SamsExternalId: proto.String("sams"),
		},
		FeatureFlags: &telemetrygatewayv1.EventFeatureFlags{Flags: map[string]string{"new-search": "true", "old-search": "false"}},
		Interaction: &telemetrygatewayv1.EventInteraction{
			TraceId:       proto.String("0af7651916cd43dd8448eb211c80319c"),
			InteractionId: proto.String("click"),
			Geolocation:   &telemetrygatewayv1.EventInteraction_Geolocation{CountryCode: "NZ"},
		},
	})
	id, err := uuid.Parse(got.GetId())
	if err != nil || id.Version() != 7 || id.String() != got.GetId() {
		t.Errorf("ID %q is not a UUIDv7: %v", got.GetId(), err)
	}
	if sec, nsec := id.Time().UnixTime(); time.Unix(sec, nsec).Before(before.Add(-time.Second)) {
		t.Errorf("ID %q is not of now", got.GetId())
	}
}

// What is not known is absent, as senders of the field leave it out, and not
// present and empty.
func TestEventWithNothingKnown(t *testing.T) {
	none := telemetry.Options{
		Now:          options.Now,
		TraceID:      func(context.Context) string { return "00000000000000000000000000000000" },
		FeatureFlags: func(context.Context) map[string]bool { return nil },
	}
	want := &telemetrygatewayv1.Event{
		Timestamp:  timestamppb.New(now),
		Feature:    "search",
		Action:     "executed",
		Source:     &telemetrygatewayv1.EventSource{Server: &telemetrygatewayv1.EventSource_Server{}},
		Parameters: &telemetrygatewayv1.EventParameters{},
	}
	empty := telemetry.WithActor(context.Background(), telemetry.Actor{})
	empty = telemetry.WithClient(empty, telemetry.Client{})
	empty = telemetry.WithInteraction(empty, telemetry.Interaction{})
	for name, ctx := range map[string]context.Context{"nothing said": context.Background(), "nothing in it": empty} {
		t.Run(name, func(t *testing.T) {
			r, events := recorder(t, none)
			if err := r.Record(ctx, "search", "executed", telemetry.Params{}); err != nil {
				t.Fatal(err)
			}
			same(t, events.Last(), want)
		})
	}
}

func TestWhatGoesBeforeWhat(t *testing.T) {
	r, events := recorder(t, options)
	ctx := telemetry.WithInteraction(context.Background(), telemetry.Interaction{ID: "context", TraceID: "trace", CountryCode: "NZ"})
	then := now.Add(-time.Hour)
	err := r.RecordAll(
		ctx,
		telemetry.Entry{Feature: "search", Action: "executed"},
		telemetry.Entry{Feature: "search", Action: "clicked", Params: telemetry.Params{InteractionID: "params", Timestamp: then}},
	)
	if err != nil {
		t.Fatal(err)
	}
	events.Want("search/executed", "search/clicked")
	first, second := events.All()[0], events.All()[1]
	if got := first.GetInteraction(); got.GetInteractionId() != "context" || got.GetTraceId() != "trace" {
		t.Errorf("interaction = %v, want the context's ID and trace", got)
	}
	if got := second.GetInteraction(); got.GetInteractionId() != "params" || got.GetTraceId() != "trace" || got.GetGeolocation().GetCountryCode() != "NZ" {
		t.Errorf("interaction = %v, want the ID of the parameters and the rest of the context", got)
	}
	if !second.GetTimestamp().AsTime().Equal(then) {
		t.Errorf("timestamp = %v, want %v", second.GetTimestamp().AsTime(), then)
	}
	if first.GetId() == second.GetId() {
		t.Error("two events have one ID")
	}
}

// TestReceivedEvents fills every field that the contract has, and then asks
// which of them a client got through. A field that is added to the contract is
// not among them until it is listed here.
func TestReceivedEvents(t *testing.T) {
	clients := []string{
		"id", "timestamp.seconds", "timestamp.nanos", "feature", "action",
		"source.client.name", "source.client.version",
		"parameters.version", "parameters.legacy_metadata", "parameters.metadata",
		"parameters.private_metadata",
		"parameters.billing_metadata.product", "parameters.billing_metadata.category",
		"marketing_tracking.url", "marketing_tracking.first_source_url", "marketing_tracking.cohort_id",
		"marketing_tracking.referrer", "marketing_tracking.last_source_url", "marketing_tracking.device_session_id",
		"marketing_tracking.session_referrer", "marketing_tracking.session_first_url",
		"interaction.interaction_id",
	}
	received := &telemetrygatewayv1.Event{}
	fill(received.ProtoReflect())
	before := proto.Clone(received)
	sent := leaves(received.ProtoReflect(), "")

	r, events := recorder(t, telemetry.Options{})
	if err := r.RecordReceived(context.Background(), received); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(received, before) {
		t.Error("the event that was given has changed")
	}
	got := leaves(events.Last().ProtoReflect(), "")
	delete(got, "source.server") // present, and empty as the recorder's is
	for path, v := range got {
		if !v.Equal(sent[path]) {
			t.Errorf("%s = %v, want the client's %v", path, v, sent[path])
		}
	}
	through := slices.Sorted(maps.Keys(got))
	slices.Sort(clients)
	if diff := cmp.Diff(clients, through); diff != "" {
		t.Errorf("fields that clients choose (-want +got):\n%s", diff)
	}

	// With everything known, what a client may not choose is the context's.
	r, events = recorder(t, options)
	if err := r.RecordReceived(everyone(), received); err != nil {
		t.Fatal(err)
	}
	got = leaves(events.Last().ProtoReflect(), "")
	for path, want := range map[string]any{
		"source.server.version": "5.2.0", "source.client.name": "clientx",
		"user.user_id": int64(7), "user.anonymous_user_id": "anon", "user.sams_external_id": "sams",
		"interaction.trace_id": "0af7651916cd43dd8448eb211c80319c", "interaction.geolocation.country_code": "NZ",
		"interaction.interaction_id": "clientx",
	} {
		if got[path].Interface() != want {
			t.Errorf("%s = %v, want %v", path, got[path], want)
		}
	}
	if flags := events.Last().GetFeatureFlags().GetFlags(); !maps.Equal(flags, map[string]string{"new-search": "true", "old-search": "false"}) {
		t.Errorf("flags = %v, want those evaluated", flags)
	}
}

func TestReceivedEventIsCompleted(t *testing.T) {
	r, events := recorder(t, options)
	if err := r.RecordReceived(everyone(), &telemetrygatewayv1.Event{Feature: "search", Action: "executed"}); err != nil {
		t.Fatal(err)
	}
	got := events.Last()
	if id, err := uuid.Parse(got.GetId()); err != nil || id.Version() != 7 {
		t.Errorf("ID = %q, want a UUIDv7", got.GetId())
	}
	if !got.GetTimestamp().AsTime().Equal(now) {
		t.Errorf("timestamp = %v, want now", got.GetTimestamp().AsTime())
	}
	if c := got.GetSource().GetClient(); c.GetName() != "web" || c.GetVersion() != "1.2" {
		t.Errorf("client = %v, want the context's", c)
	}
	if id := got.GetInteraction().GetInteractionId(); id != "click" {
		t.Errorf("interaction = %q, want the context's", id)
	}
}

// TestEveryTextIsChecked spoils one text of the contract after the other.
func TestEveryTextIsChecked(t *testing.T) {
	whole := &telemetrygatewayv1.Event{}
	fill(whole.ProtoReflect())
	whole.Id, whole.User, whole.FeatureFlags = "", nil, nil // the context's, and tested there
	whole.Source.Server, whole.Interaction.TraceId, whole.Interaction.Geolocation = nil, nil, nil
	var spoil func(t *testing.T, m protoreflect.Message, path string)
	refused := func(t *testing.T, path string) {
		t.Helper()
		r, events := recorder(t, options)
		err := r.RecordReceived(context.Background(), whole)
		var invalid telemetry.InvalidEvents
		if !errors.As(err, &invalid) || invalid[0].Reason != limits.ReasonInvalidUTF8 && path != "feature" && path != "action" || invalid[0].Field != path {
			t.Errorf("RecordReceived = %v, want invalid UTF-8 in %s", err, path)
		}
		events.Want()
	}
	bad := protoreflect.ValueOf("\xff")
	spoil = func(t *testing.T, m protoreflect.Message, path string) {
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			here := path + string(f.Name())
			switch {
			case f.IsMap():
				key, value := protoreflect.ValueOf("clientx").MapKey(), v.Map().Get(protoreflect.ValueOf("clientx").MapKey())
				v.Map().Clear(key)
				v.Map().Set(bad.MapKey(), value)
				refused(t, strings.TrimSuffix(here, ".fields"))
				v.Map().Clear(bad.MapKey())
				v.Map().Set(key, value)
			case f.Kind() == protoreflect.StringKind:
				m.Set(f, bad)
				refused(t, here)
				m.Set(f, v)
			case f.Kind() == protoreflect.MessageKind:
				spoil(t, v.Message(), here+".")
			}
			return true
		})
	}
	spoil(t, whole.ProtoReflect(), "")
	r, _ := recorder(t, options)
	if err := r.RecordReceived(context.Background(), whole); err != nil {
		t.Errorf("nothing is wrong with it any more: %v", err)
	}
}

// fill sets every field of m to something that is not empty, and valid.
func fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsMap():
			v := map[protoreflect.Kind]protoreflect.Value{
				protoreflect.StringKind:  protoreflect.ValueOf("clientx"),
				protoreflect.Int64Kind:   protoreflect.ValueOf(int64(41)),
				protoreflect.DoubleKind:  protoreflect.ValueOf(41.5),
				protoreflect.MessageKind: protoreflect.ValueOf(structpb.NewBoolValue(true).ProtoReflect()),
			}[f.MapValue().Kind()]
			m.Mutable(f).Map().Set(protoreflect.ValueOf("clientx").MapKey(), v)
		case f.Kind() == protoreflect.MessageKind:
			fill(m.Mutable(f).Message())
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOf("clientx"))
		case f.Kind() == protoreflect.Int32Kind:
			m.Set(f, protoreflect.ValueOf(int32(41)))
		default:
			m.Set(f, protoreflect.ValueOf(int64(41)))
		}
	}
}

// leaves returns the fields set in m by path, down to maps and to messages that
// have nothing in them.
func leaves(m protoreflect.Message, path string) map[string]protoreflect.Value {
	found := map[string]protoreflect.Value{}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		here := path + string(f.Name())
		if f.Kind() != protoreflect.MessageKind || f.IsMap() || f.Message().FullName() == "google.protobuf.Struct" {
			found[here] = v
			return true
		}
		below := leaves(v.Message(), here+".")
		if len(below) == 0 {
			found[here] = v
		}
		maps.Copy(found, below)
		return true
	})
	return found
}
