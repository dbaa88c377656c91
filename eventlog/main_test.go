// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package eventlog_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	_ "modernc.org/sqlite"

	"github.com/telemetrygateway/telemetry/eventlog"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database/cluster"
)

// TestMain ends the PostgreSQL that the tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := postgres.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// postgres is the server of all tests.
var postgres cluster.Shared

// postgresURL returns the URL of an empty schema.
func postgresURL(t *testing.T) string {
	t.Helper()
	url, err := postgres.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func sqliteURL(t *testing.T) string {
	return "file:" + filepath.Join(t.TempDir(), "events.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
}

var implementations = []struct {
	name string
	url  func(*testing.T) string
	lock string // keeps others from writing until the end of the transaction
}{
	{"SQLite", sqliteURL, "UPDATE telemetry_event_log SET seq = seq WHERE 0"},
	{"PostgreSQL", postgresURL, "LOCK TABLE telemetry_event_log IN EXCLUSIVE MODE"},
}

// forEach runs f on every kind of database, with one that is empty.
func forEach(t *testing.T, f func(t *testing.T, url string)) {
	for _, i := range implementations {
		t.Run(i.name, func(t *testing.T) { f(t, i.url(t)) })
	}
}

func connect(t *testing.T, url string) *sql.DB {
	t.Helper()
	driver := "sqlite"
	if strings.HasPrefix(url, "postgres:") {
		driver = "pgx"
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func open(t *testing.T, url string, o eventlog.Options) (*eventlog.Log, *sql.DB) {
	t.Helper()
	db := connect(t, url)
	log, err := eventlog.Open(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return log, db
}

// event has something in every place that must never leave the instance.
func event(id string) *telemetrygatewayv1.Event {
	return &telemetrygatewayv1.Event{
		Id:        id,
		Timestamp: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
		Feature:   "codeSearch",
		Action:    "executed",
		Parameters: &telemetrygatewayv1.EventParameters{
			PrivateMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"query": structpb.NewStringValue("canary")}},
		},
		User:              &telemetrygatewayv1.EventUser{UserId: proto.Int64(7), AnonymousUserId: proto.String("visitor")},
		MarketingTracking: &telemetrygatewayv1.EventMarketingTracking{Url: proto.String("https://example.com/?canary")},
	}
}

// events returns n events whose IDs begin with prefix.
func events(prefix string, n int) (es []*telemetrygatewayv1.Event) {
	for i := range n {
		es = append(es, event(fmt.Sprintf("%s%d", prefix, i)))
	}
	return es
}

func add(t *testing.T, log *eventlog.Log, es ...*telemetrygatewayv1.Event) {
	t.Helper()
	if err := log.Add(t.Context(), es...); err != nil {
		t.Fatal(err)
	}
}

// list returns the IDs of all events that f selects, a page of n at a time.
func list(t *testing.T, log *eventlog.Log, n int, f eventlog.Filter) (ids []string) {
	t.Helper()
	for after := ""; ; {
		page, err := log.List(t.Context(), n, after, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Items {
			ids = append(ids, item.ID)
		}
		if len(ids) > 10_000 {
			t.Fatal("the pages have no end")
		}
		if after = page.Next; after == "" {
			return ids
		}
	}
}

// checkTotals compares what the log says of itself with what is there.
func checkTotals(t *testing.T, log *eventlog.Log, db *sql.DB, recorded, pruned int64) eventlog.Stats {
	t.Helper()
	s, err := log.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var events, bytes int64
	if err := db.QueryRow("SELECT count(*), CAST(COALESCE(SUM(length(payload_pb)), 0) AS BIGINT) FROM telemetry_event_log").Scan(&events, &bytes); err != nil {
		t.Fatal(err)
	}
	if s.Events != events || s.Bytes != bytes || s.Recorded != recorded || s.Pruned != pruned || s.Oldest.IsZero() != (events == 0) {
		t.Errorf("stats are %+v, want %d recorded, %d pruned; there are %d events of %d bytes", s, recorded, pruned, events, bytes)
	}
	return s
}
