// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

func TestDecodeOrigin(t *testing.T) {
	for _, s := range []sender{licensed(), unlicensed(), managedService()} {
		t.Run(s.Source, func(t *testing.T) {
			data, _ := encode(t, newEncoder(t, s, payload.KeyFingerprint), wire(t, fullEvent()))
			m, err := payload.Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			want := proto.Clone(s.metadata).(*telemetrygatewayv1.RecordEventsRequestMetadata)
			if l := want.GetIdentifier().GetLicensedInstance(); l != nil {
				l.LicenseKey = ""
			}
			if !proto.Equal(m.Metadata, want) {
				t.Errorf("metadata is %v, want %v", m.Metadata, want)
			}
			if diff := cmp.Diff(s.License, m.License, cmpopts.EquateApproxTime(0)); diff != "" {
				t.Errorf("licence (-want +got):\n%s", diff)
			}
			if m.Labels["publisher.trust"] != s.Trust || m.Labels["publisher.source"] != s.Source || m.Labels["publisher.id"] != s.ID {
				t.Errorf("labels are %v", m.Labels)
			}
		})
	}
}

// TestUnknownFieldsSurvive decodes the payload of an event with fields that
// this version does not know: they are among its unknown fields.
func TestUnknownFieldsSurvive(t *testing.T) {
	e := newEncoder(t, unlicensed(), payload.KeyFingerprint)
	data, _ := encode(t, e, newerEvent(t))
	m, err := payload.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	var want telemetrygatewayv1.Event
	if err := proto.Unmarshal(newerEvent(t), &want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(m.Event, &want) || len(m.Event.ProtoReflect().GetUnknown()) == 0 {
		t.Errorf("event is %v, want %v", m.Event, &want)
	}
}

// TestDecodeMergesLegacyMetadata also where the event is decoded from its bytes.
func TestDecodeMergesLegacyMetadata(t *testing.T) {
	event := protowire.AppendVarint(protowire.AppendTag(wire(t, legacyEvent()), 900, protowire.VarintType), 1)
	data, _ := encode(t, newEncoder(t, unlicensed(), payload.KeyFingerprint), event)
	m, err := payload.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	p := m.Event.GetParameters()
	if p.GetMetadata()["both"] != 2.5 || p.GetMetadata()["count"] != -7 || p.GetLegacyMetadata() != nil {
		t.Errorf("metadata is %v, legacy metadata %v", p.GetMetadata(), p.GetLegacyMetadata())
	}
}

// TestWire lists where unknown fields can hide. An event without any is never
// sent twice.
func TestWire(t *testing.T) {
	good := wire(t, fullEvent())
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 900, protowire.VarintType), 1)
	for _, row := range []struct {
		name  string
		event []byte
		want  bool
	}{
		{"none", good, false},
		{"repeated known field", append(bytes.Clone(good), wire(t, &telemetrygatewayv1.Event{Action: "again"})...), false},
		{"at the top", append(bytes.Clone(good), unknown...), true},
		{"in a message", field(bytes.Clone(good), 5, unknown), true},
		{"in a message of a message", field(bytes.Clone(good), 5, field(nil, 1, unknown)), true},
		{"in the timestamp", field(bytes.Clone(good), 2, unknown), true},
		{"in a map's entry", field(bytes.Clone(good), 6, field(nil, 5, unknown)), true},
		{"in private metadata", field(bytes.Clone(good), 6, field(nil, 3, unknown)), true},
		{"known field of another type", protowire.AppendVarint(protowire.AppendTag(bytes.Clone(good), 3, protowire.VarintType), 1), true},
		{"group", append(bytes.Clone(good), 0xa3, 0x38, 0xa4, 0x38), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			data, _ := encode(t, newEncoder(t, unlicensed(), payload.KeyFingerprint), row.event)
			var got struct{ Wire []byte }
			unmarshal(t, data, &got)
			if (got.Wire != nil) != row.want || row.want && !bytes.Equal(got.Wire, row.event) {
				t.Errorf("wire is %x, want it there: %v", got.Wire, row.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, data := range []string{
		``, `null`, `[]`, `{}`, `{"metadata":{},"event":{}}`, `{"metadata":{},"labels":{}}`, `{"event":{},"labels":{}}`,
		`{"metadata":{},"event":{"id":1},"labels":{}}`, `{"metadata":{"requestId":1},"event":{},"labels":{}}`,
		`{"metadata":{},"event":{},"labels":{"a":1}}`, `{"metadata":{},"event":{},"labels":{},"wire":"!"}`,
		`{"metadata":{},"event":{},"labels":{},"wire":"/w=="}`, `{"metadata":{},"event":{},"labels":{}} x`,
		`{"metadata":{"identifier":{"licensedInstance":{"license":1}}},"event":{},"labels":{}}`,
	} {
		if m, err := payload.Decode([]byte(data)); err == nil {
			t.Errorf("Decode(%s) = %v", data, m)
		}
	}
	for _, data := range []string{
		``, `null`, `{}`, `{"event":"","metadata":{},"labels":{}}`, `{"event":"!","reason":"x","metadata":{},"labels":{}}`,
		`{"event":"","reason":"x","labels":{}}`, `{"event":"","reason":"x","metadata":{},"labels":{},"receivedAt":"now"}`,
	} {
		if m, err := payload.DecodeDeadLetter([]byte(data)); err == nil {
			t.Errorf("DecodeDeadLetter(%s) = %v", data, m)
		}
	}
}

// TestDecodeIgnoresNews lets newer gateways add fields.
func TestDecodeIgnoresNews(t *testing.T) {
	if _, err := payload.Decode([]byte(`{"new":1,"metadata":{"new":1},"event":{"new":1},"labels":{"new":"1"}}`)); err != nil {
		t.Error(err)
	}
	if _, err := payload.DecodeDeadLetter([]byte(`{"new":1,"event":"","reason":"new","receivedAt":"2026-01-01T00:00:00Z","metadata":{},"labels":{}}`)); err != nil {
		t.Error(err)
	}
}

func unmarshal(t testing.TB, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}
