// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

var receivedAt = time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.FixedZone("CET", 3600))

// sender is a sender with the metadata that it sends.
type sender struct {
	payload.Sender
	metadata *telemetrygatewayv1.RecordEventsRequestMetadata
}

func licensed() sender {
	return sender{
		payload.Sender{
			Source: "licensed_instance", ID: "site-1", Identity: "license/L-7f3a/site-1", Trust: "licensed",
			License: &payload.License{
				ID: "L-7f3a", KeyID: "2026-a", Fingerprint: "sha256:" + strings.Repeat("c0ffee00", 8), Version: 4,
				Tags: []string{"plan:enterprise", "customer:acme & sons"}, Users: 250,
				CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
				ExpiresAt: time.Date(2027, 1, 2, 4, 4, 5, 0, time.FixedZone("CET", 3600)),
				Status:    "valid", SalesforceSubscriptionID: "sub-1", SalesforceOpportunityID: "opp-1",
			},
		},
		&telemetrygatewayv1.RecordEventsRequestMetadata{
			RequestId: "request-1",
			Identifier: &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_LicensedInstance{
				LicensedInstance: &telemetrygatewayv1.Identifier_LicensedInstanceIdentifier{
					LicenseKey: " c2ln\n bmVk ", InstanceId: "site-1", ExternalUrl: "https://code.example.com",
				},
			}},
		},
	}
}

func unlicensed() sender {
	return sender{
		payload.Sender{Source: "unlicensed_instance", ID: "site-2", Identity: "unlicensed/site-2", Trust: "unlicensed"},
		&telemetrygatewayv1.RecordEventsRequestMetadata{
			Identifier: &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_UnlicensedInstance{
				UnlicensedInstance: &telemetrygatewayv1.Identifier_UnlicensedInstanceIdentifier{InstanceId: "site-2"},
			}},
		},
	}
}

func managedService() sender {
	return sender{
		payload.Sender{Source: "pinger", ID: "pinger", Identity: "service/pinger", Trust: "service"},
		&telemetrygatewayv1.RecordEventsRequestMetadata{
			RequestId: "request-3",
			Identifier: &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_ManagedService{
				ManagedService: &telemetrygatewayv1.Identifier_ManagedServiceIdentifier{
					ServiceId: "pinger", ServiceEnvironment: proto.String("prod"),
				},
			}},
		},
	}
}

func newEncoder(t testing.TB, s sender, f payload.KeyForm) *payload.Encoder {
	t.Helper()
	e, err := payload.NewEncoder(s.metadata, s.Sender, f)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func wire(t testing.TB, e *telemetrygatewayv1.Event) []byte {
	t.Helper()
	data, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// encode returns the payload and labels of an event that breaks no rule.
func encode(t testing.TB, e *payload.Encoder, event []byte) ([]byte, payload.Labels) {
	t.Helper()
	data, labels, v := e.Append(nil, event, receivedAt)
	if v != nil {
		t.Fatalf("violation: %v", v)
	}
	return data, labels
}

// minimalEvent returns an event with only what every event must have.
func minimalEvent() *telemetrygatewayv1.Event {
	return &telemetrygatewayv1.Event{
		Id: "0190c7a5-6f00-7000-8000-000000000002", Feature: "cody.chat", Action: "opened",
		Timestamp: &timestamppb.Timestamp{Seconds: 1_772_366_400},
	}
}

// fullEvent returns an event with every field set, save legacy metadata.
func fullEvent() *telemetrygatewayv1.Event {
	private, err := structpb.NewStruct(map[string]any{
		"query": "repo:docs", "took": 1.5, "cached": false, "none": nil,
		"nested": map[string]any{"list": []any{1, "two", []any{}}},
	})
	if err != nil {
		panic(err)
	}
	return &telemetrygatewayv1.Event{
		Id: "0190c7a5-6f00-7000-8000-000000000001", Feature: "codeSearch", Action: "executed",
		Timestamp: &timestamppb.Timestamp{Seconds: 1_772_366_400, Nanos: 250_000_000},
		Source: &telemetrygatewayv1.EventSource{
			Server: &telemetrygatewayv1.EventSource_Server{Version: "6.1.0"},
			Client: &telemetrygatewayv1.EventSource_Client{Name: "web", Version: proto.String("6.1.0")},
		},
		Parameters: &telemetrygatewayv1.EventParameters{
			Version: 2,
			Metadata: map[string]float64{
				"resultCount": 42, "took": 0.125, "recordsPrivateMetadataTranscript": 1,
			},
			PrivateMetadata: private,
			BillingMetadata: &telemetrygatewayv1.EventBillingMetadata{Product: "search", Category: "billable"},
		},
		User: &telemetrygatewayv1.EventUser{
			UserId: proto.Int64(1234), AnonymousUserId: proto.String("anonymous-1"), SamsExternalId: proto.String("user-1"),
		},
		FeatureFlags: &telemetrygatewayv1.EventFeatureFlags{Flags: map[string]string{"new-ui": "true"}},
		MarketingTracking: &telemetrygatewayv1.EventMarketingTracking{
			Url: proto.String("https://example.com/search"), FirstSourceUrl: proto.String("https://example.com"),
			CohortId: proto.String("2026-09"), Referrer: proto.String("https://example.org"),
			LastSourceUrl: proto.String("https://example.com/pricing"), DeviceSessionId: proto.String("device-1"),
			SessionReferrer: proto.String("https://example.net"), SessionFirstUrl: proto.String("https://example.com/home"),
		},
		Interaction: &telemetrygatewayv1.EventInteraction{
			TraceId: proto.String("0af7651916cd43dd8448eb211c80319c"), InteractionId: proto.String("interaction-1"),
			Geolocation: &telemetrygatewayv1.EventInteraction_Geolocation{CountryCode: "DE"},
		},
	}
}

// legacyEvent returns an event as an instance sends it whose metadata are
// integers, with one key that is in the map of today as well.
func legacyEvent() *telemetrygatewayv1.Event {
	e := minimalEvent()
	e.Parameters = &telemetrygatewayv1.EventParameters{
		LegacyMetadata: map[string]int64{"both": 1, "count": -7, "large": 1<<53 + 1, "recordsPrivateMetadataTranscript": 1},
		Metadata:       map[string]float64{"both": 2.5},
	}
	return e
}

// newerEvent returns the bytes of an event of a newer sender, with fields that
// this version does not know at the top and inside.
func newerEvent(t testing.TB) []byte {
	e := minimalEvent()
	e.Source = &telemetrygatewayv1.EventSource{Server: &telemetrygatewayv1.EventSource_Server{Version: "7"}}
	e.Source.Server.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), "linux"))
	return protowire.AppendVarint(protowire.AppendTag(wire(t, e), 900, protowire.VarintType), 7)
}

// escapesEvent returns an event with text that JSON has to escape, and text
// that it must leave alone.
func escapesEvent() *telemetrygatewayv1.Event {
	const text = "<script>&amp;</script> \u2028\u2029 \x00\x01\x1f\x7f \b\f\n\r\t \"quoted\" back\\slash / 😀 é \ufffd"
	e := minimalEvent()
	e.Id = "id/" + text
	e.User = &telemetrygatewayv1.EventUser{AnonymousUserId: proto.String(text)}
	e.Parameters = &telemetrygatewayv1.EventParameters{
		Metadata: map[string]float64{text: 1e21, "recordsPrivateMetadata " + text: 1, "tiny": 5e-324, "zero": 0},
		PrivateMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			text: structpb.NewStringValue(text),
		}},
	}
	return e
}
