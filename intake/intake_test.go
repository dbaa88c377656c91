// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/intake"
	"github.com/telemetrygateway/telemetry/telemetrytest"
)

// now is when everything happens.
var now = time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC)

// door is a handler with what it wrote.
type door struct {
	http.Handler
	events   *telemetrytest.Events
	log      *strings.Builder
	requests []intake.Request
}

func open(t testing.TB, o intake.Options) *door {
	_, events := telemetrytest.New(t)
	return openOn(events, o)
}

// openOn opens a door whose events go to a store.
func openOn(store telemetry.Store, o intake.Options) *door {
	return newDoor(store, o, intake.GraphQL)
}

// openConnect opens a door for Connect.
func openConnect(t testing.TB, o intake.Options) *door {
	_, events := telemetrytest.New(t)
	return newDoor(events, o, func(r *telemetry.Recorder, o intake.Options) http.Handler {
		path, handler := intake.Connect(r, o)
		mux := http.NewServeMux()
		mux.Handle(path, handler)
		return mux
	})
}

func newDoor(store telemetry.Store, o intake.Options, open func(*telemetry.Recorder, intake.Options) http.Handler) *door {
	d := &door{log: &strings.Builder{}}
	d.events, _ = store.(*telemetrytest.Events)
	o.Logger = slog.New(slog.NewTextHandler(d.log, nil))
	var mu sync.Mutex
	o.OnRequest = func(_ context.Context, r intake.Request) {
		mu.Lock()
		defer mu.Unlock()
		d.requests = append(d.requests, r)
	}
	r := telemetry.New(telemetry.Options{ServerVersion: "1.2.3", Now: func() time.Time { return now }}, store)
	d.Handler = open(r, o)
	return d
}

// response is what a client sees.
type response struct {
	Status int
	Header http.Header
	Text   string
	Data   json.RawMessage
	Errors []struct {
		Message    string
		Path       []any
		Extensions map[string]any
	}
}

func (d *door) do(t testing.TB, r *http.Request) *response {
	t.Helper()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	text, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	answer := &response{Status: w.Code, Header: w.Header(), Text: string(text)}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(text, answer); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	return answer
}

func request(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/.api/graphql?RecordTelemetryEvents", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// mutation is what all clients in the field send.
const mutation = `mutation %s($events: [TelemetryEventInput!]!) { telemetry { recordEvents(events: $events) { alwaysNil } } }`

func body(events string) string {
	return fmt.Sprintf(`{"query":%q,"variables":{"events":%s}}`, fmt.Sprintf(mutation, "RecordTelemetryEvents"), events)
}

// codes returns what the errors say about events: index, reason, field.
func (r *response) codes() []string {
	var codes []string
	for _, e := range r.Errors {
		x := e.Extensions
		if x["code"] != "INVALID_EVENT" {
			codes = append(codes, fmt.Sprint(x["code"]))
			continue
		}
		codes = append(codes, fmt.Sprintf("%v %v %v", x["index"], x["reason"], x["field"]))
	}
	return codes
}

const simple = `{"feature":"search","action":"executed","source":{"client":"web"},"parameters":{"version":0}}`

const recordedData = `{"telemetry":{"recordEvents":{"alwaysNil":null}}}`

// TestWholeEvent sends an event that has everything.
func TestWholeEvent(t *testing.T) {
	d := open(t, intake.Options{})
	r := request(body(`[{
		"timestamp": "2025-12-31T23:59:59.123456789+02:00",
		"feature": "search.results", "action": "clicked",
		"source": {"client": "vscode", "clientVersion": "1.2"},
		"parameters": {
			"version": 3,
			"metadata": [{"key": "a", "value": 1}, {"key": "b", "value": -2.5}, {"key": "a", "value": 1e3}],
			"privateMetadata": {"query": "secret", "deep": [{"a": null, "b": [true, 1.5, "x"]}], "value": null},
			"billingMetadata": {"product": "search", "category": "core"},
			"interactionID": "from-parameters"
		},
		"marketingTracking": {
			"url": "1", "firstSourceURL": "2", "cohortID": "3", "referrer": "4", "lastSourceURL": "5",
			"deviceSessionID": "6", "sessionReferrer": "7", "sessionFirstURL": "8"
		}
	}]`))
	r.Header.Set("X-Sourcegraph-Interaction-ID", "from-header")
	r = r.WithContext(telemetry.WithActor(r.Context(), telemetry.Actor{UserID: 7, AnonymousUserID: "anonymous"}))
	got := d.do(t, r)
	if got.Status != http.StatusOK || string(got.Data) != recordedData || got.Errors != nil {
		t.Fatalf("%d %s", got.Status, got.Text)
	}
	want := &telemetrygatewayv1.Event{}
	if err := protojson.Unmarshal([]byte(`{
		"timestamp": "2025-12-31T21:59:59.123456789Z",
		"feature": "search.results", "action": "clicked",
		"source": {"server": {"version": "1.2.3"}, "client": {"name": "vscode", "version": "1.2"}},
		"parameters": {
			"version": 3,
			"metadata": {"a": 1000, "b": -2.5},
			"privateMetadata": {"query": "secret", "deep": [{"a": null, "b": [true, 1.5, "x"]}], "value": null},
			"billingMetadata": {"product": "search", "category": "core"}
		},
		"user": {"userId": 7, "anonymousUserId": "anonymous"},
		"marketingTracking": {
			"url": "1", "firstSourceUrl": "2", "cohortId": "3", "referrer": "4", "lastSourceUrl": "5",
			"deviceSessionId": "6", "sessionReferrer": "7", "sessionFirstUrl": "8"
		},
		"interaction": {"interactionId": "from-parameters"}
	}`), want); err != nil {
		t.Fatal(err)
	}
	event := d.events.One("search.results", "clicked")
	if len(event.Id) != 36 {
		t.Errorf("event ID %q", event.Id)
	}
	event.Id = ""
	if diff := cmp.Diff(want, event, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// TestShippedClients sends what each client in the field sends.
func TestShippedClients(t *testing.T) {
	type sent struct{ name, contentType, event, header string }
	for _, row := range []sent{
		{"ExportTelemetryEvents", "application/json", simple, "x"},
		{"RecordTelemetryEvents", "application/json; charset=utf-8", `{"timestamp":null,"feature":"cody","action":"ran","source":{"client":"VSCode.Cody","clientVersion":"1.0"},"parameters":{"version":1,"metadata":[],"privateMetadata":null,"billingMetadata":null,"interactionID":null},"marketingTracking":null}`, "x"},
		{"ExportTelemetryEventsFromBrowserExtension", "text/plain;charset=UTF-8", simple, "x"},
		{"ExportTelemetryEventsFromAbout", "", simple, "x"},
		{"", "application/json", simple, "x"},
		{"BeforeInteractionIDs", "application/json", `{"feature":"search","action":"executed","source":{"client":"web","clientVersion":null},"parameters":{"version":0,"metadata":[{"key":"n","value":1}]}}`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := open(t, intake.Options{})
			r := httptest.NewRequest(http.MethodPost, "/.api/graphql?"+row.name, strings.NewReader(
				fmt.Sprintf(`{"query":%q,"operationName":null,"extensions":{},"variables":{"events":[%s]}}`, fmt.Sprintf(mutation, row.name), row.event)))
			if row.contentType != "" {
				r.Header.Set("Content-Type", row.contentType)
			}
			r.Header.Set("X-Sourcegraph-Interaction-ID", row.header)
			if got := d.do(t, r); got.Status != http.StatusOK || string(got.Data) != recordedData || got.Errors != nil {
				t.Fatalf("%d %s", got.Status, got.Text)
			}
			event := d.events.Last()
			if got := event.GetInteraction().GetInteractionId(); got != row.header {
				t.Errorf("interaction ID %q, want %q", got, row.header)
			}
			if !event.Timestamp.AsTime().Equal(now) {
				t.Errorf("timestamp %v", event.Timestamp.AsTime())
			}
		})
	}
}

// TestPrivateMetadata sends every kind of JSON as private metadata.
func TestPrivateMetadata(t *testing.T) {
	for sent, want := range map[string]string{
		`{"a":1}`:              `{"a":1}`,
		`{}`:                   `{}`,
		`[1,"a",null,{"b":2}]`: `{"value":[1,"a",null,{"b":2}]}`,
		`"text"`:               `{"value":"text"}`,
		`12.5`:                 `{"value":12.5}`,
		`true`:                 `{"value":true}`,
		`null`:                 `null`,
		`{"a":1,"a":2}`:        `{"a":2}`,
		`"\ud800"`:             `{"value":"\ufffd"}`, // what browsers make of half an emoji
	} {
		d := open(t, intake.Options{})
		got := d.do(t, request(body(`[{"feature":"search","action":"executed","source":{"client":"web"},"parameters":{"version":0,"privateMetadata":`+sent+`}}]`)))
		if got.Errors != nil {
			t.Errorf("%s: %s", sent, got.Text)
			continue
		}
		private := d.events.Last().Parameters.PrivateMetadata
		if want == "null" {
			if private != nil {
				t.Errorf("%s: %v", sent, private)
			}
			continue
		}
		encoded, err := protojson.Marshal(private)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if json.Unmarshal(encoded, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !cmp.Equal(a, b) {
			t.Errorf("%s became %s, want %s", sent, encoded, want)
		}
	}
}

// TestInvalidNeighbours puts each kind of invalid event between two valid ones.
func TestInvalidNeighbours(t *testing.T) {
	event := func(parameters string) string {
		return `{"feature":"search","action":"executed","source":{"client":"web"},"parameters":` + parameters + `}`
	}
	metadata := func(value string) string {
		return event(`{"version":0,"metadata":[{"key":"secret","value":` + value + `}]}`)
	}
	for _, row := range []struct{ event, want string }{
		{strings.Replace(simple, "search", "Secret search", 1), "feature_invalid feature"},
		{strings.Replace(simple, "executed", "s", 1), "action_invalid action"},
		{metadata(`true`), "metadata_not_number parameters.metadata"},
		{metadata(`"12"`), "metadata_not_number parameters.metadata"},
		{metadata(`null`), "metadata_not_number parameters.metadata"},
		{metadata(`[1]`), "metadata_not_number parameters.metadata"},
		{metadata(`{"secret":1}`), "metadata_not_number parameters.metadata"},
		{metadata(`1e400`), "not_finite parameters.metadata"},
		{event(`{"version":0,"privateMetadata":{"secret":[-1e400]}}`), "not_finite parameters.private_metadata"},
		{event(`{"version":0,"privateMetadata":` + strings.Repeat("[", 33) + `"secret"` + strings.Repeat("]", 33) + `}`), "too_deep parameters.private_metadata"},
		{`{"timestamp":"secret",` + simple[1:], "timestamp_invalid timestamp"},
		{`{"timestamp":1700000000,` + simple[1:], "timestamp_invalid timestamp"},
		{`{"timestamp":"0000-01-01T00:00:00Z",` + simple[1:], "timestamp_invalid timestamp"},
	} {
		t.Run(row.event, func(t *testing.T) {
			d := open(t, intake.Options{})
			got := d.do(t, request(body(`[`+simple+`,`+row.event+`,`+simple+`,`+row.event+`]`)))
			want := []string{"1 " + row.want, "3 " + row.want}
			if diff := cmp.Diff(want, got.codes()); diff != "" {
				t.Errorf("%s\n%s", diff, got.Text)
			}
			for _, e := range got.Errors {
				if diff := cmp.Diff([]any{"telemetry", "recordEvents"}, e.Path); diff != "" {
					t.Error(diff)
				}
			}
			if got.Status != http.StatusOK || string(got.Data) != `{"telemetry":{"recordEvents":null}}` {
				t.Errorf("%d %s", got.Status, got.Text)
			}
			if len(d.events.All()) != 2 {
				t.Errorf("%d events recorded, want 2", len(d.events.All()))
			}
			if both := got.Text + d.log.String(); strings.Contains(both, "ecret ") || strings.Contains(both, "secret") {
				t.Errorf("content in %s", both)
			}
			reason, _, _ := strings.Cut(row.want, " ")
			if r := d.requests[0]; r.Status != http.StatusOK || r.Recorded != 2 || r.Failed != 0 || !cmp.Equal(r.Invalid, map[string]int{reason: 2}) {
				t.Errorf("measured %+v", r)
			}
		})
	}
}

// TestIndexes names invalid events by their place in what was sent, whoever
// found out that they are.
func TestIndexes(t *testing.T) {
	d := open(t, intake.Options{})
	here := `{"timestamp":"?",` + simple[1:]
	recorder := strings.Replace(simple, "search", "?", 1)
	got := d.do(t, request(body(`[`+strings.Join([]string{simple, here, recorder, simple, recorder, here}, ",")+`]`)))
	want := []string{"1 timestamp_invalid timestamp", "2 feature_invalid feature", "4 feature_invalid feature", "5 timestamp_invalid timestamp"}
	if diff := cmp.Diff(want, got.codes()); diff != "" || len(d.events.All()) != 2 {
		t.Errorf("%d events recorded\n%s", len(d.events.All()), diff)
	}
}

// TestClientClock keeps a client's timestamp, however wrong its clock is.
func TestClientClock(t *testing.T) {
	for _, at := range []string{"0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"} {
		d := open(t, intake.Options{})
		if got := d.do(t, request(body(`[{"timestamp":"`+at+`",`+simple[1:]+`]`))); got.Errors != nil {
			t.Fatal(got.Text)
		}
		if got := d.events.Last().Timestamp.AsTime().Format(time.RFC3339Nano); got != at {
			t.Errorf("%s became %s", at, got)
		}
	}
}

// TestStoreFailure shows the client that it must send again, and nothing else.
func TestStoreFailure(t *testing.T) {
	d := open(t, intake.Options{})
	d.events.Fail(errors.New("disk of host db-internal is full"))
	invalid := strings.Replace(simple, "search", "?", 1)
	got := d.do(t, request(body(`[`+simple+`,`+invalid+`]`)))
	if diff := cmp.Diff([]string{"UNAVAILABLE"}, got.codes()); diff != "" || got.Status != http.StatusOK {
		t.Errorf("%d %s\n%s", got.Status, got.Text, diff)
	}
	if strings.Contains(got.Text, "internal") {
		t.Errorf("the client sees %s", got.Text)
	}
	if !strings.Contains(d.log.String(), "db-internal") {
		t.Errorf("the log has %q", d.log)
	}
	if r := d.requests[0]; r.Recorded != 0 || r.Failed != 1 {
		t.Errorf("measured %+v", r)
	}
}

// TestAliases records what is sent once, however often a request asks for it.
func TestAliases(t *testing.T) {
	for _, query := range []string{
		`mutation($events: [TelemetryEventInput!]!) { a: telemetry { recordEvents(events: $events) { alwaysNil } } b: telemetry { recordEvents(events: $events) { alwaysNil } } }`,
		`mutation($events: [TelemetryEventInput!]!) { telemetry { a: recordEvents(events: $events) { alwaysNil } b: recordEvents(events: $events) { alwaysNil } } }`,
		`mutation($events: [TelemetryEventInput!]!) { a: telemetry { ...f } b: telemetry { ...f } } fragment f on TelemetryMutation { recordEvents(events: $events) { alwaysNil } }`,
	} {
		d := open(t, intake.Options{})
		got := d.do(t, request(fmt.Sprintf(`{"query":%q,"variables":{"events":[%s]}}`, query, simple)))
		if diff := cmp.Diff([]string{"BAD_REQUEST"}, got.codes()); diff != "" || len(d.events.All()) != 1 {
			t.Errorf("%d events, %s", len(d.events.All()), got.Text)
		}
	}
}
