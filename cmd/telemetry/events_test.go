// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

func generate(t *testing.T, count int, seed uint64) []event {
	t.Helper()
	var all []event
	for g := newGenerated(count, seed); ; {
		e, err := g.next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
}

func TestGeneratedEvents(t *testing.T) {
	events := generate(t, 2000, 1)
	ids, size := map[string]bool{}, 0
	for _, made := range events {
		var e telemetrygatewayv1.Event
		if err := proto.Unmarshal(made.wire, &e); err != nil {
			t.Fatal(err)
		}
		if p := limits.CheckEvent(&e); p != nil {
			t.Fatalf("a made-up event is not valid: %v", p)
		}
		ids[e.GetId()] = true
		size += len(made.wire)
	}
	if len(events) != 2000 || len(ids) != 2000 {
		t.Errorf("%d events with %d IDs, want 2000", len(events), len(ids))
	}
	if mean := size / len(events); mean < 350 || mean > 450 {
		t.Errorf("%d bytes an event on the wire, want about 400", mean)
	}
}

func TestGeneratedEventsFollowTheSeed(t *testing.T) {
	first, same, other, fresh := generate(t, 20, 1), generate(t, 20, 1), generate(t, 20, 2), generate(t, 20, 0)
	for i := range first {
		a, b := new(telemetrygatewayv1.Event), new(telemetrygatewayv1.Event)
		if errors.Join(proto.Unmarshal(first[i].wire, a), proto.Unmarshal(same[i].wire, b)) != nil || !proto.Equal(a, b) {
			t.Errorf("event %d differs between runs with one seed", i)
		}
		if first[i].id == other[i].id || first[i].id == fresh[i].id {
			t.Errorf("event %d has the same ID with another seed", i)
		}
	}
}

func TestEventFiles(t *testing.T) {
	const good = `{"id":"1","feature":"search","action":"run"}`
	for _, tt := range []struct {
		name, text string
		events     int
		err        string
	}{
		{"events", good + "\n" + good + "\n", 2, ""},
		{"blank lines, no newline at the end", "\n" + good + "\r\n \n\n" + good, 2, ""},
		{"nothing", "", 0, ""},
		{"unknown field", good + "\n\n" + `{"id":"1","colour":"red"}`, 0, `line 3 is not an event: column 11: unknown field "colour"`},
		{"not JSON", "id=1", 0, "line 1 is not an event: column 1:"},
		{"two on a line", good + good, 0, "line 1 is not an event"},
		{"not UTF-8", "{\"id\":\"\xff\"}", 0, "line 1 is not an event"},
		{"cut off", good + "\n" + good[:20], 0, "line 2 is not an event"},
	} {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openEvents(path)
		if tt.err != "" {
			if bad := (command.ConfigError{}); err == nil || !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		n := 0
		for ; err == nil; n++ {
			_, err = f.next()
		}
		if n--; n != tt.events || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %d events, %v; want %d", tt.name, n, err, tt.events)
		}
		f.close()
	}
}

// Lines are named by their number in the file, wherever the event came from.
func TestEventFileNamesLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	text := bytes.Repeat([]byte("\n"), 4)
	text = append(text, `{"id":"x"}`...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openEvents(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if e, err := f.next(); err != nil || e.where != "line 5" || e.id != "x" {
		t.Errorf("%v, %v; want x in line 5", e, err)
	}
}
