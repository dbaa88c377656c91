// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

var receivedAt = time.Date(2026, 3, 1, 11, 30, 15, 123456789, time.UTC)

// published returns the messages that the documentation of the payload shows, by
// name, as gateways publish them.
func published(t testing.TB) map[string]topic.Message {
	t.Helper()
	files, err := filepath.Glob("../payload/testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages in ../payload/testdata: %v", err)
	}
	messages := map[string]topic.Message{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var in struct {
			Key  string
			Data json.RawMessage
		}
		var compact bytes.Buffer
		if err := json.Unmarshal(data, &in); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := json.Compact(&compact, in.Data); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		messages[strings.TrimSuffix(filepath.Base(file), ".json")] = topic.Message{Key: in.Key, Data: compact.Bytes()}
	}
	return messages
}

// isDeadLetter tells dead letters from payloads among the published messages.
func isDeadLetter(name string) bool { return strings.HasPrefix(name, "dead-letter") }

// licensedEncoder encodes events of a licensed instance.
func licensedEncoder(t testing.TB, f payload.KeyForm) *payload.Encoder {
	t.Helper()
	e, err := payload.NewEncoder(
		&telemetrygatewayv1.RecordEventsRequestMetadata{
			RequestId: "request-1",
			Identifier: &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_LicensedInstance{
				LicensedInstance: &telemetrygatewayv1.Identifier_LicensedInstanceIdentifier{
					LicenseKey: "a2V5", InstanceId: "site-1", ExternalUrl: "https://code.example.com/\"quoted\"",
				},
			}},
		},
		payload.Sender{
			Source: "licensed_instance", ID: "site-1", Identity: "license/L-7f3a/site-1", Trust: "licensed",
			License: &payload.License{
				ID: "L-7f3a", KeyID: "2026-a", Fingerprint: "sha256:" + strings.Repeat("c0ffee00", 8), Version: 4,
				Tags: []string{"plan:enterprise", "customer:acme & sons"}, Users: 250,
				CreatedAt: receivedAt.AddDate(0, -2, 0), ExpiresAt: receivedAt.AddDate(1, 0, 0), Status: "valid",
			},
		}, f)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// encode returns the message of an event that breaks no rule.
func encode(t testing.TB, e *payload.Encoder, event *telemetrygatewayv1.Event) topic.Message {
	t.Helper()
	wire, err := proto.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	data, labels, v := e.Append(nil, wire, receivedAt)
	if v != nil {
		t.Fatal(v)
	}
	return topic.Message{Key: labels.Key, Data: data}
}

// typicalEvent is like most of those that instances send.
func typicalEvent() *telemetrygatewayv1.Event {
	return &telemetrygatewayv1.Event{
		Id: "0190c7a5-6f00-7000-8000-000000000001", Feature: "search.results", Action: "executed",
		Timestamp: &timestamppb.Timestamp{Seconds: 1_772_366_400, Nanos: 250_000_000},
		Source: &telemetrygatewayv1.EventSource{
			Server: &telemetrygatewayv1.EventSource_Server{Version: "6.4.1203"},
			Client: &telemetrygatewayv1.EventSource_Client{Name: "web", Version: proto.String("1.82.4")},
		},
		Parameters: &telemetrygatewayv1.EventParameters{
			Version: 2,
			Metadata: map[string]float64{
				"durationMs": 13_204, "resultCount": 42, "position": 7, "queryLength": 113, "acceptedRatio": 0.48190236,
			},
		},
		User: &telemetrygatewayv1.EventUser{
			UserId: proto.Int64(1234), AnonymousUserId: proto.String("0190c7a5-6f00-7000-8000-00000000000a"),
		},
		FeatureFlags: &telemetrygatewayv1.EventFeatureFlags{Flags: map[string]string{
			"search-ranking-v2": "true", "new-navigation": "false", "context-panel": "true",
		}},
		Interaction: &telemetrygatewayv1.EventInteraction{
			TraceId:       proto.String("0af7651916cd43dd8448eb211c80319c"),
			InteractionId: proto.String("0190c7a5-6f00-7000-8000-00000000000b"),
		},
	}
}

// random makes events that break no rule.
type random struct{ *rand.Rand }

func (r random) event() *telemetrygatewayv1.Event {
	e := &telemetrygatewayv1.Event{}
	r.fill(e.ProtoReflect())
	e.Id, e.Feature, e.Action = "id"+r.text(), "feature", "action"
	if e.Timestamp == nil {
		e.Timestamp = r.timestamp()
	}
	return e
}

// fill sets each field of m, or does not, at even odds. It learns of new fields
// from the descriptor.
func (r random) fill(m protoreflect.Message) {
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		switch {
		case r.IntN(2) == 0:
		case field.IsMap():
			for range r.IntN(20) {
				m.Mutable(field).Map().Set(protoreflect.ValueOfString(r.text()).MapKey(), r.scalar(field.MapValue().Kind()))
			}
		case field.Message() == nil:
			m.Set(field, r.scalar(field.Kind()))
		case field.Message().FullName() == "google.protobuf.Timestamp":
			m.Set(field, protoreflect.ValueOfMessage(r.timestamp().ProtoReflect()))
		case field.Message().FullName() == "google.protobuf.Struct":
			m.Set(field, protoreflect.ValueOfMessage(r.object(1).ProtoReflect()))
		default:
			r.fill(m.Mutable(field).Message())
		}
	}
}

func (r random) scalar(k protoreflect.Kind) protoreflect.Value {
	switch k {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(r.text())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(r.Uint32()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(r.Uint64()))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(r.number())
	}
	panic(fmt.Sprintf("the contract has a field of kind %v: teach random about it", k))
}

func (r random) number() float64 {
	if r.IntN(2) == 0 {
		return float64(r.IntN(1000) - 500)
	}
	for {
		if n := math.Float64frombits(r.Uint64()); !math.IsNaN(n) && !math.IsInf(n, 0) {
			return n
		}
	}
}

func (r random) text() string {
	var b strings.Builder
	for range r.IntN(16) {
		switch r.IntN(3) {
		case 0:
			b.WriteRune(rune(r.IntN(0x80)))
		case 1:
			b.WriteRune([]rune("\"\\/<>&\u2028\u2029\u202e\ufffd\x00 😀")[r.IntN(12)])
		default:
			b.WriteRune(rune('a' + r.IntN(26)))
		}
	}
	return b.String()
}

func (r random) timestamp() *timestamppb.Timestamp {
	const first, last = -62135596800, 253402300799
	return &timestamppb.Timestamp{Seconds: first + r.Int64N(last-first+1), Nanos: r.Int32N(1_000_000_000)}
}

func (r random) object(depth int) *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for range r.IntN(4) {
		s.Fields[r.text()] = r.value(depth)
	}
	return s
}

func (r random) value(depth int) *structpb.Value {
	kinds := 6
	if depth == limits.Depth {
		kinds = 4
	}
	switch r.IntN(kinds) {
	case 0:
		return structpb.NewNullValue()
	case 1:
		return structpb.NewBoolValue(r.IntN(2) == 0)
	case 2:
		return structpb.NewNumberValue(r.number())
	case 3:
		return structpb.NewStringValue(r.text())
	case 4:
		return structpb.NewStructValue(r.object(depth + 1))
	}
	list := &structpb.ListValue{}
	for range r.IntN(3) {
		list.Values = append(list.Values, r.value(depth+1))
	}
	return structpb.NewListValue(list)
}
