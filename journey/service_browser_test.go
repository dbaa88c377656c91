// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// servicePicture shows the example's page to readers of the documentation.
const servicePicture = "../docs/service.png"

// used is what the browser knows of the visits to the page.
type used struct {
	Errors       []string
	Tabs         map[string][]string // visits in each
	First, Asked string              // polls
	Copied       string
	Listed       []string
	Cookies      []struct {
		Name, Value, SameSite string
		HTTPOnly, Secure      bool
	}
}

func (u *used) visitor() string {
	for _, c := range u.Cookies {
		if c.Name == "visitor" {
			return c.Value
		}
	}
	return ""
}

// testServiceInBrowser uses the page in a real browser, against a real OAuth
// provider. All that was done arrives in the gateway's topic as the service's,
// also what was recorded in the moment in which a tab was closed, left or
// reloaded, or the window closed; and nothing arrives of who does not want it, of
// what was written, or of what is secret.
func testServiceInBrowser(t *testing.T, p *product, chromium, folder string) {
	if err := os.CopyFS(folder, os.DirFS("testdata/service")); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name  string
		flags []string
	}{
		{"from memory", nil},
		{"from a queue", []string{"-db", "service.db"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			g := p.gatewayFor(t, dir)
			s := p.start(t, dir, "http://"+g.address, row.flags...)
			if status, body := s.get(t, "/healthz"); status != http.StatusOK || body != "ok\n" {
				t.Errorf("/healthz: %d %s", status, body)
			}
			shot := filepath.Join(dir, "service.png")
			began := time.Now()
			u := use(t, chromium, folder, "http://"+s.address, shot)
			want := done(t, u)
			await(t, dir, len(want))
			log := p.stop(t, s, 0)
			got := eventsOf(t, dir, began)
			for _, line := range without(want, got) {
				t.Errorf("done and not arrived: %s", line)
			}
			for _, line := range without(got, want) {
				t.Errorf("arrived and not done: %s", line)
			}
			if len(u.Errors) > 0 {
				t.Errorf("the page had errors: %q", u.Errors)
			}
			if u.Copied != "http://"+s.address+"/#"+u.Asked {
				t.Errorf("copied %q", u.Copied)
			}
			for _, c := range u.Cookies {
				if c.Name == "visitor" && (!c.HTTPOnly || c.SameSite != "Lax" || c.Secure || uuid.Validate(c.Value) != nil) {
					t.Errorf("cookie %+v", c)
				}
			}

			places := map[string]string{
				"the service's log": log, "the gateway's log": g.tail(1 << 20), "a metric": fetch(t, g.admin, "/metrics"),
				"the topic": files(t, filepath.Join(dir, "data")),
			}
			for place, text := range places {
				p.nothingSecret(t, place, text)
				if place != "the topic" && strings.Contains(text, u.visitor()) {
					t.Errorf("%s has the visitor's cookie", place)
				}
			}
			if len(row.flags) > 0 {
				p.nothingSecret(t, "the queue", files(t, filepath.Join(dir, "service.db")))
			}
			checkPicture(t, shot, servicePicture)
		})
	}
}

// use has a browser use the page. The browser is there until the test ends.
func use(t *testing.T, chromium, folder, page, screenshot string) (u used) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	var stderr bytes.Buffer
	node := exec.CommandContext(ctx, "node", "service.mjs", chromium, page, screenshot)
	node.Dir, node.Stderr = folder, &stderr
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		stdin.Close()
		if err := node.Wait(); err != nil {
			t.Errorf("the browser ended: %v\n%s", err, &stderr)
		}
	})
	if err := json.NewDecoder(stdout).Decode(&u); err != nil {
		t.Fatalf("drive %s: %v", page, err)
	}
	return u
}

// done is what testdata/service/service.mjs does, as events.
func done(t *testing.T, u used) []string {
	t.Helper()
	var events []map[string]any
	add := func(client, visit, name, poll string, metadata map[string]any) {
		feature, action, _ := strings.Cut(name, "/")
		source := map[string]any{"server": map[string]any{"version": "1.0.0"}}
		if client != "" {
			source["client"] = map[string]any{"name": client, "version": "1.0.0"}
		}
		parameters := map[string]any{}
		if metadata != nil {
			parameters["metadata"] = metadata
		}
		if poll != "" {
			parameters["privateMetadata"] = map[string]any{"poll": poll}
		}
		if name == "poll.vote/counted" {
			parameters["billingMetadata"] = map[string]any{"product": "polls", "category": "votes"}
		}
		events = append(events, map[string]any{
			"feature": feature, "action": action, "source": source, "parameters": parameters,
			"user":        map[string]any{"anonymousUserId": u.visitor()},
			"interaction": map[string]any{"interactionId": visit},
		})
	}
	type numbers = map[string]any
	page := func(visit, name, poll string, n numbers) { add("polls.web", visit, name, poll, n) }
	backend := func(visit, name, poll string, n numbers) { add("", visit, name, poll, n) }
	visit := func(tab string, number int) string {
		if len(u.Tabs[tab]) <= number {
			return "missing"
		}
		return u.Tabs[tab][number]
	}
	opened := func(visit, poll string, answered float64) {
		page(visit, "poll/opened", poll, numbers{"answers": 3.0, "answered": answered})
	}
	voted := func(visit string, answer, changed float64) {
		page(visit, "poll.answer/chosen", u.First, numbers{"answer": answer})
		backend(visit, "poll.vote/counted", u.First, numbers{"answer": answer, "changed": changed})
	}

	use := visit("use", 0)
	page(use, "page/viewed", "", numbers{"polls": 1.0})
	opened(use, u.First, 0)
	voted(use, 0, 0)
	voted(use, 1, 1)
	backend(use, "poll/asked", u.Asked, numbers{"answers": 3.0})
	opened(use, u.Asked, 0)
	page(use, "poll.link/copied", u.Asked, nil)
	opened(use, u.First, 1)

	voted(visit("off", 0), 0, 1)

	arrive := func(visit string) {
		page(visit, "page/viewed", "", numbers{"polls": 2.0})
		opened(visit, u.First, 1)
	}
	for answers, tab := range []string{"closed", "navigated", "reloaded", "quit"} {
		arrive(visit(tab, 0))
		page(visit(tab, 0), "poll.draft/abandoned", "", numbers{"question": 1.0, "answers": float64(answers)})
	}
	arrive(visit("reloaded", 1))
	voted(visit("quit", 0), 1, 1)
	return lines(t, events)
}

// eventsOf are the events that a gateway in dir has published. It checks what
// cannot be foretold, and takes it out.
func eventsOf(t *testing.T, dir string, began time.Time) []string {
	t.Helper()
	stdout, stderr, exit := run(t, dir, nil, "tail", "-from-start")
	if exit != 0 || stderr != "" {
		t.Fatalf("telemetry tail: exit %d: %s", exit, stderr)
	}
	var events []map[string]any
	ids := map[string]bool{}
	for text := range strings.Lines(stdout) {
		var line struct {
			Attributes map[string]string
			Data       struct {
				Metadata struct{ Identifier any }
				Event    map[string]any
				Labels   map[string]any
			}
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		who := map[string]any{"managedService": map[string]any{"serviceId": "polls", "serviceEnvironment": "journey"}}
		if diff := cmp.Diff(who, line.Data.Metadata.Identifier); diff != "" {
			t.Errorf("identifier:\n%s", diff)
		}
		if a := line.Attributes; a["publisher.source"] != "polls" || a["publisher.id"] != "polls" || line.Data.Labels["publisher.trust"] != "service" {
			t.Errorf("attributes %v, labels %v", a, line.Data.Labels)
		}
		e := line.Data.Event
		id, _ := e["id"].(string)
		if uuid.Validate(id) != nil || ids[id] {
			t.Errorf("event ID %q", id)
		}
		ids[id] = true
		at, err := time.Parse(time.RFC3339, fmt.Sprint(e["timestamp"]))
		if err != nil || at.Before(began.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("timestamp %v, %v", e["timestamp"], err)
		}
		delete(e, "id")
		delete(e, "timestamp")
		if parameters, _ := e["parameters"].(map[string]any); e["action"] == "chosen" {
			metadata, _ := parameters["metadata"].(map[string]any)
			if seconds, ok := metadata["seconds"].(float64); !ok || seconds < 0 || seconds > patience.Seconds() {
				t.Errorf("metadata %v", metadata)
			}
			delete(metadata, "seconds")
		}
		events = append(events, e)
	}
	return lines(t, events)
}

// lines are events as JSON, in an order that does not depend on when they were
// sent: page and backend do that each for itself.
func lines(t *testing.T, events []map[string]any) (lines []string) {
	t.Helper()
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
	slices.Sort(lines)
	return lines
}

// without returns the lines of a that are not in b, each as often as it is
// there more often.
func without(a, b []string) (rest []string) {
	count := map[string]int{}
	for _, line := range b {
		count[line]++
	}
	for _, line := range a {
		if count[line]--; count[line] < 0 {
			rest = append(rest, line)
		}
	}
	return rest
}
