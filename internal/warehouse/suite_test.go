// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// implementations are the technologies that the suite is run with. start makes
// an empty warehouse somewhere and returns what opens it.
var implementations = []implementation{
	{"duckdb", startDuckDB},
	{"bigquery", startBigQuery},
}

type implementation struct {
	name  string
	start func(t *testing.T) func(o warehouse.Options) (warehouse.Warehouse, error)
}

func startDuckDB(t *testing.T) func(o warehouse.Options) (warehouse.Warehouse, error) {
	url := "duckdb://" + filepath.Join(t.TempDir(), "warehouse.duckdb")
	return func(o warehouse.Options) (warehouse.Warehouse, error) { return warehouse.Open(t.Context(), url, o) }
}

// everyWarehouse runs a test with each implementation. open opens the same
// warehouse each time it is called; before that the last one must be closed.
func everyWarehouse(t *testing.T, test func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse)) {
	t.Helper()
	for _, i := range withBigQuery(implementations) {
		t.Run(i.name, func(t *testing.T) {
			start := i.start(t)
			test(t, func(o warehouse.Options) warehouse.Warehouse {
				t.Helper()
				w, err := start(o)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { w.Close() })
				return w
			})
		})
	}
}

func TestInsertAgain(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		clock := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		o := warehouse.Options{Now: func() time.Time { return clock }}
		w := open(o)
		rows := events(10)
		insert(t, w, warehouse.Batch{Events: rows[:6]}, warehouse.Result{Landed: 6})
		insert(t, w, warehouse.Batch{Events: rows[:6]}, warehouse.Result{Redelivered: 6})
		insert(t, w, warehouse.Batch{Events: rows[3:]}, warehouse.Result{Landed: 4, Redelivered: 3})
		insert(t, w, warehouse.Batch{Events: append(rows[9:], rows...)}, warehouse.Result{Redelivered: 11})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		clock = clock.Add(8 * 24 * time.Hour)
		w = open(o)
		insert(t, w, warehouse.Batch{Events: rows}, warehouse.Result{Redelivered: 10})
		if n := number(t, w, "SELECT COUNT(*) FROM events"); n != 10 {
			t.Errorf("%d rows, want 10", n)
		}
		if n := number(t, w, "SELECT COUNT(*) FROM events_duplicates"); n != 0 {
			t.Errorf("%d duplicates, want 0", n)
		}
	})
}

// TestSentAgain has a sender send an event again: with the same content, and
// received at another time.
func TestSentAgain(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		w := open(warehouse.Options{})
		first := events(3)
		again, third := events(3), events(3)
		for i := range first {
			again[i].ReceivedAt = again[i].ReceivedAt.Add(time.Second)
			third[i].ReceivedAt = third[i].ReceivedAt.Add(time.Minute)
		}
		insert(t, w, warehouse.Batch{Events: first[:2]}, warehouse.Result{Landed: 2})
		insert(t, w, warehouse.Batch{Events: again[:2]}, warehouse.Result{Duplicates: 2})
		insert(t, w, warehouse.Batch{Events: again[:2]}, warehouse.Result{Redelivered: 2})
		insert(t, w, warehouse.Batch{Events: []warehouse.Row{first[2], again[2], third[2], again[2]}}, warehouse.Result{Landed: 1, Duplicates: 2, Redelivered: 1})
		if n := number(t, w, "SELECT COUNT(*) FROM events_duplicates"); n != 4 {
			t.Errorf("%d duplicates, want 4", n)
		}
		got := answer(t, w, "SELECT received_at FROM events ORDER BY event_id")
		for i, row := range got {
			if !row[0].(time.Time).Equal(first[i].ReceivedAt.Truncate(time.Microsecond)) {
				t.Errorf("event %d: received at %v landed, want the first, %v", i, row[0], first[i].ReceivedAt)
			}
		}
	})
}

func TestConflict(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		same := func(a, b []byte) bool {
			return strings.ReplaceAll(string(a), " ", "") == strings.ReplaceAll(string(b), " ", "")
		}
		w := open(warehouse.Options{Same: same})
		rows := events(4)
		insert(t, w, warehouse.Batch{Events: rows[:3]}, warehouse.Result{Landed: 3})
		other := events(4)
		for i := range other {
			other[i].ContentHash++
			other[i].Payload = append(other[i].Payload, ' ')
		}
		other[1].Payload = []byte(`{"other":true}`)
		other[3].Payload = []byte(`{"other":true}`)
		// Event 0 shows the same and hashes otherwise, as with another version's
		// hash; event 1 is another one; of event 3 both come in one batch.
		insert(t, w, warehouse.Batch{Events: []warehouse.Row{other[0], other[1], rows[3], other[3]}},
			warehouse.Result{Landed: 1, Redelivered: 1, Conflicts: []int{1, 3}})
		for i, row := range answer(t, w, "SELECT payload FROM events ORDER BY event_id") {
			if got := fmt.Sprintf("%s", row[0]); got != string(rows[i].Payload) {
				t.Errorf("event %d: payload %s landed, want the first, %s", i, got, rows[i].Payload)
			}
		}
	})
}

func TestRejectedOnce(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		w := open(warehouse.Options{})
		one := warehouse.Rejected{RejectedID: [16]byte{1}, Stage: "gateway", Reason: "action_invalid", Field: "action", Message: "is not right", Bytes: []byte{0, 0xff, 1}}
		one.Row = event(1)
		// Nothing of the other can be read, and what can be is no text.
		two := warehouse.Rejected{RejectedID: [16]byte{2}, Stage: "pipeline", Reason: "payload_invalid", Bytes: []byte("\xff{")}
		two.Feature = "a\xffb"
		two.Payload = []byte("{not JSON")
		two.Metadata = []warehouse.Metadatum{{Key: "a", Value: 1}, {Key: "a", Value: 2}}
		both := warehouse.Batch{Rejected: []warehouse.Rejected{one, two, one}}
		insert(t, w, both, warehouse.Result{Rejected: 2})
		insert(t, w, both, warehouse.Result{})
		got := answer(t, w, "SELECT stage, reason, field, message, bytes, feature, event_id FROM events_rejected ORDER BY rejected_id")
		want := [][]any{
			{"gateway", "action_invalid", "action", "is not right", []byte{0, 0xff, 1}, one.Feature, one.EventID},
			{"pipeline", "payload_invalid", nil, nil, []byte("\xff{"), "a\uFFFDb", nil},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if n := number(t, w, "SELECT COUNT(*) FROM events"); n != 0 {
			t.Errorf("%d events landed, want none", n)
		}
	})
}

// TestRefused inserts rows that no warehouse takes among others.
func TestRefused(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		w := open(warehouse.Options{})
		rows := events(9)
		rows[2].ClientName = "secret\xff"
		rows[7].ReceivedAt = time.Time{}
		batch := warehouse.Batch{Events: rows, Rejected: []warehouse.Rejected{{RejectedID: [16]byte{9}}}}
		for again := range 2 {
			landed := 7
			if _, ok := w.(appending); !ok && again > 0 {
				landed = 0
			}
			result, err := w.Insert(t.Context(), &batch)
			if err != nil {
				t.Fatal(err)
			}
			if result.Landed != landed || result.Landed+result.Redelivered != 7 || len(result.Refused) != 2 || result.Refused[0].Index != 2 || result.Refused[1].Index != 7 {
				t.Errorf("%+v, want 7 landed and 2 and 7 refused", result)
			}
			for _, r := range result.Refused {
				if r.Message == "" || strings.Contains(r.Message, "secret") {
					t.Errorf("event %d is refused with %q, want a message without its content", r.Index, r.Message)
				}
			}
		}
		if n := number(t, w, "SELECT COUNT(*) FROM events"); n != 7 {
			t.Errorf("%d rows, want 7", n)
		}
		// Alone, too.
		result, err := w.Insert(t.Context(), &warehouse.Batch{Events: rows[2:3]})
		if err != nil || len(result.Refused) != 1 || result.Refused[0].Index != 0 {
			t.Errorf("%+v, %v, want event 0 refused", result, err)
		}
	})
}

func TestManyRows(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		w := open(warehouse.Options{})
		const n = 10_000
		m := newRowMix()
		rows := make([]warehouse.Row, n)
		m.fill(rows)
		insert(t, w, warehouse.Batch{Events: rows}, warehouse.Result{Landed: n})
		insert(t, w, warehouse.Batch{Events: rows}, warehouse.Result{Redelivered: n})
		for i := range rows {
			rows[i].ReceivedAt = rows[i].ReceivedAt.Add(time.Second)
		}
		insert(t, w, warehouse.Batch{Events: rows}, warehouse.Result{Duplicates: n})
		if got := number(t, w, "SELECT COUNT(DISTINCT event_id) FROM events"); got != n {
			t.Errorf("%d events, want %d", got, n)
		}
		if got := len(answer(t, w, "SELECT payload FROM events")); got != n {
			t.Errorf("read %d rows, want %d", got, n)
		}
	})
}

// TestNothingAfterCancel asserts that a call whose context has ended lands
// nothing, and that the next one works.
func TestNothingAfterCancel(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		w := open(warehouse.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.Insert(ctx, &warehouse.Batch{Events: events(3)}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want it canceled", err)
		}
		insert(t, w, warehouse.Batch{Events: events(3)}, warehouse.Result{Landed: 3})
		if err := w.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestEmptyBatch(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		insert(t, open(warehouse.Options{}), warehouse.Batch{}, warehouse.Result{})
	})
}

func TestAfterClose(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		w := open(warehouse.Options{})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Insert(t.Context(), &warehouse.Batch{Events: events(1)}); !errors.Is(err, warehouse.ErrClosed) {
			t.Errorf("Insert: %v, want ErrClosed", err)
		}
		if _, err := w.Query(t.Context(), "SELECT 1"); !errors.Is(err, warehouse.ErrClosed) {
			t.Errorf("Query: %v, want ErrClosed", err)
		}
		if err := w.Ping(t.Context()); !errors.Is(err, warehouse.ErrClosed) {
			t.Errorf("Ping: %v, want ErrClosed", err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
	})
}

// TestEveryColumn has each column there and back, with the values that are most
// easily lost.
func TestEveryColumn(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		w := open(warehouse.Options{})
		const nasty = "\u2028\u2029 \x00 \u202eabc\u202c \U0001F600 ' \" \\ ?"
		user := int64(math.MaxInt64)
		full := event(0)
		full.ContentHash = math.MinInt64
		full.Environment, full.ExternalURL = "prod", "https://x.example.com/?a=%20"
		full.LicenseID, full.LicenseStatus, full.LicenseFingerprint, full.LicenseTags = "L", "expired", "sha256:00", []string{"", nasty}
		full.RecordedAt = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
		full.ServerVersion, full.ClientName, full.ClientVersion = "1", nasty, "2"
		full.UserID, full.AnonymousUserID, full.SAMSExternalID = &user, "anonymous", "sams"
		full.ParametersVersion = math.MinInt32
		full.Metadata = []warehouse.Metadatum{
			{Key: "beyond", Value: 1<<53 + 2}, {Key: "zero", Value: math.Copysign(0, -1)}, {Key: "small", Value: 5e-324}, {Key: "large", Value: 1.7976931348623157e308}, {Key: nasty, Value: 0.1},
		}
		full.PrivateMetadata = []byte(`{"zero":-0.0,"wide":12345678901234567890,"text":"\u0000\u2028"}`)
		full.BillingProduct, full.BillingCategory = "product", "category"
		full.FeatureFlags = []warehouse.Flag{{Name: "a", Value: "true"}, {Name: nasty, Value: nasty}}
		full.MarketingURL, full.MarketingFirstSourceURL, full.MarketingCohortID, full.MarketingReferrer = "m1", "m2", "m3", "m4"
		full.MarketingLastSourceURL, full.MarketingDeviceSessionID, full.MarketingSessionReferrer, full.MarketingSessionFirstURL = "m5", "m6", "m7", "m8"
		full.TraceID, full.InteractionID, full.CountryCode, full.ReplayOf = "trace", "interaction", "NL", "00ff"
		full.Payload = []byte(`{"z":1,"a":-0.0,"wide":12345678901234567890,"tiny":5e-324,"text":"\u0000<` + "\u2028" + `"}`)
		empty := event(1)
		empty.RecordedAt = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)
		empty.Metadata, empty.FeatureFlags = []warehouse.Metadatum{}, []warehouse.Flag{}
		rejected := warehouse.Rejected{Row: full, RejectedID: [16]byte{7}}
		insert(t, w, warehouse.Batch{Events: []warehouse.Row{full, empty}, Rejected: []warehouse.Rejected{rejected}}, warehouse.Result{Landed: 2, Rejected: 1})

		want := map[string]any{
			"key_hash": hex.EncodeToString(full.KeyHash[:]), "content_hash": int64(math.MinInt64), "identity": full.Identity, "event_id": full.EventID,
			"source": full.Source, "source_id": full.SourceID, "environment": "prod", "external_url": "https://x.example.com/?a=%20",
			"license_id": "L", "license_status": "expired", "license_fingerprint": "sha256:00", "license_tags": []any{"", nasty},
			"feature": full.Feature, "action": full.Action,
			"recorded_at": full.RecordedAt.Truncate(time.Microsecond), "received_at": full.ReceivedAt.Truncate(time.Microsecond), "landed_at": full.LandedAt.Truncate(time.Microsecond),
			"server_version": "1", "client_name": nasty, "client_version": "2",
			"user_id": int64(math.MaxInt64), "anonymous_user_id": "anonymous", "sams_external_id": "sams", "parameters_version": int64(math.MinInt32),
			"metadata":         map[string]any{"beyond": float64(1<<53 + 2), "zero": math.Copysign(0, -1), "small": 5e-324, "large": 1.7976931348623157e308, nasty: 0.1},
			"private_metadata": string(full.PrivateMetadata), "billing_product": "product", "billing_category": "category",
			"feature_flags": map[string]any{"a": "true", nasty: nasty},
			"marketing_url": "m1", "marketing_first_source_url": "m2", "marketing_cohort_id": "m3", "marketing_referrer": "m4",
			"marketing_last_source_url": "m5", "marketing_device_session_id": "m6", "marketing_session_referrer": "m7", "marketing_session_first_url": "m8",
			"trace_id": "trace", "interaction_id": "interaction", "country_code": "NL", "replay_of": "00ff", "payload": string(full.Payload), "incomplete": nil,
		}
		for _, table := range []string{"events", "events_rejected"} {
			got := record(t, w, "SELECT * FROM "+table+" WHERE event_id = '"+full.EventID+"'")
			for _, extra := range []string{"rejected_id", "stage", "reason", "field", "message", "bytes"} {
				delete(got, extra)
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(sameNumber)); diff != "" {
				t.Errorf("%s: -want +got:\n%s", table, diff)
			}
		}
		got := record(t, w, "SELECT * FROM events WHERE event_id = '"+empty.EventID+"'")
		for name, v := range map[string]any{
			"recorded_at": empty.RecordedAt, "metadata": map[string]any{}, "feature_flags": map[string]any{},
			"license_tags": nil, "client_name": nil, "user_id": nil, "private_metadata": nil, "parameters_version": int64(0),
		} {
			if _, ok := w.(appending); ok && name == "license_tags" {
				v = []any{} // no list is NULL in BigQuery
			}
			if diff := cmp.Diff(v, got[name]); diff != "" {
				t.Errorf("%s: -want +got:\n%s", name, diff)
			}
		}
	})
}

func TestQueryOnlyReads(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		w := open(warehouse.Options{})
		insert(t, w, warehouse.Batch{Events: events(3)}, warehouse.Result{Landed: 3})
		for _, sql := range []string{
			"", "DELETE FROM events", "DROP TABLE events", "SELECT 1; DELETE FROM events", "INSERT INTO events SELECT * FROM events",
			"UPDATE events SET feature = 'x' WHERE true", "CREATE TABLE x (a INT)", "TRUNCATE TABLE events", "SELECT nothing FROM events",
		} {
			rows, err := w.Query(t.Context(), sql)
			if err == nil {
				rows.Close()
				t.Errorf("%q: no error", sql)
			}
		}
		if n := number(t, w, "SELECT COUNT(*) FROM events"); n != 3 {
			t.Errorf("%d rows, want 3", n)
		}
	})
}

// TestViews asks every view, over events that say what the answer must be.
func TestViews(t *testing.T) {
	everyWarehouse(t, func(t *testing.T, open func(o warehouse.Options) warehouse.Warehouse) {
		w := open(warehouse.Options{})
		one, two := int64(1), int64(2)
		rows := events(6) // of one instance, on Sunday 2026-03-01
		rows[0].UserID, rows[1].UserID, rows[2].AnonymousUserID = &one, &two, "x"
		rows[3].UserID, rows[3].SourceID, rows[3].ServerVersion = &one, "site-2", "6.4" // another instance's user 1
		rows[2].ServerVersion = ""                                                      // the last of its instance
		rows[4].RecordedAt = rows[4].RecordedAt.Add(-24 * time.Hour)
		rows[4].LicenseID, rows[4].LicenseFingerprint = "", "sha256:old"
		rows[5].Source, rows[5].Identity, rows[5].SourceID, rows[5].LicenseID = "managed_service", "service/s", "s", ""
		for i := range rows {
			rows[i].KeyHash = key(rows[i].Identity, rows[i].EventID)
		}
		rejected := warehouse.Rejected{RejectedID: [16]byte{1}, Stage: "gateway", Reason: "action_invalid"}
		rejected.ReceivedAt, rejected.LandedAt = rows[0].ReceivedAt, rows[0].LandedAt
		insert(t, w, warehouse.Batch{Events: rows, Rejected: []warehouse.Rejected{rejected}}, warehouse.Result{Landed: 6, Rejected: 1})
		for _, v := range []struct {
			sql  string
			want [][]any
		}{
			{"SELECT source, license_id, instances, events FROM daily_active_instances ORDER BY day, source", [][]any{
				{"licensed_instance", nil, int64(1), int64(1)}, {"licensed_instance", "L-1", int64(2), int64(4)},
			}},
			{"SELECT source, signed_in_users, users FROM daily_active_users ORDER BY day, source", [][]any{
				{"licensed_instance", int64(0), int64(0)}, {"licensed_instance", int64(3), int64(4)}, {"managed_service", int64(0), int64(0)},
			}},
			{"SELECT feature, action, events, senders, users FROM weekly_feature_use ORDER BY week", [][]any{{"codeSearch", "executed", int64(6), int64(3), int64(4)}}},
			{"SELECT server_version, licenses, instances FROM licenses_by_version ORDER BY server_version", [][]any{{"6.4", int64(1), int64(1)}, {"6.5", int64(2), int64(2)}}},
			{"SELECT events, late, percent_late FROM late_events", [][]any{{int64(6), int64(1), 16.67}}},
			{"SELECT stage, reason, rejected FROM rejected_by_reason", [][]any{{"gateway", "action_invalid", int64(1)}}},
		} {
			if diff := cmp.Diff(v.want, answer(t, w, v.sql)); diff != "" {
				t.Errorf("%s: -want +got:\n%s", v.sql, diff)
			}
		}
	})
}

// events makes n events up, always the same.
func events(n int) []warehouse.Row {
	rows := make([]warehouse.Row, n)
	for i := range rows {
		rows[i] = event(i)
	}
	return rows
}

func event(i int) warehouse.Row {
	at := time.Date(2026, 3, 1, 11, 30, i%60, 123_456_789, time.UTC)
	r := warehouse.Row{
		ContentHash: int64(i) * 7, Identity: "license/L-1/é", EventID: fmt.Sprintf("event-%06d", i),
		Source: "licensed_instance", SourceID: "site-1", LicenseID: "L-1", Feature: "codeSearch", Action: "executed", ServerVersion: "6.5",
		RecordedAt: at, ReceivedAt: at.Add(time.Minute), LandedAt: at.Add(2 * time.Minute),
		Payload: fmt.Appendf(nil, `{"event":{"id":"event-%06d"}}`, i),
	}
	r.KeyHash = key(r.Identity, r.EventID)
	return r
}

func key(identity, eventID string) [16]byte {
	sum := sha256.Sum256([]byte(identity + "\x00" + eventID))
	return [16]byte(sum[:16])
}

func insert(t *testing.T, w warehouse.Warehouse, b warehouse.Batch, want warehouse.Result) {
	t.Helper()
	got, err := w.Insert(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := w.(appending); ok {
		want = a.sees(b, want)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func answer(t *testing.T, r warehouse.Reader, sql string) [][]any {
	t.Helper()
	rows, err := r.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	var all [][]any
	for {
		row, err := rows.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		all = append(all, row)
	}
}

func number(t *testing.T, r warehouse.Reader, sql string) int64 {
	t.Helper()
	all := answer(t, r, sql)
	if len(all) != 1 || len(all[0]) != 1 {
		t.Fatalf("%s: %v, want one number", sql, all)
	}
	return all[0][0].(int64)
}

// record returns the only row of an answer, by column, with what technologies
// write differently written alike: keys in hexadecimal, maps that are lists of
// entries as maps, JSON as text.
func record(t *testing.T, r warehouse.Reader, sql string) map[string]any {
	t.Helper()
	rows, err := r.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	row, err := rows.Next()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if _, err := rows.Next(); err != io.EOF {
		t.Fatalf("%s: more than one row, or %v", sql, err)
	}
	got := map[string]any{}
	for i, name := range rows.Columns() {
		v := row[i]
		switch name {
		case "key_hash":
			if b, ok := v.([]byte); ok {
				v = hex.EncodeToString(b)
			}
			v = strings.ReplaceAll(v.(string), "-", "")
		case "metadata", "feature_flags":
			if list, ok := v.([]any); ok {
				m := map[string]any{}
				for _, entry := range list {
					m[entry.(map[string]any)["key"].(string)] = entry.(map[string]any)["value"]
				}
				v = m
			}
		case "payload", "private_metadata":
			if raw, ok := v.(json.RawMessage); ok {
				v = string(raw)
			}
		}
		got[name] = v
	}
	return got
}

// sameNumber tells -0 from 0.
func sameNumber(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }
