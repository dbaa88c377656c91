// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	_ "github.com/telemetrygateway/telemetry/internal/golden" // for its flag -update
)

const (
	pageFiles = "testdata/browser"
	// picture shows the page to readers of the documentation. With -update it is
	// taken anew.
	picture      = "../docs/web-client.png"
	pictureBytes = 150_000
)

// browserEvent is an event as the web client makes it, and as it is to arrive.
type browserEvent struct {
	Timestamp  time.Time
	Feature    string
	Action     string
	Source     struct{ Client, ClientVersion string }
	Parameters struct {
		Version       int
		InteractionID string
		Metadata      []struct {
			Key   string
			Value float64
		}
		PrivateMetadata map[string]any
		BillingMetadata map[string]any
	}
	MarketingTracking map[string]any
}

// TestBrowser clicks in a page that runs the published web client in a real
// browser, from another origin than the instance. What arrives in the gateway's
// topic is what was clicked, field by field, and nothing that must not leave. A
// page of an origin that is not allowed gets nothing through.
func TestBrowser(t *testing.T) {
	chromium, files := installBrowser(t)
	allowed, other := servePage(t, files), servePage(t, files)

	dir := t.TempDir()
	write(t, filepath.Join(dir, "allow.yaml"), `allow: [{feature: search.results, action: opened, keys: [languageId], reason: one of a few languages}]`)
	g := startGateway(t, dir)
	door := startDoor(t, dir, "-gateway", "http://"+g.address, "-export-interval", "100ms",
		"-allow-origin", allowed.URL, "-allow-private", "allow.yaml")

	// First, so that whatever comes of it is in the topic before the rest.
	refused := drive(t, chromium, files, other.URL, door, filepath.Join(dir, "refused.png"))
	if refused.Taken || len(refused.Recorded) != 3 || len(refused.Errors) != 0 {
		t.Errorf("a page of an origin that is not allowed: %+v", refused)
	}
	shot := filepath.Join(dir, "web-client.png")
	clicked := drive(t, chromium, files, allowed.URL, door, shot)
	if !clicked.Taken || len(clicked.Recorded) != 3 || len(clicked.Errors) != 0 {
		t.Fatalf("the page: %+v", clicked)
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tail := exec.CommandContext(ctx, telemetry, "tail", "-topic", "sqlite://data/topic.db", "-from-start", "-follow", "-limit", "3")
	tail.Dir, tail.Env = dir, cleanEnv()
	stdout, err := tail.Output()
	if err != nil {
		t.Fatalf("telemetry tail: %v", err)
	}
	var arrived []map[string]any
	for text := range strings.Lines(string(stdout)) {
		var line struct {
			Data struct{ Event map[string]any }
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		arrived = append(arrived, line.Data.Event)
	}
	if diff := cmp.Diff(expected(clicked.Recorded), comparable(t, arrived)); diff != "" {
		t.Errorf("clicked -, arrived +:\n%s", diff)
	}
	if text, _, _ := run(t, dir, nil, "tail", "-from-start"); strings.Contains(text, "canary") || strings.Count(text, "\n") != 3 {
		t.Errorf("the topic has\n%s", text)
	}
	checkPicture(t, shot, picture)
}

// expected are the events as they are to arrive, without what only the server
// knows.
func expected(recorded []browserEvent) []map[string]any {
	var events []map[string]any
	for _, r := range recorded {
		parameters := map[string]any{}
		if r.Parameters.Version != 0 {
			parameters["version"] = float64(r.Parameters.Version)
		}
		metadata := map[string]any{}
		for _, m := range r.Parameters.Metadata {
			metadata[m.Key] = m.Value
		}
		if len(metadata) > 0 {
			parameters["metadata"] = metadata
		}
		if r.Parameters.BillingMetadata != nil {
			parameters["billingMetadata"] = r.Parameters.BillingMetadata
		}
		if language, ok := r.Parameters.PrivateMetadata["languageId"]; ok {
			parameters["privateMetadata"] = map[string]any{"languageId": language}
		}
		interaction := "of-the-whole-page"
		if r.Parameters.InteractionID != "" {
			interaction = r.Parameters.InteractionID
		}
		events = append(events, map[string]any{
			"timestamp":   r.Timestamp,
			"feature":     r.Feature,
			"action":      r.Action,
			"source":      map[string]any{"client": map[string]any{"name": r.Source.Client, "version": r.Source.ClientVersion}},
			"parameters":  parameters,
			"user":        map[string]any{"anonymousUserId": "a-visitor-of-the-web-app"},
			"interaction": map[string]any{"interactionId": interaction},
		})
	}
	return events
}

// comparable checks what only the server knows, and takes it out.
func comparable(t *testing.T, events []map[string]any) []map[string]any {
	t.Helper()
	for _, e := range events {
		if id, _ := e["id"].(string); len(id) != 36 || id[14] != '7' {
			t.Errorf("event ID %v", e["id"])
		}
		delete(e, "id")
		at, err := time.Parse(time.RFC3339, fmt.Sprint(e["timestamp"]))
		if err != nil {
			t.Error(err)
		}
		e["timestamp"] = at
		source, _ := e["source"].(map[string]any)
		if server, _ := source["server"].(map[string]any); server["version"] == "" || server["version"] == nil {
			t.Errorf("source %v", source)
		}
		delete(source, "server")
		interaction, _ := e["interaction"].(map[string]any)
		if trace, _ := interaction["traceId"].(string); trace != "" && len(trace) != 32 {
			t.Errorf("trace ID %q", trace)
		}
		delete(interaction, "traceId")
	}
	return events
}

// installBrowser returns the browser, and a folder with the page, the web client
// and what drives the browser.
func installBrowser(t *testing.T) (chromium, dir string) {
	t.Helper()
	for _, part := range []struct{ name, pkg string }{{"chromium", "chromium fonts-dejavu-core"}, {"node", "nodejs"}, {"npm", "npm"}} {
		found, err := exec.LookPath(part.name)
		if err != nil {
			t.Fatalf("%v: install it with apt-get install -y %s", err, part.pkg)
		}
		if part.name == "chromium" {
			chromium = found
		}
	}
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(pageFiles)); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("npm", "ci", "--no-update-notifier")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v (it needs the npm registry)\n%s", err, out)
	}
	return chromium, dir
}

// servePage serves the page from an origin of its own. Names of modules are
// redirected to their files, as Node would resolve them.
func servePage(t *testing.T, dir string) *httptest.Server {
	files := http.FileServerFS(os.DirFS(dir))
	mux := http.NewServeMux()
	mux.Handle("GET /", files)
	const published = "node_modules/@sourcegraph/telemetry/dist"
	mux.HandleFunc("GET /telemetry/{module...}", func(w http.ResponseWriter, r *http.Request) {
		module := path.Clean("/" + r.PathValue("module"))
		for _, file := range []string{module, module + ".js", path.Join(module, "index.js")} {
			name := filepath.Join(dir, published, file)
			if info, err := os.Stat(name); err != nil || info.IsDir() {
				continue
			}
			if file == module {
				http.ServeFile(w, r, name)
				return
			}
			http.Redirect(w, r, "/telemetry"+file, http.StatusFound)
			return
		}
		http.NotFound(w, r)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// startDoor starts an instance in dir and returns its URL.
func startDoor(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	cmd := exec.Command(telemetry, append([]string{"instance", "-listen", "127.0.0.1:0", "-admin", "off"}, flags...)...)
	cmd.Dir, cmd.Env = dir, cleanEnv()
	return "http://" + launch(t, cmd, "instance").address
}

// visit is what the page made of the clicks.
type visit struct {
	Taken    bool
	State    string
	Errors   []string
	Recorded []browserEvent
}

func drive(t *testing.T, chromium, files, page, instance, screenshot string) (v visit) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	node := exec.CommandContext(ctx, "node", "drive.mjs", chromium, page+"/?instance="+url.QueryEscape(instance), screenshot)
	node.Dir = files
	node.Stdout, node.Stderr = &stdout, &stderr
	err := node.Run()
	if err == nil {
		err = json.Unmarshal(stdout.Bytes(), &v)
	}
	if err != nil {
		t.Fatalf("drive %s: %v\n%s%s", page, err, &stdout, &stderr)
	}
	return v
}

// checkPicture looks whether there is something on a screenshot, and takes it
// over into the documentation if asked to.
func checkPicture(t *testing.T, shot, picture string) {
	t.Helper()
	if f := flag.Lookup("update"); f.Value.String() == "true" {
		taken, err := os.ReadFile(shot)
		if err != nil {
			t.Fatal(err)
		}
		write(t, picture, string(taken))
	}
	for _, file := range []string{shot, picture} {
		encoded, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(encoded) > pictureBytes {
			t.Errorf("%s has %d bytes, more than %d", file, len(encoded), pictureBytes)
		}
		img, err := png.Decode(bytes.NewReader(encoded))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		// Text with smooth edges has many shades; a blank page has one.
		shades := map[any]bool{}
		for y := range img.Bounds().Dy() {
			for x := range img.Bounds().Dx() {
				shades[img.At(x, y)] = true
			}
		}
		if len(shades) < 100 {
			t.Errorf("%s has %d shades: there is nothing on it", file, len(shades))
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
