// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	_ "modernc.org/sqlite"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/eventlog"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/intake"
	"github.com/telemetrygateway/telemetry/queue"
)

// stores are a queue and a log in files of their own.
type stores struct {
	queue *queue.Queue
	log   *eventlog.Log

	databases []*sql.DB
}

func (s *stores) Add(ctx context.Context, events ...*telemetrygatewayv1.Event) error {
	return errors.Join(s.log.Add(ctx, events...), s.queue.Add(ctx, events...))
}

func openStores(t *testing.T) *stores {
	t.Helper()
	var s stores
	open := func(name string) *sql.DB {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), name)+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_txlock=immediate")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		s.databases = append(s.databases, db)
		return db
	}
	var err error
	if s.queue, err = queue.Open(t.Context(), open("queue.db"), queue.Options{}); err != nil {
		t.Fatal(err)
	}
	if s.log, err = eventlog.Open(t.Context(), open("log.db"), eventlog.Options{}); err != nil {
		t.Fatal(err)
	}
	return &s
}

func (s *stores) pending(t *testing.T) []queue.Item {
	t.Helper()
	page, err := s.queue.List(t.Context(), queue.Pending, 1000, "")
	if err != nil {
		t.Fatal(err)
	}
	return page.Items
}

// ids are the IDs in the order of a list's items.
func ids(items []queue.Item) []string {
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = items[i].ID
	}
	return ids
}

// TestRetry sends again what is recorded already. What is the same event under
// the same key, from the same actor, is recorded once.
func TestRetry(t *testing.T) {
	other := strings.Replace(simple, "executed", "opened", 1)
	type sent struct {
		key    string
		actor  telemetry.Actor
		events string
		want   int // recorded in all
	}
	alice, bob := telemetry.Actor{UserID: 1}, telemetry.Actor{UserID: 2}
	for _, row := range []struct {
		name string
		sent []sent
	}{
		{"no key", []sent{{"", alice, simple, 1}, {"", alice, simple, 2}}},
		{"same key", []sent{{"k", alice, simple, 1}, {"k", alice, simple, 1}, {"k", alice, simple, 1}}},
		{"several events", []sent{{"k", alice, simple + "," + other + "," + simple, 3}, {"k", alice, simple + "," + other + "," + simple, 3}}},
		{"first attempt came through in part", []sent{{"k", alice, simple, 1}, {"k", alice, simple + "," + other, 2}}},
		{"other key", []sent{{"k", alice, simple, 1}, {"l", alice, simple, 2}}},
		{"someone else with the key", []sent{{"k", alice, simple, 1}, {"k", bob, simple, 2}}},
		{"anonymous users", []sent{{"k", telemetry.Actor{AnonymousUserID: "a"}, simple, 1}, {"k", telemetry.Actor{AnonymousUserID: "b"}, simple, 2}, {"k", telemetry.Actor{AnonymousUserID: "a"}, simple, 2}}},
		{"ends of texts", []sent{{"c", telemetry.Actor{AnonymousUserID: "a", ExternalID: "b"}, simple, 1}, {"bc", telemetry.Actor{AnonymousUserID: "a"}, simple, 2}, {"c", telemetry.Actor{AnonymousUserID: "ab"}, simple, 3}}},
		{"key used for other events by mistake", []sent{{"k", alice, simple, 1}, {"k", alice, other, 2}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := openStores(t)
			d := openOn(s, intake.Options{})
			for _, sent := range row.sent {
				r := request(body(`[` + sent.events + `]`))
				r.Header.Set("Idempotency-Key", sent.key)
				r = r.WithContext(telemetry.WithActor(r.Context(), sent.actor))
				if got := d.do(t, r); got.Errors != nil {
					t.Fatal(got.Text)
				}
				items := s.pending(t)
				if len(items) != sent.want {
					t.Fatalf("%d events recorded, want %d", len(items), sent.want)
				}
				for _, item := range items {
					version := uuid.Version(7)
					if sent.key != "" {
						version = 8
					}
					if id, err := uuid.Parse(item.ID); err != nil || id.Version() != version || id.Variant() != uuid.RFC4122 {
						t.Errorf("event ID %s", item.ID)
					}
				}
			}
		})
	}
}

// TestDerivedID holds the ID that a key makes, which an instance of a later
// version has to make as well for a client that sends again.
func TestDerivedID(t *testing.T) {
	s := openStores(t)
	d := openOn(s, intake.Options{})
	r := request(body(`[` + simple + `]`))
	r.Header.Set("Idempotency-Key", "f3b0c1ee-1c4b-4f0e-8a50-0a8f4a3c6c11")
	r = r.WithContext(telemetry.WithActor(r.Context(), telemetry.Actor{UserID: 1, AnonymousUserID: "a", ExternalID: "e"}))
	if got := d.do(t, r); got.Errors != nil {
		t.Fatal(got.Text)
	}
	if diff := cmp.Diff([]string{"bb42c19f-5937-8d50-ab8e-926a95af6bd6"}, ids(s.pending(t))); diff != "" {
		t.Error(diff)
	}
}

func ask(query string) *http.Request {
	r := request(fmt.Sprintf(`{"query":%q}`, query))
	r.Header.Set("Authorization", "Bearer administrator")
	return r
}

var admin = func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer administrator" }

// TestAdministrators lists everything page by page.
func TestAdministrators(t *testing.T) {
	s := openStores(t)
	d := openOn(s, intake.Options{Queue: s.queue, Log: s.log, Admin: admin})
	const events = 25
	for range events / 5 { // all at the same time, so that only a cursor with more than that tells them apart
		one := `{"timestamp":"2026-01-01T00:00:00Z",` + strings.Replace(simple[1:], `"version":0`, `"version":0,"privateMetadata":{"q":"private"}`, 1)
		if got := d.do(t, request(body(`[`+strings.Repeat(one+`,`, 4)+one+`]`))); got.Errors != nil {
			t.Fatal(got.Text)
		}
	}
	lease, err := s.queue.Lease(t.Context(), "test", 1e9*60)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := lease.Claim(t.Context(), 15, 1<<20)
	if err != nil || len(rows) != 15 {
		t.Fatal(err, len(rows))
	}
	var exported, dead []string
	var letters []queue.Dead
	for i, row := range rows {
		if i < 10 {
			exported = append(exported, row.ID)
			continue
		}
		dead = append(dead, row.ID)
		letters = append(letters, queue.Dead{ID: row.ID, Reason: "too_large", Field: "parameters", Message: "is too large"})
	}
	if err := lease.Done(t.Context(), exported, letters); err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(exported, dead, ids(s.pending(t)))
	for _, row := range []struct {
		field, nodes string
		want         []string
	}{
		{"exportedEvents", "id exportedAt payload", exported},
		{"deadLetteredEvents", "id deadLetteredAt reason field message payload", dead},
		{"eventsQueuedForExport", "id timestamp payload", ids(s.pending(t))},
		{"loggedEvents", "id timestamp payload", all},
	} {
		t.Run(row.field, func(t *testing.T) {
			var seen []string
			for after := "null"; after != ""; {
				got := d.do(t, ask(fmt.Sprintf(`{ telemetry { list: %s(first: 4, after: %s) { nodes { %s } totalCount pageInfo { hasNextPage endCursor } } } }`, row.field, after, row.nodes)))
				var data struct {
					Telemetry struct {
						List struct {
							Nodes []struct {
								ID, Timestamp, ExportedAt, DeadLetteredAt, Reason, Field, Message string
								Payload                                                           struct {
									ID, Feature string
									Timestamp   string
									Parameters  struct{ PrivateMetadata map[string]string }
								}
							}
							TotalCount int
							PageInfo   struct {
								HasNextPage bool
								EndCursor   *string
							}
						}
					}
				}
				if err := json.Unmarshal(got.Data, &data); err != nil || got.Errors != nil {
					t.Fatal(err, got.Text)
				}
				list := data.Telemetry.List
				if list.TotalCount != len(row.want) {
					t.Errorf("%d in all, want %d", list.TotalCount, len(row.want))
				}
				for _, n := range list.Nodes {
					seen = append(seen, n.ID)
					if n.Payload.ID != n.ID || n.Payload.Feature != "search" || n.Payload.Timestamp != "2026-01-01T00:00:00Z" {
						t.Errorf("payload %+v", n.Payload)
					}
					if whole := n.Payload.Parameters.PrivateMetadata["q"] == "private"; whole != (row.field == "loggedEvents") {
						t.Errorf("payload %+v", n.Payload)
					}
					for _, at := range []string{n.Timestamp, n.ExportedAt, n.DeadLetteredAt} {
						if at != "" && !strings.HasSuffix(at, "Z") {
							t.Errorf("time %q", at)
						}
					}
					if row.field == "deadLetteredEvents" && (n.Reason != "too_large" || n.Field != "parameters" || n.Message != "is too large") {
						t.Errorf("dead letter %+v", n)
					}
				}
				if after = ""; list.PageInfo.HasNextPage {
					after = fmt.Sprintf("%q", *list.PageInfo.EndCursor)
				}
			}
			slices.Sort(seen)
			slices.Sort(row.want)
			if diff := cmp.Diff(row.want, seen); diff != "" {
				t.Errorf("want -, seen +:\n%s", diff)
			}
		})
	}

	count := func(query string) int {
		return strings.Count(string(d.do(t, ask(query)).Data), `"id"`)
	}
	for query, want := range map[string]int{
		`{ telemetry { loggedEvents { nodes { id } } } }`:                                                             25,
		`{ telemetry { loggedEvents(first: 0) { nodes { id } } } }`:                                                   25,
		`{ telemetry { loggedEvents(first: -1) { nodes { id } } } }`:                                                  25,
		`{ telemetry { loggedEvents(first: 2000000000) { nodes { id } } } }`:                                          25,
		`{ telemetry { loggedEvents(feature: "search", action: "executed") { nodes { id } } } }`:                      25,
		`{ telemetry { loggedEvents(feature: "other") { nodes { id } } } }`:                                           0,
		`{ telemetry { loggedEvents(userID: "1") { nodes { id } } } }`:                                                0,
		`{ telemetry { a: exportedEvents(first: 1) { nodes { id } } b: exportedEvents(first: 2) { nodes { id } } } }`: 3,
	} {
		if got := count(query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	for query, want := range map[string]string{
		`{ telemetry { exportedEvents(after: "nonsense") { totalCount } } }`: "BAD_REQUEST",
		`{ telemetry { loggedEvents(after: "nonsense") { totalCount } } }`:   "BAD_REQUEST",
		`{ telemetry { loggedEvents(userID: "me") { totalCount } } }`:        "BAD_REQUEST",
		`{ telemetry { exportedEvents(first: null) { totalCount } } }`:       "BAD_REQUEST",
	} {
		if got := d.do(t, ask(query)); !slices.Equal(got.codes(), []string{want}) {
			t.Errorf("%s: %s", query, got.Text)
		}
	}
	if d.log.Len() > 0 {
		t.Errorf("logged %s", d.log)
	}
}

// TestNoAdministrator shows others nothing, and no difference between what is
// there and what is not.
func TestNoAdministrator(t *testing.T) {
	s := openStores(t)
	everything := `{ telemetry { %s { totalCount } } }`
	answers := map[string]bool{}
	for _, o := range []intake.Options{
		{},
		{Queue: s.queue, Log: s.log},
		{Queue: s.queue, Log: s.log, Admin: func(*http.Request) bool { return false }},
	} {
		d := openOn(s, o)
		for _, field := range []string{"exportedEvents", "eventsQueuedForExport", "deadLetteredEvents", "loggedEvents"} {
			got := d.do(t, ask(fmt.Sprintf(everything, field)))
			if !slices.Equal(got.codes(), []string{"FORBIDDEN"}) {
				t.Errorf("%s: %s", field, got.Text)
			}
			answers[got.Text] = true
		}
		got := d.do(t, ask(`{ __schema { types { name } } __type(name: "Query") { name } }`))
		if string(got.Data) != `{}` {
			t.Errorf("introspection: %s", got.Text)
		}
	}
	if len(answers) != 1 {
		t.Errorf("answers differ: %v", answers)
	}

	// An administrator sees the difference, and the schema.
	d := openOn(s, intake.Options{Admin: admin})
	for _, field := range []string{"exportedEvents", "loggedEvents"} {
		if got := d.do(t, ask(fmt.Sprintf(everything, field))); !slices.Equal(got.codes(), []string{"UNAVAILABLE"}) {
			t.Errorf("%s: %s", field, got.Text)
		}
	}
	if got := d.do(t, ask(introspection)); got.Errors != nil || !strings.Contains(got.Text, "TelemetryEventMarketingTrackingInput") {
		t.Errorf("introspection: %s", got.Text)
	}
}

// introspection asks as deep as GraphiQL and code generators do.
var introspection = `query IntrospectionQuery { __schema { queryType { name } types { ...FullType } directives { name args { ...InputValue } } } }
fragment FullType on __Type { kind name description fields(includeDeprecated: true) { name args { ...InputValue } type { ...TypeRef } } inputFields { ...InputValue } enumValues { name } }
fragment InputValue on __InputValue { name type { ...TypeRef } defaultValue }
fragment TypeRef on __Type { kind name ` + strings.Repeat(`ofType { kind name `, 9) + strings.Repeat(`}`, 9) + ` }`

// TestBrokenStores shows nothing of what is wrong with a store.
func TestBrokenStores(t *testing.T) {
	s := openStores(t)
	d := openOn(s, intake.Options{Queue: s.queue, Log: s.log, Admin: admin})
	for _, db := range s.databases {
		db.Close()
	}
	for _, r := range []*http.Request{
		request(body(`[` + simple + `]`)),
		ask(`{ telemetry { exportedEvents { totalCount } } }`),
		ask(`{ telemetry { loggedEvents { totalCount } } }`),
	} {
		d.log.Reset()
		got := d.do(t, r)
		if !slices.Equal(got.codes(), []string{"UNAVAILABLE"}) || strings.Contains(got.Text, "sql") {
			t.Errorf("%s", got.Text)
		}
		if !strings.Contains(d.log.String(), "database is closed") {
			t.Errorf("the log has %q", d.log)
		}
	}
}
