// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database/cluster"
	"github.com/telemetrygateway/telemetry/queue"
)

// TestCanariesOnDisk looks for what may not leave in everything that the
// database has on disk: what is not there cannot be in a backup, in a replica
// or in an exporter's hands either.
func TestCanariesOnDisk(t *testing.T) {
	sqliteDir := t.TempDir()
	postgresql, err := cluster.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { postgresql.Stop() })
	for _, test := range []struct {
		name, dir  string
		open       func(t *testing.T, name string) *sql.DB
		checkpoint string
		// Parts of paths: where data is first, and after a checkpoint.
		log, data string
	}{
		{
			"SQLite", sqliteDir,
			func(t *testing.T, name string) *sql.DB { return openSQLite(t, filepath.Join(sqliteDir, name+".db")) },
			"PRAGMA wal_checkpoint(TRUNCATE)", ".db-wal", ".db",
		},
		{
			"PostgreSQL", postgresql.Dir(),
			func(t *testing.T, name string) *sql.DB {
				if err := postgresql.CreateDatabase(name); err != nil {
					t.Fatal(err)
				}
				return open(t, "pgx", postgresql.URL(name))
			},
			"CHECKPOINT", "/pg_wal/", "/base/",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			redacted := newMarks(t)
			db := test.open(t, "redacted")
			allow, err := queue.ParseAllowed("search::executed::" + strings.Join(redacted.allowedKeys, "::"))
			if err != nil {
				t.Fatal(err)
			}
			policy := queue.Policy{Mode: queue.Limited, Features: []string{"search"}, Allow: allow}
			q, err := queue.Open(t.Context(), db, queue.Options{Policy: policy})
			if err != nil {
				t.Fatal(err)
			}
			// The search is shown to find what is there, wherever it is, with the
			// same events in the queue of a vendor.
			vendor := newMarks(t)
			vendorDB := test.open(t, "vendor")
			vq, err := queue.Open(t.Context(), vendorDB, queue.Options{Policy: queue.Policy{Vendor: true}})
			if err != nil {
				t.Fatal(err)
			}
			for q, m := range map[*queue.Queue]*marks{q: redacted, vq: vendor} {
				if err := q.Add(t.Context(), m.events()...); err != nil {
					t.Fatal(err)
				}
			}

			look := func(stage, where string) {
				t.Helper()
				redacted.check(stage, where, test.dir, false)
				vendor.check(stage, where, test.dir, true)
			}
			look("before a checkpoint", test.log)
			if rows := claim(t, q); len(rows) != 2 {
				t.Fatalf("%d rows were exported, want both copies of one event", len(rows))
			}
			look("after export", test.log)
			for _, db := range []*sql.DB{db, vendorDB} {
				if _, err := db.ExecContext(t.Context(), test.checkpoint); err != nil {
					t.Fatal(err)
				}
			}
			look("after a checkpoint", test.data)
		})
	}
}

// claim exports everything and returns it.
func claim(t *testing.T, q *queue.Queue) []queue.Row {
	t.Helper()
	lease, err := q.Lease(t.Context(), "test", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := lease.Claim(t.Context(), 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range rows {
		ids = append(ids, r.ID)
	}
	if err := lease.Done(t.Context(), ids, nil); err != nil {
		t.Fatal(err)
	}
	return rows
}

// marks are two events full of texts that are nowhere else, one that may leave
// and one of a feature that may not.
type marks struct {
	*testing.T
	prefix      string
	leave       []string // texts that may leave
	stay        []string // texts that may not
	allowedKeys []string
	queued      *v1.Event
	filtered    *v1.Event
}

func newMarks(t *testing.T) *marks {
	m := &marks{T: t, prefix: "mark-" + uuid.NewString()[:8] + "-"}
	leave, stay := m.leaves, m.stays
	key := func() string {
		k := leave()
		m.allowedKeys = append(m.allowedKeys, k)
		return k
	}
	object := func() map[string]any {
		return map[string]any{stay(): stay(), stay(): map[string]any{stay(): []any{stay()}}}
	}
	private, err := structpb.NewStruct(map[string]any{
		key(): leave(), key(): []any{leave(), leave()}, key(): nil, // of types that may leave
		key(): object(), key(): []any{object()}, key(): []any{stay(), 1.0},
		stay(): stay(), stay(): object(), stay(): []any{stay()},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.queued = m.event("search", leave)
	m.queued.Parameters.PrivateMetadata = private
	m.queued.MarketingTracking = &v1.EventMarketingTracking{
		Url: new(stay()), FirstSourceUrl: new(stay()), CohortId: new(stay()), Referrer: new(stay()),
		LastSourceUrl: new(stay()), DeviceSessionId: new(stay()), SessionReferrer: new(stay()), SessionFirstUrl: new(stay()),
	}
	for _, e := range []proto.Message{m.queued, m.queued.Source.Client, private, private.Fields[m.allowedKeys[0]]} {
		e.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 1234, protowire.BytesType), stay()))
	}
	m.filtered = m.event("blob", stay)
	for _, e := range []*v1.Event{m.queued, m.filtered} {
		if proto.Size(e) > 1900 {
			t.Fatalf("an event has %d bytes, so PostgreSQL may compress it", proto.Size(e))
		}
	}
	return m
}

// event returns an event with a text in every field that is not private.
func (m *marks) event(feature string, text func() string) *v1.Event {
	return &v1.Event{
		Id: text(), Timestamp: timestamppb.Now(), Feature: feature, Action: "executed",
		Source: &v1.EventSource{
			Server: &v1.EventSource_Server{Version: text()},
			Client: &v1.EventSource_Client{Name: text(), Version: new(text())},
		},
		Parameters: &v1.EventParameters{
			LegacyMetadata: map[string]int64{text(): 1}, Metadata: map[string]float64{text(): 1},
			BillingMetadata: &v1.EventBillingMetadata{Product: text(), Category: text()},
		},
		User:         &v1.EventUser{AnonymousUserId: new(text()), SamsExternalId: new(text())},
		FeatureFlags: &v1.EventFeatureFlags{Flags: map[string]string{text(): text()}},
		Interaction: &v1.EventInteraction{
			TraceId: new(text()), InteractionId: new(text()), Geolocation: &v1.EventInteraction_Geolocation{CountryCode: text()},
		},
	}
}

// events returns each event twice, with other IDs. A database may cut a row in
// two, such as at the end of a page of its log, and so a text; but it does not
// cut the same text of two rows of different lengths.
func (m *marks) events() []*v1.Event {
	var events []*v1.Event
	for _, suffix := range []string{"-1", "-of-another-length-2"} {
		for _, e := range []*v1.Event{m.queued, m.filtered} {
			e = proto.CloneOf(e)
			e.Id += suffix
			events = append(events, e)
		}
	}
	return events
}

func (m *marks) text() string { return fmt.Sprintf("%s%03d", m.prefix, len(m.leave)+len(m.stay)) }

func (m *marks) leaves() string {
	text := m.text()
	m.leave = append(m.leave, text)
	return text
}

func (m *marks) stays() string {
	text := m.text()
	m.stay = append(m.stay, text)
	return text
}

// check fails if a text that may leave is in no file below dir whose path has
// where in it, or if one that may not is in any file; with all, it must be too.
func (m *marks) check(stage, where, dir string, all bool) {
	m.Helper()
	found := m.search(dir)
	for _, text := range m.leave {
		if !found.in(text, where) {
			m.Errorf("%s: %s, which may leave, is not in %s but in %q", stage, text, where, found[text])
		}
	}
	for _, text := range m.stay {
		switch files := found[text]; {
		case !all && len(files) > 0:
			m.Errorf("%s: %s, which may not leave, is in %q", stage, text, files)
		case all && !found.in(text, where):
			m.Errorf("%s: the search would not find %s in %s", stage, text, where)
		}
	}
}

// findings has the files in which a text was found.
type findings map[string][]string

func (f findings) in(text, where string) bool {
	for _, file := range f[text] {
		if strings.Contains(file, where) {
			return true
		}
	}
	return false
}

// search reads every file below dir.
func (m *marks) search(dir string) findings {
	m.Helper()
	found := findings{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		var content []byte
		if err == nil && entry.Type().IsRegular() {
			content, err = os.ReadFile(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the database has just removed it
		} else if err != nil {
			return err
		}
		for {
			_, after, ok := bytes.Cut(content, []byte(m.prefix))
			if !ok || len(after) < 3 {
				return nil
			}
			text := m.prefix + string(after[:3])
			found[text] = append(found[text], path)
			content = after
		}
	})
	if err != nil {
		m.Fatal(err)
	}
	return found
}
