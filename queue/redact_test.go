// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// leaves is every field that may leave an instance, with the keys of maps on
// their own. It says again what redact.go says, on purpose: whoever lets one
// field more leave a customer's instance has to say so twice.
var leaves = []string{
	"action",
	"feature",
	"feature_flags.flags",
	"feature_flags.flags key",
	"id",
	"interaction.geolocation.country_code",
	"interaction.interaction_id",
	"interaction.trace_id",
	"parameters.billing_metadata.category",
	"parameters.billing_metadata.product",
	"parameters.legacy_metadata",
	"parameters.legacy_metadata key",
	"parameters.metadata",
	"parameters.metadata key",
	"parameters.version",
	"source.client.name",
	"source.client.version",
	"source.server.version",
	"timestamp.nanos",
	"timestamp.seconds",
	"user.anonymous_user_id",
	"user.sams_external_id",
	"user.user_id",
}

// TestRedactCanaries fills every field of an event that its descriptor knows,
// and ones that it does not know, with a value that is nowhere else, and looks
// for each of them in the bytes that leave.
func TestRedactCanaries(t *testing.T) {
	for name, policy := range map[string]Policy{
		"zero policy":       {},
		"others allowed":    {Allow: mustAllow(t, "search::executed::lang")},
		"in the mode local": {Mode: Local},
	} {
		t.Run(name, func(t *testing.T) {
			e, c := new(v1.Event), canaries{t: t}
			c.fill("", e.ProtoReflect(), 0)
			before := proto.CloneOf(e)
			got := c.found(marshal(t, Redact(e, policy)))
			if diff := cmp.Diff(leaves, got); diff != "" {
				t.Errorf("fields that leave (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, e, protocmp.Transform()); diff != "" {
				t.Errorf("the event was changed:\n%s", diff)
			}
		})
	}
	t.Run("vendor", func(t *testing.T) {
		e, c := new(v1.Event), canaries{t: t}
		c.fill("", e.ProtoReflect(), 0)
		if got, want := c.found(marshal(t, Redact(e, Policy{Vendor: true}))), c.paths(); !slices.Equal(got, want) {
			t.Errorf("of the vendor's own events these leave:\n%s", cmp.Diff(want, got))
		}
	})
}

// TestRedactNewFields adds fields to every message of the contract and shows
// that they stay. That they do once they are in the generated code as well is
// what TestRedactCanaries will show.
func TestRedactNewFields(t *testing.T) {
	file := protodesc.ToFileDescriptorProto(v1.File_telemetrygateway_v1_telemetrygateway_proto)
	for _, m := range file.MessageType {
		addFields(m)
	}
	extended, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	e, c := dynamicpb.NewMessage(extended.Messages().ByName("Event")), canaries{t: t}
	c.fill("", e, 0)
	for _, path := range []string{"new_text", "source.new_text", "new_message.interaction_id", "user.new_message.geolocation.new_number", "interaction.geolocation.new_map key"} {
		if !slices.Contains(c.paths(), path) {
			t.Errorf("no canary is in %s", path)
		}
	}

	var older v1.Event
	if err := proto.Unmarshal(marshal(t, e), &older); err != nil {
		t.Fatal(err)
	}
	if got := c.found(marshal(t, &older)); !slices.Equal(got, c.paths()) {
		t.Fatalf("the library alone drops fields, so that this shows nothing:\n%s", cmp.Diff(c.paths(), got))
	}
	if diff := cmp.Diff(leaves, c.found(marshal(t, Redact(&older, Policy{})))); diff != "" {
		t.Errorf("fields that leave (-want +got):\n%s", diff)
	}
}

func TestRedactPrivateMetadata(t *testing.T) {
	private, err := structpb.NewStruct(map[string]any{
		"text": "go", "texts": []any{"go", "rust"}, "empty": []any{}, "null": nil,
		"number": 7.5, "bool": true, "object": map[string]any{"canary": "canary"},
		"mixed": []any{"canary", 1.0}, "nested": []any{[]any{"canary"}}, "nulls": []any{nil},
		"secret": "canary", "canary": "canary",
	})
	if err != nil {
		t.Fatal(err)
	}
	private.Fields["kindless"] = &structpb.Value{}
	unknown := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "canary")
	for _, m := range []proto.Message{private, private.Fields["text"], private.Fields["texts"].GetListValue(), private.Fields["texts"].GetListValue().Values[0]} {
		m.ProtoReflect().SetUnknown(unknown)
	}
	const why = "; only texts, lists of texts and null are exported"
	for _, test := range []struct {
		name, allow string
		want        map[string]any
	}{
		{"nothing", "", nil},
		{"another feature", "blob::executed::text", nil},
		{"another action", "search::clicked::text", nil},
		{"keys that are not there", "search::executed::lang", nil},
		{"the event", "search::executed::text::lang", map[string]any{"text": "go"}},
		{"every action", "search::*::text", map[string]any{"text": "go"}},
		{"the event before every action", "search::*::text::texts,search::executed::null", map[string]any{"null": nil}},
		{"every type", "search::executed::text::texts::empty::null::number::bool::object::mixed::nested::nulls::kindless", map[string]any{
			"text": "go", "texts": []any{"go", "rust"}, "empty": []any{}, "null": nil,
			"number": "redacted: a number" + why, "bool": "redacted: a boolean" + why, "object": "redacted: an object" + why,
			"mixed": "redacted: a list of more than texts" + why, "nested": "redacted: a list of more than texts" + why,
			"nulls": "redacted: a list of more than texts" + why, "kindless": "redacted: a value of no kind" + why,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := &v1.Event{Feature: "search", Action: "executed", Parameters: &v1.EventParameters{PrivateMetadata: proto.CloneOf(private)}}
			redacted := Redact(e, Policy{Allow: mustAllow(t, test.allow)})
			got := redacted.Parameters.PrivateMetadata
			if (got == nil) != (test.want == nil) {
				t.Fatalf("private metadata is %v", got)
			}
			if got != nil {
				if diff := cmp.Diff(test.want, got.AsMap()); diff != "" {
					t.Errorf("private metadata (-want +got):\n%s", diff)
				}
			}
			if bytes.Contains(marshal(t, redacted), []byte("canary")) {
				t.Errorf("a canary left: %v", redacted)
			}
			if !proto.Equal(e.Parameters.PrivateMetadata, private) {
				t.Error("the event was changed")
			}
		})
	}
}

// TestRedactSparse: what is not set stays so.
func TestRedactSparse(t *testing.T) {
	if got := Redact(nil, Policy{}); got != nil {
		t.Errorf("of no event there is %v", got)
	}
	for _, e := range []*v1.Event{
		{},
		{Id: "1", Source: &v1.EventSource{}, Parameters: &v1.EventParameters{}},
		{User: &v1.EventUser{UserId: new(int64)}},
		{Timestamp: &timestamppb.Timestamp{}, Interaction: &v1.EventInteraction{Geolocation: &v1.EventInteraction_Geolocation{}}},
	} {
		if got := Redact(e, Policy{}); !proto.Equal(got, e) {
			t.Errorf("of %v there is %v", e, got)
		}
	}
	e := &v1.Event{Id: "1", Parameters: &v1.EventParameters{PrivateMetadata: &structpb.Struct{}}, MarketingTracking: &v1.EventMarketingTracking{}}
	if got := Redact(e, Policy{}); got.Parameters.PrivateMetadata != nil || got.MarketingTracking != nil {
		t.Errorf("of %v there is %v, which says what was there", e, got)
	}
}

func FuzzRedact(f *testing.F) {
	full := canaries{t: f}
	e := new(v1.Event)
	full.fill("", e.ProtoReflect(), 0)
	f.Add(marshal(f, e))
	e.Feature, e.Action = "search", "executed"
	f.Add(marshal(f, e))
	f.Add(marshal(f, typicalEvent(f)))
	f.Add([]byte{})
	f.Add([]byte("\x32\x00\x4a\x00"))
	f.Add([]byte("\x1a\x06search\x22\x08executed\x32\x0e\x1a\x0c\x0a\x0a\x0a\x04lang\x12\x02\x2a\x00\xfa\x01\x01x"))
	policy := Policy{Allow: mustAllow(f, "search::executed::lang::text,cody.chat::*::model")}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var e v1.Event
		if proto.Unmarshal(wire, &e) != nil {
			return
		}
		before := marshal(t, &e)
		got := Redact(&e, policy)
		out := marshal(t, got)
		if !bytes.Equal(marshal(t, &e), before) {
			t.Errorf("the event was changed to %v", &e)
		}
		checkKnown(t, got.ProtoReflect())
		if got.MarketingTracking != nil {
			t.Error("marketing data left")
		}
		for key, v := range got.GetParameters().GetPrivateMetadata().GetFields() {
			if !slices.Contains(policy.Allow.keys(e.Feature, e.Action), key) {
				t.Errorf("key %q left", key)
			}
			switch v.Kind.(type) {
			case *structpb.Value_StringValue, *structpb.Value_NullValue, *structpb.Value_ListValue:
			default:
				t.Errorf("%T left", v.Kind)
			}
		}
		if again := marshal(t, Redact(got, policy)); !bytes.Equal(again, out) {
			t.Errorf("redacted twice it is %x, and once %x", again, out)
		}
	})
}

// checkKnown fails if there is an unknown field anywhere in m.
func checkKnown(t *testing.T, m protoreflect.Message) {
	if len(m.GetUnknown()) > 0 {
		t.Errorf("unknown fields left in %s", m.Descriptor().FullName())
	}
	m.Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case d.IsMap() && d.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { checkKnown(t, v.Message()); return true })
		case d.IsMap() || d.Message() == nil:
		case d.IsList():
			for i := range v.List().Len() {
				checkKnown(t, v.List().Get(i).Message())
			}
		default:
			checkKnown(t, v.Message())
		}
		return true
	})
}

func BenchmarkRedact(b *testing.B) {
	e := typicalEvent(b)
	for name, policy := range map[string]Policy{"nothing-allowed": {}, "allowed": {Allow: mustAllow(b, "search::executed::lang")}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Redact(e, policy)
			}
		})
	}
}

func typicalEvent(t testing.TB) *v1.Event {
	private, err := structpb.NewStruct(map[string]any{"lang": "go", "query": "canary", "repos": []any{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	return &v1.Event{
		Id: "018df9a4-3b00-7c3d-9e4f-0123456789ab", Timestamp: &timestamppb.Timestamp{Seconds: 1709285400, Nanos: 123456789},
		Feature: "search", Action: "executed",
		Source: &v1.EventSource{
			Server: &v1.EventSource_Server{Version: "5.3.0"},
			Client: &v1.EventSource_Client{Name: "web", Version: new("5.3.0")},
		},
		Parameters: &v1.EventParameters{
			Version: 1, Metadata: map[string]float64{"results": 12, "durationMs": 87.5, "cached": 1}, PrivateMetadata: private,
			BillingMetadata: &v1.EventBillingMetadata{Product: "search", Category: "query"},
		},
		User:              &v1.EventUser{UserId: new(int64(4242)), AnonymousUserId: new("a3b1c5d7-0000-4000-8000-000000000000")},
		FeatureFlags:      &v1.EventFeatureFlags{Flags: map[string]string{"new-nav": "true", "ranking": "false"}},
		MarketingTracking: &v1.EventMarketingTracking{Url: new("https://example.com/search?q=canary")},
		Interaction:       &v1.EventInteraction{TraceId: new("0af7651916cd43dd8448eb211c80319c"), InteractionId: new("click-1")},
	}
}

func mustAllow(t testing.TB, entries string) *AllowList {
	t.Helper()
	l, err := ParseAllowed(entries)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}
