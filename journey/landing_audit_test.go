// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/duckdb/duckdb-go/v2"
)

// The audit compares what was recorded with what has landed. It knows the tables
// as an analyst does, by docs/warehouse.md, and shares no code with what fills
// them.

// expectation is an event that was recorded.
type expectation struct {
	sender  string // see senderName
	id      string
	content [32]byte
	poison  string // not empty: the bytes of an event that can only be rejected
	sent    int    // to a gateway, at most; 0 for unknown
	must    bool   // somebody was told that it is safe
}

// senderName is the same for events of one sender only.
func senderName(source, id, license string) string {
	return strings.Join([]string{source, id, license}, " ")
}

// arrival is an event in the warehouse.
type arrival struct {
	sender, id       string
	columns, payload [32]byte // hashes of the content
	labels           string   // the sender by the payload
}

// rejection is a row of events_rejected.
type rejection struct{ sender, rejectedID, bytes, reason, stage string }

// holdings are all that a warehouse has.
type holdings struct {
	arrivals   []arrival
	rejections []rejection
	duplicates int // rows of events_duplicates
	early      int // rows that landed before they were received
}

// findings are what an audit found to be wrong.
type findings struct{ lost, duplicated, altered, foreign []string }

func (f findings) report(t testing.TB) {
	t.Helper()
	for _, kind := range []struct {
		name  string
		found []string
	}{{"lost", f.lost}, {"duplicated", f.duplicated}, {"altered", f.altered}, {"of another sender, or of none", f.foreign}} {
		if n := len(kind.found); n > 0 {
			t.Errorf("%d %s, such as\n%s", n, kind.name, strings.Join(kind.found[:min(n, 5)], "\n"))
		}
	}
}

// audit compares. It takes nothing for granted, not even that what has landed
// was accepted: it must have been sent.
func audit(want []expectation, have holdings) (f findings) {
	type name struct{ sender, id string }
	rows, rejections := map[name]int{}, map[string]int{}
	events, poison := map[name]*expectation{}, map[string]*expectation{}
	for i := range want {
		if e := &want[i]; e.poison == "" {
			events[name{e.sender, e.id}] = e
		} else {
			poison[e.poison] = e
		}
	}
	for _, a := range have.arrivals {
		n := name{a.sender, a.id}
		rows[n]++
		what := fmt.Sprintf("event %q of %q", a.id, a.sender)
		e := events[n]
		if e == nil {
			f.foreign = append(f.foreign, what)
			continue
		}
		if rows[n] == 2 {
			f.duplicated = append(f.duplicated, what)
		}
		if a.columns != e.content {
			f.altered = append(f.altered, what+" in its columns")
		}
		if a.payload != e.content || a.labels != a.sender {
			f.altered = append(f.altered, what+" in its payload")
		}
	}
	ids := map[string]bool{}
	for _, r := range have.rejections {
		what := fmt.Sprintf("dead letter %s of %q (%s, %s)", r.rejectedID, r.sender, r.stage, r.reason)
		e := poison[r.bytes]
		switch rejections[r.bytes]++; {
		case e == nil:
			f.foreign = append(f.foreign, what)
		case e.sender != r.sender:
			f.altered = append(f.altered, what+" by its sender")
		}
		if ids[r.rejectedID] || e != nil && e.sent > 0 && rejections[r.bytes] > e.sent {
			f.duplicated = append(f.duplicated, what)
		}
		ids[r.rejectedID] = true
	}
	for _, e := range want {
		switch {
		case !e.must:
		case e.poison == "" && rows[name{e.sender, e.id}] == 0:
			f.lost = append(f.lost, fmt.Sprintf("event %q of %q", e.id, e.sender))
		case e.poison != "" && rejections[e.poison] == 0:
			f.lost = append(f.lost, fmt.Sprintf("poison %q of %q", e.id, e.sender))
		}
	}
	return f
}

// expectations are what the ledger has of each event, for an audit.
func (l *ledger) expectations(licenseID string) (want []expectation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		e := expectation{sender: r.owner(licenseID), id: r.id, sent: r.sent, must: r.outcome != 0}
		if r.poison {
			e.poison = string(r.wire)
		} else {
			e.content = contentOf(r.event).hash()
		}
		want = append(want, e)
	}
	return want
}

// owner is the sender's name if the licence, where it has one, is of that ID.
func (r *record) owner(licenseID string) string {
	if r.source != "licensed_instance" {
		licenseID = ""
	}
	return senderName(r.source, r.sender, licenseID)
}

// openWarehouse opens a warehouse's file, which no pipeline may have. DuckDB
// takes the file for this process alone, unless it only reads.
func openWarehouse(t testing.TB, path, mode string) *sql.DB {
	t.Helper()
	db, err := tryWarehouse(path, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func tryWarehouse(path, mode string) (*sql.DB, error) {
	db, err := sql.Open("duckdb", path+"?memory_limit=512MB&threads=2&access_mode="+mode)
	if err != nil {
		return nil, err
	}
	if err := db.Ping(); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// read reads all that a warehouse has.
func read(t testing.TB, path string) (h holdings) {
	t.Helper()
	db := openWarehouse(t, path, "read_only")
	defer db.Close()
	for query, n := range map[string]*int{
		"SELECT count(*) FROM events_duplicates":                    &h.duplicates,
		"SELECT count(*) FROM events WHERE landed_at < received_at": &h.early,
	} {
		if err := db.QueryRow(query).Scan(n); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := db.Query(`SELECT source, ifnull(source_id, ''), ifnull(license_id, ''), event_id, feature, action, recorded_at,
		ifnull(server_version, ''), ifnull(client_name, ''), ifnull(client_version, ''), ifnull(user_id::VARCHAR, ''),
		ifnull(anonymous_user_id, ''), ifnull(sams_external_id, ''), ifnull(parameters_version, 0), metadata, private_metadata::VARCHAR,
		feature_flags, ifnull(billing_product, ''), ifnull(billing_category, ''), ifnull(trace_id, ''), ifnull(interaction_id, ''),
		ifnull(country_code, ''), ifnull(marketing_url, ''), ifnull(marketing_first_source_url, ''), ifnull(marketing_cohort_id, ''),
		ifnull(marketing_referrer, ''), ifnull(marketing_last_source_url, ''), ifnull(marketing_device_session_id, ''),
		ifnull(marketing_session_referrer, ''), ifnull(marketing_session_first_url, ''), payload::VARCHAR FROM events`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		a, err := scanArrival(rows)
		if err != nil {
			t.Fatal(err)
		}
		h.arrivals = append(h.arrivals, a)
	}
	rejected, err := db.Query(`SELECT ifnull(source, ''), ifnull(source_id, ''), ifnull(license_id, ''), rejected_id::VARCHAR, bytes, reason, stage FROM events_rejected`)
	if err := errors.Join(err, rows.Err()); err != nil {
		t.Fatal(err)
	}
	defer rejected.Close()
	for rejected.Next() {
		var r rejection
		var source, id, license string
		var wire []byte
		if err := rejected.Scan(&source, &id, &license, &r.rejectedID, &wire, &r.reason, &r.stage); err != nil {
			t.Fatal(err)
		}
		r.sender, r.bytes = senderName(source, id, license), string(wire)
		h.rejections = append(h.rejections, r)
	}
	if err := rejected.Err(); err != nil {
		t.Fatal(err)
	}
	return h
}

func scanArrival(rows *sql.Rows) (a arrival, err error) {
	var c content
	var source, id, license, text string
	var at time.Time
	var private sql.NullString
	var metadata, flags any
	targets := []any{
		&source, &id, &license, &a.id, &c.Feature, &c.Action, &at, &c.ServerVersion, &c.ClientName, &c.ClientVersion, &c.UserID,
		&c.AnonymousUserID, &c.SAMSExternalID, &c.Version, &metadata, &private, &flags, &c.BillingProduct, &c.BillingCategory,
		&c.TraceID, &c.InteractionID, &c.CountryCode,
	}
	for i := range c.Marketing {
		targets = append(targets, &c.Marketing[i])
	}
	if err := rows.Scan(append(targets, &text)...); err != nil {
		return a, err
	}
	a.sender = senderName(source, id, license)
	c.RecordedAt = microseconds(at)
	c.Metadata, c.Flags = map[string]string{}, map[string]string{}
	if m, ok := metadata.(duckdb.OrderedMap); ok {
		for i, v := range m.Values() {
			c.Metadata[m.Keys()[i].(string)] = bits(v.(float64))
		}
	}
	if m, ok := flags.(duckdb.OrderedMap); ok {
		for i, v := range m.Values() {
			c.Flags[m.Keys()[i].(string)] = v.(string)
		}
	}
	if private.Valid {
		if err := json.Unmarshal([]byte(private.String), &c.Private); err != nil {
			return a, fmt.Errorf("private_metadata of %q: %w", a.id, err)
		}
	}
	a.columns = c.hash()
	var p payload
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return a, fmt.Errorf("payload of %q: %w", a.id, err)
	}
	if p.Event.ID == a.id {
		a.payload = p.content().hash()
	}
	a.labels = senderName(p.Labels["publisher.source"], p.Labels["publisher.id"], p.Labels["license.id"])
	return a, nil
}

// check audits the warehouse after the pipeline has drained the topics and
// ended, and adds up: each message became one row of one table.
func (l *landing) check(t testing.TB, want []expectation) holdings {
	t.Helper()
	h := read(t, l.warehouse)
	audit(want, h).report(t)
	byPipeline := 0
	for _, r := range h.rejections {
		if r.stage == "pipeline" {
			byPipeline++
		}
	}
	if strings.HasPrefix(l.topic, "sqlite:") {
		if n := messages(t, l.topic, "*"); n != len(h.arrivals)+h.duplicates+byPipeline+l.redelivered {
			t.Errorf("the topic has %d messages, %d of them twice, but the warehouse %d events, %d duplicates and %d messages that cannot land",
				n, l.redelivered, len(h.arrivals), h.duplicates, byPipeline)
		}
		// The same dead letter can be there twice after a crash.
		if n := messages(t, l.deadLetter, "DISTINCT data"); n != len(h.rejections) {
			t.Errorf("there are %d dead letters, and %d have landed", n, len(h.rejections))
		}
	}
	if h.early > 0 {
		t.Errorf("%d events landed before they were received", h.early)
	}
	if len(h.arrivals) == 0 {
		t.Error("nothing has landed, which proves nothing")
	}
	return h
}

func (h holdings) String() string {
	return fmt.Sprintf("%d events landed, %d duplicates, %d rejected", len(h.arrivals), h.duplicates, len(h.rejections))
}

// messages counts what a topic has ever got: these tests remove nothing.
func messages(t testing.TB, topicURL, what string) (n int) {
	t.Helper()
	db := openTopic(t, topicURL)
	defer db.Close()
	if err := db.QueryRow("SELECT count(" + what + ") FROM messages").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// licenseID is the ID in a licence key.
func licenseID(t testing.TB, key, public string) string {
	t.Helper()
	stdout, stderr, exit := run(t, "", nil, "license", "inspect", "-keys", public, key)
	var shown struct{ ID string }
	if err := json.Unmarshal([]byte(stdout), &shown); err != nil || exit != 0 || shown.ID == "" {
		t.Fatalf("telemetry license inspect: exit %d, %v: %s%s", exit, err, stdout, stderr)
	}
	return shown.ID
}
