// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDiskFull fills the disk that the topics are on. Senders are told that
// their events failed and keep them. When there is room again the same process
// goes on, and whatever it acknowledged is there.
func TestDiskFull(t *testing.T) {
	d := newDisk(t)
	if d == nil {
		return
	}
	licence, public := issueLicence(t)
	g := startGateway(t, d.folder, "-license-keys", public)
	type summary struct {
		Sent, Accepted, Failed int
		Reasons                map[string]int
	}
	kept := 0
	send := func(n string) (s summary) {
		t.Helper()
		stdout, stderr, _ := run(t, t.TempDir(), nil, "send", "-gateway", "http://"+g.address, "-license", licence, "-site-id", "site", "-count", n)
		if err := json.Unmarshal([]byte(stdout), &s); err != nil {
			t.Fatalf("%v: %s%s", err, stdout, stderr)
		}
		if s.Accepted+s.Failed != s.Sent {
			t.Errorf("the sums do not add up: %+v", s)
		}
		kept += s.Accepted
		return s
	}

	if s := send("1000"); s.Failed != 0 {
		t.Fatalf("before: %+v", s)
	}
	filler := filepath.Join(d.folder, "filler")
	fill(t, filler)
	if s := send("20000"); s.Failed == 0 || s.Reasons["topic_unavailable"] != s.Failed {
		t.Errorf("with the disk full: %+v", s)
	}
	g.await(t, "disk is full")
	if status, body := g.get(t, "/livez"); status != 200 {
		t.Errorf("alive with the disk full: %d %s", status, body)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if s := send("1000"); s.Failed != 0 {
		t.Errorf("with room again: %+v", s)
	}
	stdout, stderr, exit := run(t, d.folder, nil, "tail", "-topic", "sqlite://data/topic.db", "-from-start")
	if got := strings.Count(stdout, "\n"); exit != 0 || got < kept {
		t.Errorf("the topic has %d events, %d were acknowledged (exit %d: %s)", got, kept, exit, stderr)
	}
	t.Logf("%d events acknowledged before, while and after the disk was full, none lost", kept)
	g.kill() // lets go of the disk
}

// fill writes a file until there is no room for a single byte more.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); errors.Is(err, unix.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
