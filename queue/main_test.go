// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	_ "modernc.org/sqlite"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/internal/database/cluster"
	"github.com/telemetrygateway/telemetry/queue"
)

// TestMain lets tests run the test binary as another process, and stops the
// PostgreSQL that they share.
func TestMain(m *testing.M) {
	if path, ok := os.LookupEnv("QUEUE_TEST_VICTIM"); ok {
		if err := victim(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if at, ok := os.LookupEnv("QUEUE_TEST_OPEN"); ok {
		driver, dsn, _ := strings.Cut(at, " ")
		if err := opener(driver, dsn); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if err := postgres.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// postgres is the server of all tests that do not stop it.
var postgres cluster.Shared

// implementations are what the queue's promises hold on.
var implementations = []struct {
	name    string
	dialect database.Dialect
	open    func(testing.TB) *sql.DB
}{
	{"SQLite", database.SQLite, newSQLite},
	{"PostgreSQL", database.Postgres, newPostgres},
	{"original table", database.Postgres, func(t testing.TB) *sql.DB { return originalTable(t, originalUUID) }},
}

// onEach runs a test on every implementation, beside others: most of the time
// they wait for the disk.
func onEach(t *testing.T, test func(t *testing.T, b *bed)) {
	t.Parallel()
	for _, i := range implementations {
		t.Run(i.name, func(t *testing.T) {
			t.Parallel()
			test(t, &bed{TB: t, db: i.open(t), dialect: i.dialect, clock: &clock{t: start}})
		})
	}
}

func newSQLite(t testing.TB) *sql.DB { return openSQLite(t, filepath.Join(t.TempDir(), "queue.db")) }

func openSQLite(t testing.TB, path string) *sql.DB {
	t.Helper()
	return open(t, "sqlite", sqliteDSN(path))
}

func sqliteDSN(path string) string {
	return "file:" + path + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
}

func newPostgres(t testing.TB) *sql.DB {
	t.Helper()
	return open(t, "pgx", newDatabase(t))
}

// newDatabase returns the URL of an empty schema, as good as a database.
func newDatabase(t testing.TB) string {
	t.Helper()
	url, err := postgres.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// The tables that versions of the original made, as documented.
const (
	originalText = `
CREATE TABLE telemetry_events_export_queue (
	id text PRIMARY KEY,
	timestamp timestamptz NOT NULL,
	payload_pb bytea NOT NULL,
	exported_at timestamptz DEFAULT NULL
);
CREATE UNIQUE INDEX telemetry_events_export_queue_id_idx ON telemetry_events_export_queue (id);`
	originalUUID = originalText + `
ALTER TABLE telemetry_events_export_queue ALTER COLUMN id TYPE uuid USING id::uuid, ADD COLUMN tenant_id integer NOT NULL DEFAULT 1;
CREATE INDEX telemetry_events_export_queue_export_order ON telemetry_events_export_queue (timestamp) WHERE exported_at IS NULL;`
)

func originalTable(t testing.TB, schema string) *sql.DB {
	t.Helper()
	db := newPostgres(t)
	if _, err := db.Exec(schema); err != nil {
		t.Fatal(err)
	}
	return db
}

// start is when tests begin, in the time of their own.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// bed is a database, and a clock that tests set.
type bed struct {
	testing.TB
	db      *sql.DB
	dialect database.Dialect
	clock   *clock
}

func (b *bed) open(o queue.Options) *queue.Queue {
	b.Helper()
	o.Now = b.clock.now
	q, err := queue.Open(b.Context(), b.db, o)
	if err != nil {
		b.Fatal(err)
	}
	return q
}

// event returns the n-th event: a second younger than the one before.
func event(n int) *v1.Event {
	id := uuid.Must(uuid.NewV7())
	return &v1.Event{
		Id: id.String(), Timestamp: timestamppb.New(start.Add(time.Duration(n) * time.Second)),
		Feature: "search", Action: "executed",
		Source:     &v1.EventSource{Server: &v1.EventSource_Server{Version: "1.2.3"}, Client: &v1.EventSource_Client{Name: "web", Version: proto.String("4.5.6")}},
		Parameters: &v1.EventParameters{Version: 1, Metadata: map[string]float64{"results": float64(n), "milliseconds": 12.5}, BillingMetadata: &v1.EventBillingMetadata{Product: "search", Category: "core"}},
		User:       &v1.EventUser{UserId: proto.Int64(int64(n)), AnonymousUserId: proto.String("e0a1b2c3-d4e5-4f60-8192-a3b4c5d6e7f8")},
		Interaction: &v1.EventInteraction{
			TraceId: proto.String("0af7651916cd43dd8448eb211c80319c"), InteractionId: proto.String("b7ad6b7169203331"),
		},
		FeatureFlags: &v1.EventFeatureFlags{Flags: map[string]string{"new-ranking": "true", "side-panel": "false"}},
	}
}

func events(from, n int) []*v1.Event {
	es := make([]*v1.Event, n)
	for i := range es {
		es[i] = event(from + i)
	}
	return es
}
