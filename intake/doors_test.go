// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	telemetryintakev1 "github.com/telemetrygateway/telemetry/gen/telemetryintake/v1"
	"github.com/telemetrygateway/telemetry/intake"
)

// wholeRequest is one event with everything that the contract has room for.
const wholeRequest = `{
	"client": {"name": "vscode", "version": "1.2"},
	"events": [{
		"timestamp": "2025-12-31T21:59:59.123456789Z",
		"feature": "search.results", "action": "clicked",
		"parameters": {
			"version": 3,
			"metadata": {"a": 1000, "b": -2.5},
			"privateMetadata": {"query": "secret", "deep": [{"a": null, "b": [true, 1.5, "x"]}]},
			"billingMetadata": {"product": "search", "category": "core"}
		},
		"marketingTracking": {
			"url": "1", "firstSourceUrl": "2", "cohortId": "3", "referrer": "4", "lastSourceUrl": "5",
			"deviceSessionId": "6", "sessionReferrer": "7", "sessionFirstUrl": "8"
		},
		"interactionId": "from-event"
	}],
	"idempotencyKey": "key"
}`

// TestBothDoors hands the same events to both doors, which record the same:
// every field, and the ID that follows from an idempotency key.
func TestBothDoors(t *testing.T) {
	for _, row := range []struct{ name, graphQL, connect string }{
		{
			"everything",
			`{
				"timestamp": "2025-12-31T23:59:59.123456789+02:00",
				"feature": "search.results", "action": "clicked",
				"source": {"client": "vscode", "clientVersion": "1.2"},
				"parameters": {
					"version": 3,
					"metadata": [{"key": "a", "value": 1e3}, {"key": "b", "value": -2.5}],
					"privateMetadata": {"query": "secret", "deep": [{"a": null, "b": [true, 1.5, "x"]}]},
					"billingMetadata": {"product": "search", "category": "core"},
					"interactionID": "from-event"
				},
				"marketingTracking": {
					"url": "1", "firstSourceURL": "2", "cohortID": "3", "referrer": "4", "lastSourceURL": "5",
					"deviceSessionID": "6", "sessionReferrer": "7", "sessionFirstURL": "8"
				}
			}`,
			wholeRequest,
		},
		{"nothing but names", simple, `{"client":{"name":"web"},"events":[{"feature":"search","action":"executed"}],"idempotencyKey":"key"}`},
		{
			"empty values",
			`{"feature":"search","action":"executed","source":{"client":"web","clientVersion":null},"parameters":{"version":0,"metadata":[],"privateMetadata":{},"billingMetadata":{"product":"","category":""},"interactionID":""},"marketingTracking":{"url":""}}`,
			`{"client":{"name":"web","version":""},"events":[{"timestamp":null,"feature":"search","action":"executed","parameters":{"version":0,"metadata":{},"privateMetadata":{},"billingMetadata":{}},"interactionId":"","marketingTracking":{"url":""}}],"idempotency_key":"key"}`,
		},
		{
			"half an emoji",
			`{"feature":"search","action":"executed","source":{"client":"web"},"parameters":{"version":0,"privateMetadata":{"q":"\ud83d","n":12345678901234567890}}}`,
			`{"client":{"name":"web"},"events":[{"feature":"search","action":"executed","parameters":{"privateMetadata":{"q":"\ud83d","n":12345678901234567890}}}],"idempotencyKey":"key"}`,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			var recorded []*telemetrygatewayv1.Event
			for _, in := range []struct {
				name string
				door *door
				sent *http.Request
			}{
				{"GraphQL", open(t, intake.Options{}), request(body(`[` + row.graphQL + `]`))},
				{"Connect, JSON", openConnect(t, intake.Options{}), connectRequest("application/json", row.connect)},
				{"Connect, binary", openConnect(t, intake.Options{}), connectRequest("application/proto", binary(t, row.connect))},
			} {
				in.sent.Header.Set("Idempotency-Key", "key")
				in.sent.Header.Set("X-Sourcegraph-Interaction-ID", "from-header")
				in.sent = in.sent.WithContext(telemetry.WithActor(in.sent.Context(), telemetry.Actor{UserID: 7, AnonymousUserID: "anonymous"}))
				if got := in.door.do(t, in.sent); got.Status != http.StatusOK || len(in.door.events.All()) != 1 {
					t.Fatalf("%s: %d %s", in.name, got.Status, got.Text)
				}
				recorded = append(recorded, in.door.events.Last())
				if diff := cmp.Diff(recorded[0], recorded[len(recorded)-1], protocmp.Transform()); diff != "" {
					t.Errorf("GraphQL -, %s +:\n%s", in.name, diff)
				}
				if got := in.door.requests[0]; got.Status != 200 || got.Recorded != 1 || got.Failed != 0 || got.Bytes == 0 || got.Invalid != nil {
					t.Errorf("%s: measured %+v", in.name, got)
				}
			}
			if row.name == "everything" {
				everyFieldSet(t, recorded[0].ProtoReflect(), "id", "source.server", "user", "feature_flags", "interaction.trace_id", "interaction.geolocation", "parameters.legacy_metadata")
			}
		})
	}
}

// everyFieldSet reports fields that are not set, without those that are not a
// client's to set.
func everyFieldSet(t *testing.T, m protoreflect.Message, but ...string) {
	t.Helper()
	var walk func(m protoreflect.Message, path string)
	walk = func(m protoreflect.Message, path string) {
		for i := range m.Descriptor().Fields().Len() {
			field := m.Descriptor().Fields().Get(i)
			at := path + string(field.Name())
			if slices.Contains(but, at) {
				continue
			}
			if !m.Has(field) {
				t.Errorf("%s has no %s", m.Descriptor().FullName(), at)
			}
			if field.Message() == nil || field.IsMap() || strings.HasPrefix(string(field.Message().FullName()), "google.") {
				continue
			}
			if field.IsList() {
				walk(m.Get(field).List().Get(0).Message(), at+".")
			} else {
				walk(m.Get(field).Message(), at+".")
			}
		}
	}
	walk(m, "")
}

// TestBothDoorsRefuse puts the same invalid event between two valid ones at both
// doors, which name the same rule and record the others.
func TestBothDoorsRefuse(t *testing.T) {
	event := func(rest string) string { return `{"feature":"search","action":"executed",` + rest + `}` }
	metadata := func(value string) (graphQL, connect string) {
		return event(`"source":{"client":"web"},"parameters":{"version":0,"metadata":[{"key":"secret","value":` + value + `}]}`),
			event(`"parameters":{"metadata":{"secret":` + value + `}}`)
	}
	private := func(value string) (graphQL, connect string) {
		in := `"parameters":{"version":0,"privateMetadata":{"secret":` + value + `}}`
		return event(`"source":{"client":"web"},` + in), event(in)
	}
	timestamp := func(value string) (graphQL, connect string) {
		return event(`"source":{"client":"web"},"parameters":{"version":0},"timestamp":` + value), event(`"timestamp":` + value)
	}
	both := func(graphQL, connect string) [2]string { return [2]string{graphQL, connect} }
	for _, row := range []struct {
		events [2]string
		want   string
	}{
		{[2]string{strings.Replace(simple, "search", "Secret search", 1), `{"feature":"Secret search","action":"executed"}`}, "feature_invalid feature"},
		{[2]string{strings.Replace(simple, "executed", "s", 1), `{"feature":"search","action":"s"}`}, "action_invalid action"},
		{both(metadata(`true`)), "metadata_not_number parameters.metadata"},
		{both(metadata(`null`)), "metadata_not_number parameters.metadata"},
		{both(metadata(`"secret"`)), "metadata_not_number parameters.metadata"},
		{both(metadata(`{"secret":1}`)), "metadata_not_number parameters.metadata"},
		{both(private(strings.Repeat("[", 33) + `"secret"` + strings.Repeat("]", 33))), "too_deep parameters.private_metadata"},
		{both(timestamp(`"secret"`)), "timestamp_invalid timestamp"},
		{both(timestamp(`1700000000`)), "timestamp_invalid timestamp"},
		{both(timestamp(`"0000-01-01T00:00:00Z"`)), "timestamp_invalid timestamp"},
	} {
		t.Run(row.events[1], func(t *testing.T) {
			want := []string{"1 " + row.want, "3 " + row.want}
			graphQL, connect := open(t, intake.Options{}), openConnect(t, intake.Options{})
			got := graphQL.do(t, request(body(`[`+simple+`,`+row.events[0]+`,`+simple+`,`+row.events[0]+`]`)))
			if diff := cmp.Diff(want, got.codes()); diff != "" {
				t.Errorf("GraphQL: %s\n%s", diff, got.Text)
			}
			const valid = `{"feature":"search","action":"executed"}`
			answer := connect.call(t, connectRequest("application/json", `{"client":{"name":"web"},"events":[`+valid+`,`+row.events[1]+`,`+valid+`,`+row.events[1]+`]}`))
			if diff := cmp.Diff(want, answer.codes()); diff != "" {
				t.Errorf("Connect: %s\n%s", diff, answer.Text)
			}
			if both := answer.Text + connect.log.String(); strings.Contains(both, "ecret ") || strings.Contains(both, "secret") {
				t.Errorf("content in %s", both)
			}
			reason, _, _ := strings.Cut(row.want, " ")
			for _, d := range []*door{graphQL, connect} {
				r := d.requests[0]
				if len(d.events.All()) != 2 || r.Status != http.StatusOK || r.Recorded != 2 || r.Failed != 0 || !cmp.Equal(r.Invalid, map[string]int{reason: 2}) {
					t.Errorf("%d events recorded, measured %+v", len(d.events.All()), r)
				}
			}
		})
	}
}

// TestNoIdentityInContract walks the contract: a client has no way to say what is
// not its own to say. And the event of TestBothDoors has all that it can say.
func TestNoIdentityInContract(t *testing.T) {
	file := (&telemetryintakev1.RecordEventsRequest{}).ProtoReflect().Descriptor().ParentFile()
	mayNot := []string{"user", "actor", "server", "flag", "trace", "geolocation", "country", "service", "token", "instance"}
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		for j := range m.Fields().Len() {
			name := string(m.Fields().Get(j).Name())
			for _, word := range mayNot {
				if name == "id" || strings.Contains(name, word) {
					t.Errorf("%s has a field %s", m.FullName(), name)
				}
			}
		}
	}
	var whole telemetryintakev1.RecordEventsRequest
	if err := protojson.Unmarshal([]byte(wholeRequest), &whole); err != nil {
		t.Fatal(err)
	}
	everyFieldSet(t, whole.ProtoReflect())
}

// binary returns what a request is in binary.
func binary(t testing.TB, json string) string {
	t.Helper()
	var m telemetryintakev1.RecordEventsRequest
	// Binary has no half emojis: browsers make the same of them.
	if err := protojson.Unmarshal([]byte(strings.ReplaceAll(json, `\ud83d`, `\ufffd`)), &m); err != nil {
		t.Fatal(err)
	}
	encoded, err := proto.Marshal(&m)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}
