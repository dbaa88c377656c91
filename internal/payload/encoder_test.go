// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

func TestParseKeyForm(t *testing.T) {
	for _, s := range []string{"fingerprint", "full", "none"} {
		if f, err := payload.ParseKeyForm(s); err != nil || string(f) != s {
			t.Errorf("ParseKeyForm(%q) = %q, %v", s, f, err)
		}
	}
	for _, s := range []string{"", "FULL", "hash"} {
		if f, err := payload.ParseKeyForm(s); err == nil || f != "" {
			t.Errorf("ParseKeyForm(%q) = %q, %v, want an error", s, f, err)
		}
	}
}

func TestNewEncoderRefuses(t *testing.T) {
	type metadata = telemetrygatewayv1.RecordEventsRequestMetadata
	for _, row := range []struct {
		name   string
		change func(*sender) payload.KeyForm
	}{
		{"unknown form", func(*sender) payload.KeyForm { return "hash" }},
		{"no metadata", func(s *sender) payload.KeyForm { s.metadata = nil; return payload.KeyFull }},
		{"no identifier", func(s *sender) payload.KeyForm { s.metadata.Identifier = nil; return payload.KeyFull }},
		{"no arm", func(s *sender) payload.KeyForm {
			s.metadata.Identifier = &telemetrygatewayv1.Identifier{}
			return payload.KeyFull
		}},
		{"licensed without licence", func(s *sender) payload.KeyForm { s.License = nil; return payload.KeyFull }},
		{"licence without licensed", func(s *sender) payload.KeyForm { s.metadata = unlicensed().metadata; return payload.KeyFull }},
		{"no source", func(s *sender) payload.KeyForm { s.Source = ""; return payload.KeyFull }},
		{"no identity", func(s *sender) payload.KeyForm { s.Identity = ""; return payload.KeyFull }},
		{"no trust", func(s *sender) payload.KeyForm { s.Trust = ""; return payload.KeyFull }},
		{"source too long", func(s *sender) payload.KeyForm { s.Source = strings.Repeat("x", 129); return payload.KeyFull }},
		{"ID too long", func(s *sender) payload.KeyForm { s.ID = strings.Repeat("x", 129); return payload.KeyFull }},
		{"identity too long", func(s *sender) payload.KeyForm { s.Identity = strings.Repeat("x", 513); return payload.KeyFull }},
		{"metadata too long", func(s *sender) payload.KeyForm {
			s.metadata.RequestId = strings.Repeat("\x01", limits.MetadataBytes/6)
			return payload.KeyFull
		}},
		{"ID is not UTF-8", func(s *sender) payload.KeyForm { s.ID = "\xff"; return payload.KeyFull }},
		{"request ID is not UTF-8", func(s *sender) payload.KeyForm { s.metadata.RequestId = "\xff"; return payload.KeyFull }},
		{"licence key is not UTF-8", func(s *sender) payload.KeyForm {
			s.metadata.GetIdentifier().GetLicensedInstance().LicenseKey = "\xff"
			return payload.KeyFull
		}},
		{"tag is not UTF-8", func(s *sender) payload.KeyForm { s.License.Tags = []string{"\xff"}; return payload.KeyFull }},
		{"status is not UTF-8", func(s *sender) payload.KeyForm { s.License.Status = "\xff"; return payload.KeyFull }},
		{"fingerprint is not UTF-8", func(s *sender) payload.KeyForm { s.License.Fingerprint = "\xff"; return payload.KeyFull }},
		{"time without a form in JSON", func(s *sender) payload.KeyForm {
			s.License.ExpiresAt = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
			return payload.KeyFull
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := licensed()
			s.metadata = proto.Clone(s.metadata).(*metadata)
			form := row.change(&s)
			if _, err := payload.NewEncoder(s.metadata, s.Sender, form); err == nil {
				t.Error("there is no error")
			}
		})
	}
}

// TestKeyForms looks for the licence key and its fingerprint in whole messages.
func TestKeyForms(t *testing.T) {
	for _, row := range []struct {
		form             payload.KeyForm
		key, fingerprint bool
	}{
		{payload.KeyFingerprint, false, true},
		{payload.KeyFull, true, true},
		{payload.KeyNone, false, false},
	} {
		e := newEncoder(t, licensed(), row.form)
		data, _ := encode(t, e, wire(t, minimalEvent()))
		letter, _ := e.AppendDeadLetter(nil, nil, receivedAt, &limits.Violation{Reason: limits.ReasonIDMissing})
		for _, message := range [][]byte{data, letter} {
			if got := bytes.Contains(message, []byte(`"licenseKey":"c2lnbmVk"`)); got != row.key {
				t.Errorf("%s: the key is there: %v, want %v", row.form, got, row.key)
			}
			if got := bytes.Contains(message, []byte("c0ffee")); got != row.fingerprint {
				t.Errorf("%s: the fingerprint is there: %v, want %v", row.form, got, row.fingerprint)
			}
		}
	}
}

func TestAttributes(t *testing.T) {
	many := map[string]float64{}
	for i := range 150 {
		many[fmt.Sprintf("recordsPrivateMetadata%03d", i)] = 1
	}
	longest := "recordsPrivateMetadata" + strings.Repeat("x", limits.AttributeKeyBytes-len("event.recordsPrivateMetadata"))
	fixed := []payload.Label{
		{Key: "publisher.source", Value: "unlicensed_instance"},
		{Key: "publisher.id", Value: "site-2"},
		{Key: "event.id", Value: minimalEvent().Id},
		{Key: "event.feature", Value: "cody.chat"},
		{Key: "event.action", Value: "opened"},
		{Key: "event.hasPrivateMetadata", Value: "false"},
	}
	private := fixed[:5:5]
	private = append(private, payload.Label{Key: "event.hasPrivateMetadata", Value: "true"})
	var first []payload.Label
	for i := range limits.Attributes - len(fixed) {
		first = append(first, payload.Label{Key: fmt.Sprintf("event.recordsPrivateMetadata%03d", i), Value: "true"})
	}
	with := func(base []payload.Label, keys ...string) []payload.Label {
		all := base[:len(base):len(base)]
		for _, key := range keys {
			all = append(all, payload.Label{Key: key, Value: "true"})
		}
		return all
	}

	for _, row := range []struct {
		name       string
		parameters *telemetrygatewayv1.EventParameters
		want       []payload.Label
	}{
		{"no parameters", nil, fixed},
		{"empty parameters", &telemetrygatewayv1.EventParameters{}, fixed},
		{
			"empty private metadata",
			&telemetrygatewayv1.EventParameters{PrivateMetadata: &structpb.Struct{}}, private,
		},
		{
			"prefix, value and length",
			&telemetrygatewayv1.EventParameters{Metadata: map[string]float64{
				"recordsPrivateMetadata": 1, "recordsPrivateMetadataX": 1, "recordsPrivateMetadataXY": 0.5,
				"recordsPrivateMetadataZero": 0, "recordsPrivateMetadataLess": -1, "RecordsPrivateMetadataXY": 1, "other": 1,
			}},
			with(fixed, "event.recordsPrivateMetadataXY"),
		},
		{
			"legacy metadata count, today's win",
			&telemetrygatewayv1.EventParameters{
				LegacyMetadata: map[string]int64{"recordsPrivateMetadataOld": 1, "recordsPrivateMetadataBoth": 1},
				Metadata:       map[string]float64{"recordsPrivateMetadataBoth": 0},
			},
			with(fixed, "event.recordsPrivateMetadataOld"),
		},
		{
			"longest key", &telemetrygatewayv1.EventParameters{Metadata: map[string]float64{longest: 1, longest + "x": 1}},
			with(fixed, "event."+longest),
		},
		{"as many as fit, sorted", &telemetrygatewayv1.EventParameters{Metadata: many}, append(fixed[:6:6], first...)},
	} {
		t.Run(row.name, func(t *testing.T) {
			event := minimalEvent()
			event.Parameters = row.parameters
			data, labels := encode(t, newEncoder(t, unlicensed(), payload.KeyFingerprint), wire(t, event))
			if diff := cmp.Diff(row.want, labels.Attributes); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			m, err := payload.Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"receivedAt": "2026-03-01T11:30:15.123456789Z", "publisher.trust": "unlicensed"}
			for _, l := range row.want {
				want[l.Key] = l.Value
			}
			if diff := cmp.Diff(want, m.Labels); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSenderAttributes(t *testing.T) {
	s := licensed()
	s.ID, s.License.ID = "", strings.Repeat("x", limits.AttributeValueBytes+1)
	_, labels := encode(t, newEncoder(t, s, payload.KeyFingerprint), wire(t, minimalEvent()))
	for _, a := range labels.Attributes {
		if a.Key == "publisher.id" || a.Key == "license.id" {
			t.Errorf("%s is an attribute though it is empty or too long", a.Key)
		}
	}
}

func TestKey(t *testing.T) {
	e := newEncoder(t, unlicensed(), payload.KeyFingerprint)
	for id, want := range map[string]string{
		"a":                                 "unlicensed/site-2/a",
		"a/b":                               "unlicensed/site-2/a%2Fb",
		"a%2F":                              "unlicensed/site-2/a%252F",
		"é \n":                              "unlicensed/site-2/%C3%A9%20%0A",
		"../x":                              "unlicensed/site-2/..%2Fx",
		strings.Repeat("\u2028", 42) + "xx": "unlicensed/site-2/" + strings.Repeat("%E2%80%A8", 42) + "xx",
	} {
		event := minimalEvent()
		event.Id = id
		if _, labels := encode(t, e, wire(t, event)); labels.Key != want || labels.EventID != id {
			t.Errorf("key is %q and ID %q, want %q and %q", labels.Key, labels.EventID, want, id)
		}
	}
}

// TestEventIsProtojson holds random events against protojson.
func TestEventIsProtojson(t *testing.T) {
	random := newRandom(1)
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	for range 2000 {
		event := random.event()
		data, labels := encode(t, e, wire(t, event))

		p := event.GetParameters()
		for key, n := range p.GetLegacyMetadata() {
			if _, ok := p.Metadata[key]; !ok {
				if p.Metadata == nil {
					p.Metadata = map[string]float64{}
				}
				p.Metadata[key] = float64(n)
			}
		}
		if p != nil {
			p.LegacyMetadata = nil
		}
		text, err := protojson.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		var want any
		unmarshal(t, text, &want)
		var got struct {
			Event any
			Wire  *string
		}
		unmarshal(t, data, &got)
		if diff := cmp.Diff(want, got.Event); diff != "" || got.Wire != nil {
			t.Fatalf("event (-protojson +payload, wire %v):\n%s", got.Wire, diff)
		}

		m, err := payload.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(m.Event, event) {
			t.Fatalf("decoded event is %v, want %v", m.Event, event)
		}
		for _, a := range labels.Attributes {
			if m.Labels[a.Key] != a.Value {
				t.Fatalf("label %q is %q, but the attribute is %q", a.Key, m.Labels[a.Key], a.Value)
			}
		}
		if labels.EventID != event.Id || m.Labels["event.id"] != event.Id || m.Labels["event.feature"] != event.Feature {
			t.Fatalf("labels %v are not of event %v", m.Labels, event)
		}
	}
}

// TestEncoderReuse encodes different events with one encoder: nothing of one
// may show in another, and dst only grows.
func TestEncoderReuse(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	large := fullEvent()
	large.User.AnonymousUserId = proto.String(strings.Repeat("x", 1<<20))
	bad := fullEvent()
	bad.Parameters.Metadata["nan"] = math.NaN()
	dst := []byte("before")
	for _, event := range []*telemetrygatewayv1.Event{fullEvent(), minimalEvent(), large, bad, legacyEvent(), bad, minimalEvent()} {
		fresh, freshLabels, freshV := newEncoder(t, licensed(), payload.KeyFingerprint).Append(nil, wire(t, event), receivedAt)
		before := bytes.Clone(dst)
		var labels payload.Labels
		var v *limits.Violation
		dst, labels, v = e.Append(dst, wire(t, event), receivedAt)
		if diff := cmp.Diff(freshLabels, labels) + cmp.Diff(freshV, v); diff != "" {
			t.Errorf("labels or violation differ from those of a new encoder:\n%s", diff)
		}
		if !bytes.Equal(dst, append(before, fresh...)) {
			t.Error("the payload differs from that of a new encoder, or dst was changed")
		}
	}
}

// TestReceivedAt encodes with one encoder at different times.
func TestReceivedAt(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	event := wire(t, minimalEvent())
	utc := receivedAt.UTC()
	for _, at := range []time.Time{{}, receivedAt, utc, utc.Add(1), utc.Add(time.Hour), utc, utc.Truncate(time.Second), {}} {
		data, _, v := e.Append(nil, event, at)
		want, _, _ := payload.EncodePlain(e, nil, event, at)
		if v != nil || !bytes.Equal(data, want) {
			t.Errorf("received at %v: %s, %v, want %s", at, data, v, want)
		}
	}
}
