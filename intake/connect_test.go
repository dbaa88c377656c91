// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry"
	telemetryintakev1 "github.com/telemetrygateway/telemetry/gen/telemetryintake/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetryintake/v1/telemetryintakev1connect"
	"github.com/telemetrygateway/telemetry/intake"
)

const procedure = telemetryintakev1connect.TelemetryIntakeServiceRecordEventsProcedure

// one is a request with one event that has nothing but names.
const one = `{"client":{"name":"web"},"events":[{"feature":"search","action":"executed"}]}`

func connectRequest(contentType, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, procedure, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// answer is what a client sees that speaks Connect.
type answer struct {
	*response
	Code, Message string
	Details       []struct {
		Type  string
		Debug struct {
			FieldViolations []struct{ Field, Description string }
		}
	}
	InvalidEvents []struct {
		Index                  *int
		Reason, Field, Message string
	}
}

func (d *door) call(t testing.TB, r *http.Request) *answer {
	t.Helper()
	a := &answer{response: d.do(t, r)}
	if strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal([]byte(a.Text), a); err != nil {
			t.Fatalf("%v: %s", err, a.Text)
		}
	}
	return a
}

// codes returns what the answer says about events: index, reason, field.
func (a *answer) codes() []string {
	var codes []string
	for _, e := range a.InvalidEvents {
		if e.Message == "" {
			codes = append(codes, "no message")
		}
		codes = append(codes, fmt.Sprint(*e.Index, " ", e.Reason, " ", e.Field))
	}
	return codes
}

// binaryCodes is the same of an answer in binary.
func binaryCodes(t testing.TB, body string) []string {
	t.Helper()
	var m telemetryintakev1.RecordEventsResponse
	if err := proto.Unmarshal([]byte(body), &m); err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, e := range m.InvalidEvents {
		codes = append(codes, fmt.Sprint(e.Index, " ", e.Reason, " ", e.Field))
	}
	return codes
}

// field returns the field that the error's details name.
func (a *answer) field() string {
	for _, d := range a.Details {
		if d.Type == "google.rpc.BadRequest" {
			return d.Debug.FieldViolations[0].Field
		}
	}
	return ""
}

// TestProtocols records over the wire with every kind of client there is.
func TestProtocols(t *testing.T) {
	h2 := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	h2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	overConnect := func(client *http.Client, o ...connect.ClientOption) func(string) call {
		return func(url string) call {
			c := telemetryintakev1connect.NewTelemetryIntakeServiceClient(client, url, o...)
			return func(ctx context.Context, m *telemetryintakev1.RecordEventsRequest) (*telemetryintakev1.RecordEventsResponse, string, string, error) {
				got, err := c.RecordEvents(ctx, connect.NewRequest(m))
				var e *connect.Error
				if errors.As(err, &e) {
					return nil, e.Code().String(), violated(e), nil
				} else if err != nil {
					return nil, "", "", err
				}
				return got.Msg, "", "", nil
			}
		}
	}
	for _, row := range []struct {
		name string
		open func(url string) call
	}{
		{"Connect", overConnect(http.DefaultClient)},
		{"Connect, compressed", overConnect(http.DefaultClient, connect.WithSendGzip())},
		{"Connect, JSON", overConnect(http.DefaultClient, connect.WithProtoJSON())},
		{"Connect, JSON, compressed, HTTP/2", overConnect(h2, connect.WithProtoJSON(), connect.WithSendGzip())},
		{"gRPC-Web", overConnect(http.DefaultClient, connect.WithGRPCWeb())},
		{"gRPC-Web, JSON", overConnect(http.DefaultClient, connect.WithGRPCWeb(), connect.WithProtoJSON())},
		{"gRPC", overConnect(h2, connect.WithGRPC())},
		{"gRPC, compressed", overConnect(h2, connect.WithGRPC(), connect.WithSendGzip())},
		{"grpc-go", overGRPC(t)},
		{"grpc-go, compressed", overGRPC(t, grpc.UseCompressor("gzip"))},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := openConnect(t, intake.Options{MaxEvents: 3})
			server := httptest.NewUnstartedServer(d)
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetHTTP1(true)
			server.Config.Protocols.SetUnencryptedHTTP2(true)
			server.Start()
			defer server.Close()
			call := row.open(server.URL)

			valid := &telemetryintakev1.Event{Feature: "search", Action: "executed"}
			bad := &telemetryintakev1.Event{Feature: "Search", Action: "executed"}
			many := []*telemetryintakev1.Event{bad, valid, valid}
			client := &telemetryintakev1.Client{Name: "web", Version: "1"}
			m, code, _, err := call(t.Context(), &telemetryintakev1.RecordEventsRequest{Client: client, Events: many})
			if err != nil || code != "" {
				t.Fatal(code, err)
			}
			if v := m.InvalidEvents; len(v) != 1 || v[0].Index != 0 || v[0].Reason != "feature_invalid" || v[0].Field != "feature" || v[0].Message == "" {
				t.Errorf("invalid events %v", v)
			}
			if got := d.events.All(); len(got) != 2 || got[0].Source.Client.Name != "web" || got[0].Source.Server.Version != "1.2.3" || got[0].User != nil {
				t.Errorf("recorded %v", got)
			}
			for _, refused := range []struct {
				request     *telemetryintakev1.RecordEventsRequest
				code, field string
			}{
				{&telemetryintakev1.RecordEventsRequest{}, "invalid_argument", "events"},
				{&telemetryintakev1.RecordEventsRequest{Client: client, Events: append(many, valid)}, "resource_exhausted", "events"},
				{&telemetryintakev1.RecordEventsRequest{Events: many, IdempotencyKey: strings.Repeat("k", 129)}, "invalid_argument", "idempotency_key"},
				{&telemetryintakev1.RecordEventsRequest{Events: many, Client: &telemetryintakev1.Client{Version: "1"}}, "invalid_argument", "client.name"},
				{&telemetryintakev1.RecordEventsRequest{Events: many, Client: &telemetryintakev1.Client{Name: strings.Repeat("n", 1<<20)}}, "resource_exhausted", ""},
			} {
				_, code, field, err := call(t.Context(), refused.request)
				if err != nil || code != refused.code || field != refused.field {
					t.Errorf("%s %s, %v; want %s %s", code, field, err, refused.code, refused.field)
				}
			}
			if got := d.events.All(); len(got) != 2 {
				t.Errorf("recorded %v", got)
			}
		})
	}
}

// call sends a request and returns the response, or an error's code and the
// field it names.
type call func(context.Context, *telemetryintakev1.RecordEventsRequest) (_ *telemetryintakev1.RecordEventsResponse, code, field string, _ error)

func violated(e *connect.Error) string {
	for _, d := range e.Details() {
		if m, err := d.Value(); err == nil {
			if bad, ok := m.(*errdetails.BadRequest); ok {
				return bad.FieldViolations[0].Field
			}
		}
	}
	return ""
}

// overGRPC calls with grpc-go.
func overGRPC(t *testing.T, o ...grpc.CallOption) func(string) call {
	return func(url string) call {
		conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return func(ctx context.Context, m *telemetryintakev1.RecordEventsRequest) (*telemetryintakev1.RecordEventsResponse, string, string, error) {
			var response telemetryintakev1.RecordEventsResponse
			if err := conn.Invoke(ctx, procedure, m, &response, o...); err != nil {
				s := status.Convert(err)
				field := ""
				for _, d := range s.Details() {
					if bad, ok := d.(*errdetails.BadRequest); ok {
						field = bad.FieldViolations[0].Field
					}
				}
				return nil, connect.Code(s.Code()).String(), field, nil
			}
			return &response, "", "", nil
		}
	}
}

// TestBeacon sends as navigator.sendBeacon does: no header but the type of what
// is sent, and those that browsers add.
func TestBeacon(t *testing.T) {
	for contentType, body := range map[string]string{
		"application/json":                one,
		"application/json; charset=utf-8": one,
		"application/json;charset=UTF-8":  one,
		"application/proto":               binary(t, one),
	} {
		d := openConnect(t, intake.Options{})
		r := connectRequest(contentType, body)
		r.Header.Set("Origin", "http://example.com")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Sec-Fetch-Mode", "no-cors")
		got := d.call(t, r)
		if got.Status != http.StatusOK || len(d.events.All()) != 1 {
			t.Errorf("%s: %d %s", contentType, got.Status, got.Text)
		}
	}
}

// TestResponseInJSON is for those who read it by hand.
func TestResponseInJSON(t *testing.T) {
	d := openConnect(t, intake.Options{})
	got := d.call(t, connectRequest("application/json", one))
	if strings.ReplaceAll(got.Text, " ", "") != `{"invalidEvents":[]}` {
		t.Errorf("%s", got.Text)
	}
	if got := d.events.Last(); !got.Timestamp.AsTime().Equal(now) || got.Parameters == nil {
		t.Errorf("recorded %v", got)
	}
	got = d.call(t, connectRequest("application/json", strings.Replace(one, "search", "?", 1)))
	if diff := cmp.Diff([]string{"0 feature_invalid feature"}, got.codes()); diff != "" {
		t.Errorf("%s\n%s", diff, got.Text)
	}
}

// TestConnectRetries sends events again in ways that a client may, to either
// door, and counts how many different ones there are.
func TestConnectRetries(t *testing.T) {
	const field = `{"client":{"name":"web"},"events":[{"feature":"search","action":"executed"}],"idempotencyKey":"k"}`
	alice, bob := telemetry.Actor{UserID: 1}, telemetry.Actor{UserID: 2}
	connectDoor, graphQL := openConnect(t, intake.Options{}), open(t, intake.Options{})
	id := func(d *door, r *http.Request, header string, a telemetry.Actor) string {
		r.Header.Set("Idempotency-Key", header)
		d.do(t, r.WithContext(telemetry.WithActor(r.Context(), a)))
		return d.events.Last().Id
	}
	json := func(body string) *http.Request { return connectRequest("application/json", body) }
	first := id(connectDoor, json(field), "", alice)
	for name, got := range map[string]string{
		"again":         id(connectDoor, json(field), "", alice),
		"header":        id(connectDoor, json(one), "k", alice),
		"field first":   id(connectDoor, json(field), "other", alice),
		"snake case":    id(connectDoor, json(strings.Replace(field, "idempotencyKey", "idempotency_key", 1)), "", alice),
		"binary":        id(connectDoor, connectRequest("application/proto", binary(t, field)), "", alice),
		"unknown field": id(connectDoor, json(strings.Replace(field, `"action"`, `"user":{"userId":"1"},"id":"x","action"`, 1)), "", alice),
		"other door":    id(graphQL, request(body(`[`+simple+`]`)), "k", alice),
	} {
		if got != first {
			t.Errorf("%s: event ID %s, first %s", name, got, first)
		}
	}
	for name, got := range map[string]string{
		"someone else": id(connectDoor, json(field), "", bob),
		"other key":    id(connectDoor, json(one), "l", alice),
		"no key":       id(connectDoor, json(one), "", alice),
		"other event":  id(connectDoor, json(strings.Replace(field, "executed", "clicked", 1)), "", alice),
		"other client": id(connectDoor, json(strings.Replace(field, `"web"`, `"vscode"`, 1)), "", alice),
	} {
		if got == first {
			t.Errorf("%s: has the ID of the first event", name)
		}
	}
}

// TestConnectContext fills in what a client does not say.
func TestConnectContext(t *testing.T) {
	d := openConnect(t, intake.Options{})
	r := connectRequest("application/json", `{"events":[{"feature":"search","action":"executed"},{"feature":"search","action":"executed","interactionId":"own"}]}`)
	r.Header.Set("X-Sourcegraph-Interaction-ID", "from-header")
	r = r.WithContext(telemetry.WithClient(r.Context(), telemetry.Client{Name: "backend's", Version: "2"}))
	if got := d.call(t, r); got.Status != http.StatusOK {
		t.Fatal(got.Text)
	}
	events := d.events.All()
	if c := events[0].Source.Client; c.GetName() != "backend's" || c.GetVersion() != "2" {
		t.Errorf("client %v", c)
	}
	if a, b := events[0].Interaction.GetInteractionId(), events[1].Interaction.GetInteractionId(); a != "from-header" || b != "own" {
		t.Errorf("interactions %q, %q", a, b)
	}
}

// TestConnectStoreFailure shows the client that it must send again, and nothing
// else.
func TestConnectStoreFailure(t *testing.T) {
	d := openConnect(t, intake.Options{})
	d.events.Fail(errors.New("disk of host db-internal is full"))
	got := d.call(t, connectRequest("application/json", `{"events":[{"feature":"search","action":"executed"},{"feature":"?","action":"executed"}]}`))
	if got.Status != http.StatusServiceUnavailable || got.Code != "unavailable" || strings.Contains(got.Text, "internal") {
		t.Errorf("%d %s", got.Status, got.Text)
	}
	if !strings.Contains(d.log.String(), "db-internal") {
		t.Errorf("the log has %q", d.log)
	}
	if r := d.requests[0]; r.Status != http.StatusServiceUnavailable || r.Recorded != 0 || r.Failed != 1 {
		t.Errorf("measured %+v", r)
	}
}

// TestMounted mounts the door as its documentation says, beside other handlers
// and below another path.
func TestMounted(t *testing.T) {
	d := openConnect(t, intake.Options{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", http.StripPrefix("/api", d))
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	defer server.Close()
	client := telemetryintakev1connect.NewTelemetryIntakeServiceClient(http.DefaultClient, "http://"+listener.Addr().String()+"/api")
	if _, err := client.RecordEvents(t.Context(), connect.NewRequest(&telemetryintakev1.RecordEventsRequest{
		Events: []*telemetryintakev1.Event{{Feature: "search", Action: "executed"}},
	})); err != nil || len(d.events.All()) != 1 {
		t.Errorf("%v, %d events recorded", err, len(d.events.All()))
	}
}
