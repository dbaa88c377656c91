// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// gatewayLetter returns the dead letter that a gateway makes of an event, and the
// event's bytes.
func gatewayLetter(t *testing.T, event []byte) topic.Message {
	t.Helper()
	e := licensedEncoder(t, payload.KeyFingerprint)
	_, _, v := e.Append(nil, event, receivedAt)
	if v == nil {
		t.Fatal("nothing is wrong with the event")
	}
	data, labels := e.AppendDeadLetter(nil, event, receivedAt, v)
	return topic.Message{Key: labels.Key, Data: data}
}

// TestRejectedByGateway lands events that break a rule each, with all that can be
// read of them.
func TestRejectedByGateway(t *testing.T) {
	var whole warehouse.Row
	m := encode(t, licensedEncoder(t, payload.KeyFingerprint), typicalEvent())
	if v := Decode(&m, &whole); v != nil {
		t.Fatal(v)
	}
	whole.Payload, whole.ContentHash = nil, 0
	whole.LicenseFingerprint = "sha256:" + strings.Repeat("c0ffee00", 8)

	private := &structpb.Struct{}
	for range 200 {
		private = &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewStructValue(private)}}
	}
	for _, row := range []struct {
		reason string
		spoil  func(*telemetrygatewayv1.Event)
		want   func(*warehouse.Row)
	}{
		{
			limits.ReasonActionInvalid,
			func(e *telemetrygatewayv1.Event) { e.Action = "not valid" },
			func(r *warehouse.Row) { r.Action = "not valid" },
		},
		{
			limits.ReasonIDMissing,
			func(e *telemetrygatewayv1.Event) { e.Id = "" },
			func(r *warehouse.Row) { r.EventID, r.KeyHash = "", [16]byte{} },
		},
		{
			limits.ReasonIDTooLong,
			func(e *telemetrygatewayv1.Event) { e.Id = strings.Repeat("x", 500) },
			func(r *warehouse.Row) {
				r.EventID = strings.Repeat("x", 500)
				r.KeyHash = keyHash(r.Identity, r.EventID)
			},
		},
		{
			limits.ReasonTimestampInvalid,
			func(e *telemetrygatewayv1.Event) { e.Timestamp.Seconds = math.MaxInt64 },
			func(r *warehouse.Row) { r.RecordedAt = warehouse.Row{}.RecordedAt },
		},
		{
			limits.ReasonNotFinite,
			func(e *telemetrygatewayv1.Event) {
				e.Parameters.Metadata = map[string]float64{"a": 1, "b": math.NaN(), "c": math.Inf(-1)}
			},
			func(r *warehouse.Row) { r.Metadata = []warehouse.Metadatum{{Key: "a", Value: 1}} },
		},
		{
			limits.ReasonTooDeep,
			func(e *telemetrygatewayv1.Event) { e.Parameters.PrivateMetadata = private },
			func(r *warehouse.Row) {
				r.PrivateMetadata = []byte(strings.Repeat(`{"a":`, 200) + "{}" + strings.Repeat("}", 200))
			},
		},
	} {
		t.Run(row.reason, func(t *testing.T) {
			event := typicalEvent()
			row.spoil(event)
			wire, err := proto.Marshal(event)
			if err != nil {
				t.Fatal(err)
			}
			m := gatewayLetter(t, wire)
			var got warehouse.Rejected
			DecodeRejected(&m, &got)
			if got.Stage != "gateway" || got.Reason != row.reason || got.Field == "" || got.Message == "" || !bytes.Equal(got.Bytes, wire) {
				t.Errorf("rejected is %+v", got)
			}
			if got.RejectedID != payload.DeadLetterID(m.Data) {
				t.Errorf("ID is %x", got.RejectedID)
			}
			want := whole
			row.want(&want)
			if diff := diffRows(&want, &got.Row); diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("undecodable", func(t *testing.T) {
		wire, err := proto.Marshal(typicalEvent())
		if err != nil {
			t.Fatal(err)
		}
		wire = append(wire, 0xff)
		m := gatewayLetter(t, wire)
		var got warehouse.Rejected
		DecodeRejected(&m, &got)
		if got.Reason != limits.ReasonUndecodable || got.EventID != whole.EventID || got.KeyHash != whole.KeyHash ||
			got.Feature != "" || got.Source != whole.Source || got.LicenseID != whole.LicenseID ||
			!got.ReceivedAt.Equal(whole.ReceivedAt) || !bytes.Equal(got.Bytes, wire) {
			t.Errorf("rejected is %+v", got)
		}
	})
}

// TestRejectedByPipeline lands messages that could not land among the events.
func TestRejectedByPipeline(t *testing.T) {
	m := encode(t, licensedEncoder(t, payload.KeyFingerprint), typicalEvent())
	attributes := []payload.Label{
		{Key: "publisher.source", Value: "pinger"},
		{Key: "publisher.id", Value: "pinger"},
		{Key: "event.id", Value: "0190c7a5-6f00-7000-8000-000000000001"},
		{Key: "event.feature", Value: "search.results"},
		{Key: "event.action", Value: "executed"},
	}
	var whole warehouse.Row
	if v := Decode(&m, &whole); v != nil {
		t.Fatal(v)
	}
	bare := warehouse.Row{
		KeyHash: whole.KeyHash, Identity: whole.Identity, EventID: whole.EventID,
		Source: "managed_service", SourceID: "pinger", Feature: "search.results", Action: "executed",
	}
	otherKey := whole
	otherKey.Identity = "license/L-7f3a/other"
	otherKey.KeyHash = keyHash(otherKey.Identity, otherKey.EventID)

	for name, row := range map[string]struct {
		key    string
		data   string
		reason string
		want   warehouse.Row
	}{
		"conflict":      {m.Key, string(m.Data), limits.ReasonIDConflict, whole},
		"not JSON":      {m.Key, "\xff\x00", limits.ReasonPayloadInvalid, bare},
		"empty":         {m.Key, "", limits.ReasonPayloadInvalid, bare},
		"another's key": {"license/L-7f3a/other/x", string(m.Data), limits.ReasonPayloadInvalid, otherKey},
		"key not usable": {"\xff/x", "", limits.ReasonPayloadInvalid, func() warehouse.Row {
			r := bare
			r.Identity = "\ufffd"
			r.KeyHash = keyHash("\ufffd", r.EventID)
			return r
		}()},
	} {
		t.Run(name, func(t *testing.T) {
			v := &limits.Violation{Reason: row.reason, Field: "id", Message: "a test"}
			data, labels := payload.AppendUnlandable(nil, row.key, []byte(row.data), attributes, v)
			letter := topic.Message{Key: labels.Key, Data: data}
			var got warehouse.Rejected
			DecodeRejected(&letter, &got)
			if got.Stage != "pipeline" || got.Reason != row.reason || got.Field != "id" || got.Message != "a test" || string(got.Bytes) != row.data {
				t.Errorf("rejected is %+v", got)
			}
			if diff := diffRows(&row.want, &got.Row); diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
		})
	}

	// A payload that cannot land, for what is wrong in one of its parts.
	spoilt := bytes.Replace(m.Data, []byte(`"userId":"1234"`), []byte(`"userId":"x"`), 1)
	data, labels := payload.AppendUnlandable(nil, m.Key, spoilt, nil, invalid("", "is not the payload of an event"))
	var got warehouse.Rejected
	DecodeRejected(&topic.Message{Key: labels.Key, Data: data}, &got)
	if got.Source != whole.Source || got.LicenseID != whole.LicenseID || got.EventID != whole.EventID || got.KeyHash != whole.KeyHash ||
		!got.ReceivedAt.Equal(whole.ReceivedAt) || got.Payload != nil || !bytes.Equal(got.Bytes, spoilt) {
		t.Errorf("rejected is %+v", got)
	}
}

// TestRejectedForeign lands messages in the topic of dead letters that are none.
func TestRejectedForeign(t *testing.T) {
	for _, data := range []string{"", "secret", `{"event":"secret"}`, "\xff", strings.Repeat("[", 1_000_000)} {
		var got warehouse.Rejected
		DecodeRejected(&topic.Message{Key: "license/a/b/c", Data: []byte(data)}, &got)
		if got.Stage != "pipeline" || got.Reason != limits.ReasonPayloadInvalid || string(got.Bytes) != data ||
			strings.Contains(got.Message, "secret") || got.RejectedID != payload.DeadLetterID([]byte(data)) || got.Identity != "license/a/b" {
			t.Errorf("%.20q: rejected is %+v", data, got)
		}
	}
}
