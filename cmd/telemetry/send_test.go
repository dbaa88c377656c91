// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/license"
)

// runOnce runs a command as main does, and returns its exit code and output.
func runOnce(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = command.Report(root().Run(ctx, args, &out, &errs), &errs)
	return code, out.String(), errs.String()
}

// liveGateway is a gateway that runs until the test ends, on files in dir.
type liveGateway struct {
	url, dir string
	stop     func()
}

func (g liveGateway) topic() string       { return "sqlite://" + filepath.Join(g.dir, "topic.db") }
func (g liveGateway) deadLetters() string { return "sqlite://" + filepath.Join(g.dir, "deadletter.db") }

var listening = regexp.MustCompile(`msg="(?:gateway|instance) started".* listen=(\S+)`)

func startGateway(t *testing.T, dir, address string, args ...string) liveGateway {
	t.Helper()
	g := liveGateway{dir: dir}
	args = append([]string{
		"gateway", "-listen", address, "-admin", "",
		"-topic", g.topic(), "-deadletter", g.deadLetters(),
	}, args...)
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.CloseWithError(fmt.Errorf("gateway ended: %w", root().Run(ctx, args, io.Discard, w)))
	}()
	g.stop = func() { cancel(); <-ended }
	t.Cleanup(g.stop)

	at, log := listeningAt(r)
	if at == "" {
		t.Fatalf("the gateway did not start:\n%s", log)
	}
	g.url = "http://" + at
	return g
}

type summary struct {
	Sent, Accepted, Failed int
	DeadLettered           int `json:"dead_lettered"`
	Reasons                map[string]int
	RequestID              string `json:"request_id"`
	Seconds                *float64
}

func parseSummary(t *testing.T, stdout string) summary {
	t.Helper()
	var s summary
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil || strings.Count(stdout, "\n") != 1 || s.Seconds == nil {
		t.Fatalf("summary %q, %v; want one line of JSON", stdout, err)
	}
	return s
}

// lines returns the lines that telemetry tail prints of a whole topic.
func lines(t *testing.T, args ...string) []string {
	t.Helper()
	code, stdout, stderr := runOnce(t.Context(), append([]string{"tail", "-from-start"}, args...)...)
	if code != 0 {
		t.Fatalf("tail: exit %d, %s", code, stderr)
	}
	var all []string
	for line := range strings.Lines(stdout) {
		all = append(all, line)
	}
	return all
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// issueLicense returns a licence key, and the file of public keys that it is
// verified with.
func issueLicense(t *testing.T) (key, keysFile string) {
	t.Helper()
	private, err := license.GenerateKey("test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := license.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err = license.Issue(signer, license.Info{Users: 10, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return key, writeFile(t, "license.pub", string(signer.PublicKey()))
}

func TestSendUnlicensed(t *testing.T) {
	g := startGateway(t, t.TempDir(), "127.0.0.1:0")
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"grpc", nil},
		{"old service name", []string{"-old-service-name"}},
		{"connect", []string{"-protocol", "connect"}},
		{"auto", []string{"-protocol", "auto"}},
	} {
		ledger := filepath.Join(t.TempDir(), "ledger")
		before := len(lines(t, "-topic", g.topic()))
		code, stdout, stderr := runOnce(t.Context(), append([]string{
			"send", "-gateway", g.url, "-site-id", "site-1", "-external-url", "https://one.example.com",
			"-count", "1200", "-batch", "100", "-ledger", ledger,
		}, tt.args...)...)
		if code != 0 || stderr != "" {
			t.Errorf("%s: exit %d, stderr %q; want 0 and nothing", tt.name, code, stderr)
		}
		s := parseSummary(t, stdout)
		if s.Sent != 1200 || s.Accepted != 1200 || s.DeadLettered != 0 || s.Failed != 0 || len(s.Reasons) != 0 || s.RequestID == "" {
			t.Errorf("%s: %+v, want 1200 accepted", tt.name, s)
		}
		published := lines(t, "-topic", g.topic())[before:]
		if len(published) != 1200 {
			t.Errorf("%s: %d messages published, want 1200", tt.name, len(published))
		}
		written, err := os.ReadFile(ledger)
		if err != nil || strings.Count(string(written), " ok\n") != 1200 {
			t.Errorf("%s: %d events ok in the ledger, %v; want 1200", tt.name, strings.Count(string(written), " ok\n"), err)
		}
		for i, line := range strings.Split(strings.TrimSpace(string(written)), "\n") {
			if id, _, _ := strings.Cut(line, " "); !strings.Contains(published[i], id) {
				t.Fatalf("%s: event %d of the ledger, %s, is not message %d of the topic", tt.name, i, id, i)
			}
		}
	}
}

func TestSendLicensed(t *testing.T) {
	key, keys := issueLicense(t)
	g := startGateway(t, t.TempDir(), "127.0.0.1:0", "-license-keys", keys, "-unlicensed", "deny")
	send := []string{"send", "-gateway", g.url, "-count", "3"}

	code, stdout, stderr := runOnce(t.Context(), append(send, "-license", "@"+writeFile(t, "key", key+"\n"), "-site-id", "site-1")...)
	if s := parseSummary(t, stdout); code != 0 || s.Accepted != 3 {
		t.Errorf("with a licence: exit %d, %+v, %s", code, s, stderr)
	}
	for _, line := range lines(t, "-topic", g.topic()) {
		if !strings.Contains(line, `"publisher.source":"licensed_instance"`) || !strings.Contains(line, `"instanceId":"site-1"`) {
			t.Errorf("not labelled as the licensed instance site-1: %s", line)
		}
	}

	code, stdout, stderr = runOnce(t.Context(), append(send, "-site-id", "site-1")...)
	if s := parseSummary(t, stdout); code != 1 || s.Failed != 3 || !strings.Contains(stderr, "the gateway refused") {
		t.Errorf("without: exit %d, %+v, %s", code, s, stderr)
	}

	// A key whose signature does not fit: the answer never shows the key.
	forged := key[:len(key)-1]
	code, stdout, stderr = runOnce(t.Context(), append(send, "-license", forged)...)
	if s := parseSummary(t, stdout); code != 1 || s.Failed != 3 || !strings.Contains(stderr, "the gateway refused") || strings.Contains(stderr, forged[:40]) {
		t.Errorf("forged: exit %d, %+v, %s", code, s, stderr)
	}
}

func TestSendFile(t *testing.T) {
	g := startGateway(t, t.TempDir(), "127.0.0.1:0")
	file := writeFile(t, "events.jsonl", `{"id":"good-1","timestamp":"2026-01-02T15:04:05Z","feature":"search","action":"run"}

{"id":"bad 1","timestamp":"2026-01-02T15:04:05Z","feature":"Not A Feature","action":"run"}
{"id":"good-2","timestamp":"2026-01-02T15:04:05Z","feature":"search","action":"run"}
`)
	ledger := filepath.Join(t.TempDir(), "ledger")
	code, stdout, stderr := runOnce(t.Context(), "send", "-gateway", g.url, "-site-id", "s", "-file", file, "-ledger", ledger)
	if s := parseSummary(t, stdout); code != 1 || s.Sent != 3 || s.Accepted != 2 || s.DeadLettered != 1 || s.Reasons["feature_invalid"] != 1 {
		t.Errorf("exit %d, %+v", code, s)
	}
	if want := `line 3, ID "bad 1": dead-lettered: feature_invalid in feature: `; !strings.HasPrefix(stderr, want) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("stderr %q, want one line that begins with %q", stderr, want)
	}
	if b, err := os.ReadFile(ledger); err != nil || string(b) != "good-1 ok\n\"bad 1\" deadletter\ngood-2 ok\n" {
		t.Errorf("ledger %q, %v", b, err)
	}
	dead := lines(t, "-topic", g.deadLetters())
	if len(dead) != 1 || !strings.Contains(dead[0], "feature_invalid") {
		t.Errorf("dead letters %q, want one with its reason", dead)
	}
}

// An HTTP/1.1 proxy in between stops gRPC, and the error names the way out;
// with Connect events get through.
func TestSendThroughAnOldProxy(t *testing.T) {
	g := startGateway(t, t.TempDir(), "127.0.0.1:0")
	target, err := url.Parse(g.url)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := &http.Server{Handler: httputil.NewSingleHostReverseProxy(target)}
	go func() { _ = proxy.Serve(l) }()
	defer proxy.Close()
	send := []string{"send", "-gateway", "http://" + l.Addr().String(), "-site-id", "s", "-count", "30", "-batch", "10"}

	if code, stdout, stderr := runOnce(t.Context(), send...); code != 1 || parseSummary(t, stdout).Failed != 30 || !strings.Contains(stderr, "http or https") {
		t.Errorf("grpc: exit %d, %s %s", code, stdout, stderr)
	}
	if code, stdout, stderr := runOnce(t.Context(), append(send, "-protocol", "connect")...); code != 0 || parseSummary(t, stdout).Accepted != 30 {
		t.Errorf("connect: exit %d, %s %s", code, stdout, stderr)
	}
}

// The gateway is away, and comes back at the same address.
func TestSendRetries(t *testing.T) {
	dir := t.TempDir()
	g := startGateway(t, dir, "127.0.0.1:0")
	address := strings.TrimPrefix(g.url, "http://")
	g.stop()

	// What the sender reaches first only counts, hangs up, and makes room.
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var tries atomic.Int32
	away := make(chan struct{})
	go func() {
		defer close(away)
		for tries.Add(1) <= 3 {
			if conn, err := l.Accept(); err == nil {
				conn.Close()
			}
		}
		l.Close()
	}()
	type outcome struct {
		code           int
		stdout, stderr string
	}
	sent := make(chan outcome, 1)
	ledger := filepath.Join(t.TempDir(), "ledger")
	go func() {
		code, stdout, stderr := runOnce(t.Context(), "send", "-gateway", g.url, "-site-id", "s", "-count", "50", "-retry", "-ledger", ledger)
		sent <- outcome{code, stdout, stderr}
	}()
	<-away
	g = startGateway(t, dir, address)
	o := <-sent
	if s := parseSummary(t, o.stdout); o.code != 0 || s.Sent != 50 || s.Accepted != 50 || s.Failed != 0 {
		t.Errorf("exit %d, %+v, %s", o.code, s, o.stderr)
	}
	if n := len(lines(t, "-topic", g.topic())); n != 50 {
		t.Errorf("%d messages, want 50", n)
	}
	if b, err := os.ReadFile(ledger); err != nil || strings.Count(string(b), " ok\n") != 50 || strings.Count(string(b), "\n") != 50 {
		t.Errorf("%d lines in the ledger, %v; want 50 ok", strings.Count(string(b), "\n"), err)
	}
}

func TestSendUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, args := range [][]string{nil, {"-retry", "-timeout", "50ms"}} {
		ledger := filepath.Join(t.TempDir(), "ledger")
		code, stdout, stderr := runOnce(t.Context(), append([]string{
			"send", "-gateway", "http://" + l.Addr().String(), "-site-id", "s", "-count", "3", "-seed", "1", "-ledger", ledger,
		}, args...)...)
		if s := parseSummary(t, stdout); code != 1 || s.Sent != 3 || s.Failed != 3 || s.Reasons[client.ReasonNotSent]+s.Reasons[client.ReasonUnanswered] != 3 {
			t.Errorf("%v: exit %d, %+v", args, code, s)
		}
		if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "telemetry send: send to http://") {
			t.Errorf("%v: stderr %q, want one line", args, stderr)
		}
		if b, err := os.ReadFile(ledger); err != nil || strings.Count(string(b), " failed\n") != 3 {
			t.Errorf("%v: ledger %q, %v; want 3 failed", args, b, err)
		}
	}
}

func TestSendIsAskedWrongly(t *testing.T) {
	bad := writeFile(t, "bad.jsonl", "{}\n{\"id\":1x}\n")
	empty := writeFile(t, "empty", "\n")
	for _, tt := range []struct{ args, stderr string }{
		{"-count 1", "who sends?"},
		{"-site-id s", "what to send?"},
		{"-site-id s -count 1 -file x", "what to send?"},
		{"-site-id s -count -1", "must not be negative"},
		{"-site-id s -instance-id t -count 1", "two names for one thing"},
		{"-license @" + empty + " -count 1", "is empty"},
		{"-license @/nowhere/key -count 1", "no such file"},
		{"-site-id s -count 1 -batch 20001", "from 1 to 20000"},
		{"-site-id s -count 1 -protocol grpc-web", "grpc, connect or auto"},
		{"-site-id s -count 1 -gateway gateway:6080", "gateway URL"},
		{"-site-id s -count 1 -ca /nowhere/ca.pem", "no such file"},
		{"-site-id s -count 1 -ca " + empty, "no certificate"},
		{"-site-id s -count 1 -protocol connect -old-service-name", "OldServiceName"},
		{"-site-id s -file /nowhere/events", "no such file"},
		{"-site-id s -file " + bad, "line 2 is not an event"},
		{"-site-id s -count 1 -ledger /nowhere/ledger", "-ledger"},
	} {
		code, stdout, stderr := runOnce(t.Context(), append([]string{"send"}, strings.Fields(tt.args)...)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, tt.stderr) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q; want 2 and one line with %q", tt.args, code, stdout, stderr, tt.stderr)
		}
	}
}
