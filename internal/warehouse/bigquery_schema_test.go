// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/bigquery"

	"github.com/telemetrygateway/telemetry/internal/warehouse/bigqueryfake"
)

func TestBigQueryURL(t *testing.T) {
	for url, want := range map[string]string{
		"bigquery://my-project/telemetry":        "",
		"bigquery://example.com:my-project/t_1":  "",
		"bigquery:my-project/telemetry":          "want bigquery://PROJECT/DATASET",
		"bigquery://":                            "not the ID of a project",
		"bigquery://my-project":                  "unlike \"\"",
		"bigquery://my-project/a/b":              "unlike \"a/b\"",
		"bigquery://my-project/tele-metry":       "unlike",
		"bigquery://my-project/t?location=EU":    "unknown parameter \"location\"",
		"bigquery://My_Project/t":                "not the ID of a project",
		"bigquery://my-project/t`; DROP TABLE x": "unlike",
	} {
		switch err := Check(url); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", url, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %q in it", url, err, want)
		}
	}
}

// TestBigQueryStart shows that an error at the start says what to do.
func TestBigQueryStart(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*testing.T, *bigqueryfake.Server)
		want    []string
	}{
		{"no dataset", func(*testing.T, *bigqueryfake.Server) {}, []string{"does not exist", "bq --location=LOCATION mk --dataset test-project:telemetry"}},
		{"no access", func(t *testing.T, s *bigqueryfake.Server) {
			s.CreateDataset(t, "test-project", "telemetry")
			s.Deny("bigquery.datasets.get")
		}, []string{"not allowed", "roles/bigquery.dataEditor", "bigquery.datasets.get"}},
		{"no tables", func(t *testing.T, s *bigqueryfake.Server) {
			s.CreateDataset(t, "test-project", "telemetry")
			s.Deny("bigquery.tables.create")
		}, []string{"not allowed", "roles/bigquery.dataEditor", "bigquery.tables.create"}},
		{"half an emulator", func(t *testing.T, s *bigqueryfake.Server) {
			s.CreateDataset(t, "test-project", "telemetry")
			t.Setenv("BIGQUERY_STORAGE_EMULATOR_HOST", "")
		}, []string{"BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST", "set both"}},
		{"a table that is a view", func(t *testing.T, s *bigqueryfake.Server) {
			makeTable(t, s, "events_raw", &bigquery.TableMetadata{ViewQuery: "SELECT 1 AS one"})
		}, []string{"test-project:telemetry.events_raw is not a table", "another dataset"}},
		{"a foreign view", func(t *testing.T, s *bigqueryfake.Server) {
			makeTable(t, s, "events", &bigquery.TableMetadata{ViewQuery: "SELECT 1 AS one"})
		}, []string{"test-project:telemetry.events is not a view of ours", "another dataset"}},
		{"a foreign table", func(t *testing.T, s *bigqueryfake.Server) {
			schema := bigQuerySchema(rowColumns)
			schema[1].Type = bigquery.StringFieldType
			schema[11].Repeated = false
			schema = append(slices.Delete(schema, 3, 4), &bigquery.FieldSchema{Name: "extra", Type: bigquery.StringFieldType, Required: true})
			makeTable(t, s, "events_raw", &bigquery.TableMetadata{Schema: schema})
		}, []string{
			"events_raw is not a table of ours", "column content_hash is REQUIRED STRING, not REQUIRED INTEGER", "there is no column event_id",
			"column license_tags is STRING, not REPEATED STRING", "column extra is required and not known", "another dataset",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := bigqueryfake.Start(t)
			c.prepare(t, s)
			_, err := Open(t.Context(), bigQueryTestURL, Options{})
			if err == nil {
				t.Fatal("opened")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}

// makeTable makes a table of a foreigner's, and the dataset.
func makeTable(t *testing.T, s *bigqueryfake.Server, name string, meta *bigquery.TableMetadata) {
	t.Helper()
	s.CreateDataset(t, "test-project", "telemetry")
	createTestTable(t, name, meta)
}

func createTestTable(t *testing.T, name string, meta *bigquery.TableMetadata) {
	t.Helper()
	client, err := dialBigQuery(t.Context(), "test-project")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Dataset("telemetry").Table(name).Create(t.Context(), meta); err != nil {
		t.Fatal(err)
	}
}

// TestBigQueryOlderTable opens tables that lack columns that are not required,
// and have one that is not known.
func TestBigQueryOlderTable(t *testing.T) {
	s := startBigQuery(t)
	older := slices.DeleteFunc(bigQuerySchema(rowColumns), func(f *bigquery.FieldSchema) bool {
		return slices.Contains([]string{"country_code", "metadata", "replay_of", "incomplete"}, f.Name)
	})
	older = append(older, &bigquery.FieldSchema{Name: "of_somebody_else", Type: bigquery.StringFieldType})
	createTestTable(t, "events_raw", &bigquery.TableMetadata{Schema: older})
	s.LagSchema(1)
	w, _ := openBigQueryTest(t, Options{})
	b := bigQueryBatch(1)
	b.Events[0].CountryCode, b.Events[0].Metadata = "de", []Metadatum{{"results", 0.5}}
	_, err := w.Insert(t.Context(), b)
	if err == nil || !strings.Contains(err.Error(), "does not yet know columns") {
		t.Errorf("got %v, want that columns are not yet known", err)
	}
	mustInsert(t, w, b)
	wantAnswers(t, w, "SELECT country_code, metadata FROM events", "de [map[key:results value:0.5]]")
	for _, r := range s.Requests() {
		if strings.HasPrefix(r, "DELETE") || strings.HasPrefix(r, "PUT") {
			t.Errorf("unexpected request %s", r)
		}
	}
}

// TestBigQueryTablesAreChecked shows when tables are looked at, made and changed.
func TestBigQueryTablesAreChecked(t *testing.T) {
	s := startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	count := func(method string) (n int) {
		for _, r := range s.Requests() {
			if strings.HasPrefix(r, method+" ") && !strings.Contains(r, "/jobs") {
				n++
			}
		}
		return n
	}
	made, looked := count("POST"), count("GET")
	if want := 2 + len(bigQueryViews("p", "d")); made != want {
		t.Errorf("made %d tables and views, want %d", made, want)
	}
	mustInsert(t, w, bigQueryBatch(1))
	mustInsert(t, w, bigQueryBatch(1))
	if n := count("GET"); n != looked {
		t.Errorf("inserting looked at tables %d times", n-looked)
	}

	// A second opening, or another process, changes nothing.
	openBigQueryTest(t, Options{})
	if n, patched := count("POST"), count("PATCH"); n != made || patched != 0 {
		t.Errorf("opening again made %d and changed %d", n-made, patched)
	}

	// A table that is dropped is made again, after one error.
	s.Drop(t, "test-project", "telemetry", "events_raw")
	if err := w.Ping(t.Context()); err == nil {
		t.Error("pings without a table")
	}
	if _, err := w.Insert(t.Context(), bigQueryBatch(5)); err == nil {
		t.Error("inserted into nothing")
	}
	mustInsert(t, w, bigQueryBatch(5))
	if err := w.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	wantAnswers(t, w, "SELECT COUNT(*) FROM events", "5")

	// Permissions that are taken away, and given again.
	s.Deny("bigquery.tables.updateData")
	for name, err := range map[string]error{"ping": w.Ping(t.Context()), "insert": func() error { _, err := w.Insert(t.Context(), bigQueryBatch(6)); return err }()} {
		if err == nil || name == "insert" && !strings.Contains(err.Error(), "roles/bigquery.dataEditor") {
			t.Errorf("%s: got %v, want what to grant", name, err)
		}
	}
	s.Deny()
	mustInsert(t, w, bigQueryBatch(6))
	wantAnswers(t, w, "SELECT COUNT(*) FROM events", "6")
}

// TestBigQueryViewVersions replaces views of older versions only.
func TestBigQueryViewVersions(t *testing.T) {
	startBigQuery(t)
	for name, version := range map[string]string{"late_events": "0", "rejected_by_reason": "99"} {
		createTestTable(t, name, &bigquery.TableMetadata{ViewQuery: "SELECT 'mine' AS whose", Labels: map[string]string{bigQueryLabel: version}})
	}
	w, _ := openBigQueryTest(t, Options{})
	wantAnswers(t, w, "SELECT events FROM late_events")
	wantAnswers(t, w, "SELECT whose FROM rejected_by_reason", "mine")
}

// TestBigQueryViews shows what is made of rows that came more than once.
func TestBigQueryViews(t *testing.T) {
	startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	first := bigQueryBatch(3)
	first.Rejected = []Rejected{{RejectedID: [16]byte{7}, Stage: "gateway", Reason: "id_missing"}}
	mustInsert(t, w, first)
	mustInsert(t, w, first)
	again := bigQueryBatch(3)
	for i := range again.Events {
		again.Events[i].LandedAt = again.Events[i].LandedAt.AddDate(0, 0, 8)
	}
	mustInsert(t, w, again) // delivered again by the topic
	for i := range again.Events {
		again.Events[i].ReceivedAt = again.Events[i].ReceivedAt.AddDate(0, 0, 1)
	}
	again.Events[2].ContentHash = 99
	mustInsert(t, w, again) // sent again by the sender; the last with other content
	mustInsert(t, w, again)
	wantAnswers(t, w, "SELECT event_id, content_hash, landed_at = TIMESTAMP '2026-11-22 06:01:00' FROM events ORDER BY event_id",
		"event-0 0 true", "event-1 1 true", "event-2 2 true")
	wantAnswers(t, w, "SELECT event_id FROM events_duplicates ORDER BY event_id", "event-0", "event-1")
	wantAnswers(t, w, "SELECT stage, reason, event_id, content_hash FROM events_rejected ORDER BY reason",
		"pipeline id_conflict event-2 99", "gateway id_missing <nil> 0")
	for _, v := range views {
		if len(answers(t, w, "SELECT * FROM "+v.name)) == 0 {
			t.Errorf("%s is empty", v.name)
		}
	}
	wantAnswers(t, w, "SELECT COUNT(*) FROM events_raw", fmt.Sprint(5*3))
}
