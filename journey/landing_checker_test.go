// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestAudit spoils a warehouse in every way that matters, and the audit finds
// each out: one that finds nothing wrong anywhere else then means something.
func TestAudit(t *testing.T) {
	t.Parallel()
	s := streamIn(t)
	g := s.startGateway(t)
	p := s.start(t)
	s.burst(t, g, 6)
	s.plant(t)
	s.drained(t, p)
	t.Log(s.finishWith(t, p))
	if t.Failed() {
		return
	}
	want := s.ledger.expectations(s.license)

	const (
		one   = "(SELECT min(rowid) FROM events WHERE source = 'licensed_instance')"
		other = "(SELECT max(rowid) FROM events WHERE source = 'unlicensed_instance')"
		dead  = "(SELECT min(rowid) FROM events_rejected)"
	)
	const (
		lost = 1 << iota
		duplicated
		altered
		foreign
	)
	for _, row := range []struct {
		name, sql string
		want      int // what is found, at least
	}{
		{"a row is gone", "DELETE FROM events WHERE rowid = " + one, lost},
		{"all rows are gone", "DELETE FROM events", lost},
		{"a row is there twice", "INSERT INTO events SELECT * FROM events WHERE rowid = " + one, duplicated},
		{"another ID", "UPDATE events SET event_id = event_id || 'x' WHERE rowid = " + one, lost | foreign},
		{"another instance", "UPDATE events SET source_id = 'site-7' WHERE rowid = " + one, lost | foreign},
		{"another kind of sender", "UPDATE events SET source = 'unlicensed_instance', license_id = NULL WHERE rowid = " + one, lost | duplicated | altered},
		{"another licence", "UPDATE events SET license_id = 'L-1' WHERE rowid = " + one, lost | foreign},
		{"no licence", "UPDATE events SET license_id = NULL WHERE rowid = " + one, lost | foreign},
		{"another's row in its place", "UPDATE events SET payload = (SELECT payload FROM events WHERE rowid = " + other + ") WHERE rowid = " + one, altered},
		{"another feature", "UPDATE events SET feature = 'codeNav' WHERE rowid = " + one, altered},
		{"a microsecond later", "UPDATE events SET recorded_at = recorded_at + INTERVAL 1 MICROSECOND WHERE rowid = " + one, altered},
		{"another number", "UPDATE events SET metadata = map_concat(metadata, MAP {'number': (-1)::DOUBLE}) WHERE rowid = " + one, altered},
		{"a number less", "UPDATE events SET metadata = NULL WHERE rowid = " + one, altered},
		{"0 for -0", "UPDATE events SET metadata = map_concat(metadata, MAP {'odd': 0::DOUBLE}) WHERE metadata['odd']::VARCHAR = '-0.0'", altered},
		{"a large user ID by a double", "UPDATE events SET user_id = user_id + 1 WHERE user_id > 9007199254740992", altered},
		{"other private metadata", `UPDATE events SET private_metadata = '{}' WHERE rowid = ` + one, altered},
		{"another flag", "UPDATE events SET feature_flags = MAP {'new-ui': 'false'} WHERE feature_flags IS NOT NULL", altered},
		{"another payload", `UPDATE events SET payload = replace(payload::VARCHAR, '"6.5.0"', '"6.5.1"') WHERE rowid = ` + one, altered},
		{"another sender in the payload", `UPDATE events SET payload = replace(payload::VARCHAR, '"publisher.id":"site-', '"publisher.id":"site-1') WHERE rowid = ` + one, altered},
		{"a dead letter is gone", "DELETE FROM events_rejected WHERE rowid = " + dead, lost},
		{"a dead letter is there twice", "INSERT INTO events_rejected SELECT * FROM events_rejected WHERE rowid = " + dead, duplicated},
		{"a dead letter of other bytes", "UPDATE events_rejected SET bytes = bytes || '\\x00'::BLOB WHERE rowid = " + dead, lost | foreign},
		{"a dead letter of another sender", "UPDATE events_rejected SET source_id = 'site-7' WHERE rowid = " + dead, altered},
	} {
		path := filepath.Join(t.TempDir(), "warehouse.duckdb")
		copyFile(t, s.warehouse, path)
		db := openWarehouse(t, path, "read_write")
		result, err := db.Exec(row.sql)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			t.Errorf("%s: nothing was spoilt: %v", row.name, err)
		}
		db.Close()
		f := audit(want, read(t, path))
		found := 0
		for kind, what := range map[int][]string{lost: f.lost, duplicated: f.duplicated, altered: f.altered, foreign: f.foreign} {
			if len(what) > 0 {
				found |= kind
			}
		}
		if found&row.want != row.want {
			t.Errorf("%s: the audit found %+v", row.name, f)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	r, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := io.Copy(w, r); err != nil {
		t.Fatal(err)
	}
}
