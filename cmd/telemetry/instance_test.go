// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/exporter"
	"github.com/telemetrygateway/telemetry/intake"
	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/database/cluster"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/queue"
)

// startInstance runs an instance in dir and returns its URLs. Its log is
// complete once stop has returned.
func startInstance(t *testing.T, dir string, args ...string) (url, admin string, log *strings.Builder, stop func()) {
	t.Helper()
	t.Setenv("DO_NOT_TRACK", "")
	args = append([]string{
		"instance", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-db", "sqlite://" + filepath.Join(dir, "instance.db"),
	}, args...)
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.CloseWithError(fmt.Errorf("instance ended: %v", root().Run(ctx, args, io.Discard, w)))
	}()
	log = new(strings.Builder)
	addresses := make(chan string)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(addresses)
		sent := 0
		for buf := make([]byte, 64<<10); ; {
			n, err := r.Read(buf)
			log.Write(buf[:n])
			for _, m := range regexp.MustCompile(`listen=(\S+)`).FindAllStringSubmatch(log.String(), -1)[sent:] {
				addresses <- m[1]
				sent++
			}
			if err != nil {
				fmt.Fprintln(log, err)
				return
			}
		}
	}()
	stop = func() { cancel(); <-ended; <-read }
	t.Cleanup(stop)
	url, admin = <-addresses, <-addresses
	if admin == "" {
		<-read
		t.Fatalf("the instance did not start:\n%s", log)
	}
	return "http://" + url, "http://" + admin, log, stop
}

const oneEvent = `{"query": "mutation M($events: [TelemetryEventInput!]!) { telemetry { recordEvents(events: $events) { alwaysNil } } }",
	"variables": {"events": [{"feature": "search", "action": "run", "source": {"client": "web"}, "parameters": {"version": 0}}]}}`

// A request that is under way when the instance is told to stop is finished, and
// its event is in the queue.
func TestStoppingFinishesRequests(t *testing.T) {
	dir := t.TempDir()
	url, _, log, stop := startInstance(t, dir)
	address := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /.api/graphql HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", address, len(oneEvent))
	answer := bufio.NewReader(conn)
	// It asks for the body when it begins to read it.
	if line, err := answer.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("got %q, %v", line, err)
	}
	_, _ = answer.ReadString('\n')
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	for {
		c, err := net.Dial("tcp", address)
		if err != nil {
			break // it has begun to stop
		}
		c.Close()
	}
	if _, err := io.WriteString(conn, oneEvent); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(answer, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(b), `"alwaysNil":null`) {
		t.Errorf("got %s, %s, %v", response.Status, b, err)
	}
	<-stopped
	stats, err := openTestQueue(t, "sqlite://"+filepath.Join(dir, "instance.db")).Stats(t.Context())
	if err != nil || stats.Pending != 1 {
		t.Errorf("the queue has %+v, %v", stats, err)
	}
	if !strings.Contains(log.String(), `msg="instance stopped"`) {
		t.Errorf("log:\n%s", log)
	}
}

// In PostgreSQL queue and log share the product's database.
func TestAnInstanceOnPostgreSQL(t *testing.T) {
	server, err := cluster.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	url, _, _, stop := startInstance(t, t.TempDir(), "-db", server.URL("postgres"))
	response, err := http.Post(url+"/.api/graphql", "application/json", strings.NewReader(oneEvent))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	stop()
	var stats strings.Builder
	if err := root().Run(t.Context(), []string{"queue", "stats", "-db", server.URL("postgres")}, &stats, t.Output()); err != nil || !strings.Contains(stats.String(), `"recorded":1,`) {
		t.Errorf("the queue has %s, %v", &stats, err)
	}
	db, err := openDatabase(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var logged int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM telemetry_event_log").Scan(&logged); err != nil || logged != 1 {
		t.Errorf("the log has %d events, %v", logged, err)
	}
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(b)
}

// The page runs under a policy that allows nothing inline, and is there only if
// it is asked for.
func TestTheDemoPage(t *testing.T) {
	url, _, _, _ := startInstance(t, t.TempDir(), "-demo-page")
	response, page := get(t, url+"/")
	if response.StatusCode != 200 || response.Header.Get("Content-Security-Policy") != pagePolicy || strings.Contains(pagePolicy, "unsafe") {
		t.Errorf("got %s, policy %q", response.Status, response.Header.Get("Content-Security-Policy"))
	}
	if regexp.MustCompile(`<script[^>]*>[^<]|<style|\son\w+=|\sstyle=|https?://`).MatchString(page) {
		t.Error("the page has inline script or style, or loads from elsewhere")
	}
	for _, m := range regexp.MustCompile(`(?:href|src)="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if r, _ := get(t, url+"/"+m[1]); r.StatusCode != 200 || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %s", m[1], r.Status)
		}
	}
	if r, _ := get(t, url+"/instance_page/"); r.StatusCode != 404 {
		t.Errorf("the folder is served: %s", r.Status)
	}
	url, _, _, _ = startInstance(t, t.TempDir())
	if r, _ := get(t, url+"/"); r.StatusCode != 404 {
		t.Errorf("without -demo-page: %s", r.Status)
	}
}

// An instance that cannot export can record, and says both.
func TestReadinessIsAboutRecording(t *testing.T) {
	url, admin, _, _ := startInstance(t, t.TempDir())
	for _, path := range []string{"/livez", "/version"} {
		if r, body := get(t, url+path); r.StatusCode != 200 {
			t.Errorf("%s: %s %s", path, r.Status, body)
		}
	}
	for _, base := range []string{url, admin} {
		if r, body := get(t, base+"/readyz"); r.StatusCode != 200 || body != "ok, but nothing is exported until -gateway is set\n" {
			t.Errorf("%s %q", r.Status, body)
		}
	}
	if _, body := get(t, admin+"/metrics"); !strings.Contains(body, `telemetry_instance_export_mode{mode="all"} 1`) {
		t.Errorf("metrics:\n%s", body)
	}
}

func TestTroubleWithExportIsNamedWithoutDetails(t *testing.T) {
	secret := errors.New("canary")
	for _, c := range []struct {
		status  exporter.Status
		gateway string
		want    string
	}{
		{exporter.Status{}, "", "nothing is exported until -gateway is set"},
		{exporter.Status{}, "http://g", ""},
		{exporter.Status{Standby: "host, process 7"}, "http://g", "another process exports"},
		{exporter.Status{Failures: 3, Last: exporter.Pass{Kind: client.Unreachable, Err: secret}}, "http://g", "export has failed 3 times in a row (unreachable): see the log"},
		{exporter.Status{Failures: 1}, "http://g", "export has failed 1 times in a row (the gateway did not take all events): see the log"},
		{exporter.Status{LicenseRefused: secret}, "http://g", "the gateway refuses the licence, so events go as an unlicensed instance's: see the log"},
	} {
		if got := exportTrouble(c.status, c.gateway); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.status, got, c.want)
		}
	}
}

func TestReportsBecomeMetrics(t *testing.T) {
	m := observe.NewInstanceMetrics("v1.2.3", "c0ffee", func(context.Context) (observe.QueueStats, error) { return observe.QueueStats{}, nil })
	r := &reporter{metrics: m}
	r.pass(exporter.Pass{
		Leased: true, Complete: true, Identity: exporter.Licensed, Started: time.Unix(1000, 0), Duration: 2 * time.Second,
		Sent: 7, Accepted: 6, DeadLettered: 1, Reasons: map[string]int{"feature_invalid": 1},
	})
	r.pass(exporter.Pass{
		Leased: true, Complete: true, Identity: exporter.Unlicensed, LicenseRefused: errors.New("refused"),
		Sent: 4, Accepted: 1, Failed: 3, Reasons: map[string]int{"topic_unavailable": 3},
	})
	r.pass(exporter.Pass{Leased: true}) // stopped before there was anything to do
	r.pass(exporter.Pass{Leased: true, Identity: exporter.Licensed, Err: errors.New("gone"), Kind: client.Unreachable})
	r.pass(exporter.Pass{Err: errors.New("gone"), Kind: exporter.KindQueue})
	r.pass(exporter.Pass{}) // another exporter has the queue
	r.pruned(queue.Pruned{Exported: 5}, time.Second, nil)
	r.pruned(queue.Pruned{Exported: 2}, time.Second, errors.New("gone"))
	for _, q := range []intake.Request{
		{Status: 200, Recorded: 3},
		{Status: 200, Recorded: 2, Invalid: map[string]int{"feature_invalid": 2}},
		{Status: 200, Invalid: map[string]int{"too_large": 1}},
		{Status: 413},
		{Status: 200, Failed: 2},
		{Status: 503},
	} {
		r.request(t.Context(), q)
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		"src_telemetrygatewayexporter_exported_events 7",
		"src_telemetrygatewayexporter_batch_size_count 5",
		"src_telemetrygatewayexporter_exporter_total 1",
		"src_telemetrygatewayexporter_exporter_errors_total 3",
		"src_telemetrygatewayexporter_exporter_duration_seconds_sum 2",
		"telemetry_instance_exported_timestamp_seconds 1002",
		"telemetry_instance_license_refused 1",
		`telemetry_instance_verdicts_total{reason="feature_invalid"} 1`,
		`telemetry_instance_verdicts_total{reason="topic_unavailable"} 3`,
		`telemetry_instance_export_passes_total{error="",identity="licensed"} 1`,
		`telemetry_instance_export_passes_total{error="not_taken",identity="unlicensed"} 1`,
		`telemetry_instance_export_passes_total{error="unreachable",identity="licensed"} 1`,
		`telemetry_instance_export_passes_total{error="queue",identity=""} 1`,
		"src_telemetrygatewayexporter_events_pruned 7",
		"src_telemetrygatewayexporter_queue_cleanup_total 1",
		"src_telemetrygatewayexporter_queue_cleanup_errors_total 1",
		`telemetry_instance_intake_requests_total{result="ok"} 1`,
		`telemetry_instance_intake_requests_total{result="partial"} 1`,
		`telemetry_instance_intake_requests_total{result="invalid"} 1`,
		`telemetry_instance_intake_requests_total{result="refused"} 1`,
		`telemetry_instance_intake_requests_total{result="failed"} 2`,
		`telemetry_instance_invalid_events_total{reason="feature_invalid"} 2`,
		`telemetry_instance_invalid_events_total{reason="too_large"} 1`,
	} {
		if !strings.Contains(w.Body.String(), "\n"+want+"\n") {
			t.Errorf("not found: %s", want)
		}
	}
}

func TestWhatIsNotEncryptedIsNamed(t *testing.T) {
	for gateway, want := range map[string]bool{
		"http://gateway.example.com": true,
		"http://10.0.0.1:6080":       true,
		"https://10.0.0.1":           false,
		"http://127.0.0.1:6080":      false,
		"http://[::1]:6080":          false,
		"http://localhost:6080":      false,
	} {
		var lines strings.Builder
		c := &instanceConfig{gateway: gateway}
		c.warn(slog.New(slog.NewTextHandler(&lines, nil)))
		if got := strings.Contains(lines.String(), "unencrypted"); got != want {
			t.Errorf("%s: warned %v, want %v", gateway, got, want)
		}
	}
}

func TestTheEventLogHasAPlaceOfItsOwn(t *testing.T) {
	for db, want := range map[string]string{
		"sqlite://data/instance.db":     "sqlite://data/events.db",
		"sqlite:///var/lib/instance.db": "sqlite:///var/lib/events.db",
		"sqlite://instance.db":          "sqlite://events.db",
		"postgres://app@db/app":         "postgres://app@db/app",
	} {
		if got := defaultEventLog(db); got != want {
			t.Errorf("%s: got %s, want %s", db, got, want)
		}
	}
}

// With a certificate the port is encrypted, and a cookie set there never leaves
// unencrypted.
func TestAnInstanceWithACertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := newCertificate(t, "app.example")
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, cert)
	writePEM(t, keyFile, key)
	url, _, _, _ := startInstance(t, dir, "-tls-cert", certFile, "-tls-key", keyFile)
	tlsConfig, err := trusting(certFile)
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig.ServerName = "app.example"
	transport := &http.Transport{TLSClientConfig: tlsConfig}
	defer transport.CloseIdleConnections()
	url = strings.Replace(url, "http:", "https:", 1)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/.api/graphql", strings.NewReader(oneEvent))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", url)
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(b), `"alwaysNil":null`) {
		t.Errorf("got %s, %s, %v", response.Status, b, err)
	}
	if cookies := response.Cookies(); len(cookies) != 1 || !cookies[0].Secure {
		t.Errorf("cookies %v, want one that is secure", cookies)
	}
}

// Events go to the log first, so without it nothing is recorded.
func TestReadinessIsAboutTheLogToo(t *testing.T) {
	dir := t.TempDir()
	url, _, log, stop := startInstance(t, dir)
	db, err := openDatabase("sqlite://" + filepath.Join(dir, "events.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "DROP TABLE telemetry_event_log_ledger"); err != nil {
		t.Fatal(err)
	}
	if r, body := get(t, url+"/readyz"); r.StatusCode != http.StatusServiceUnavailable || strings.Contains(body, "telemetry_event_log") {
		t.Errorf("got %s %q, want that it is not ready, without details", r.Status, body)
	}
	stop()
	if !strings.Contains(log.String(), "telemetry_event_log_ledger") {
		t.Errorf("the log does not say why:\n%s", log)
	}
}

// Whoever starts product and database together sees what the instance waits for.
func TestADatabaseThatIsNotThereYet(t *testing.T) {
	dir := t.TempDir() // no socket is in it
	ctx, cancel := context.WithCancel(t.Context())
	var log waitedFor
	log.text, log.then = "the database is not there yet", cancel
	err := root().Run(ctx, []string{"instance", "-listen", "127.0.0.1:0", "-admin", "off", "-event-log", "off", "-db", "postgres://app@/app?host=" + dir}, io.Discard, &log)
	if config := (command.ConfigError{}); err == nil || errors.As(err, &config) {
		t.Errorf("got %v, want an error that may pass by itself", err)
	}
	if n := strings.Count(log.String(), log.text); n != 1 {
		t.Errorf("it was said %d times, want once:\n%s", n, &log)
	}
}

// A database that is reached is given the time it needs.
func TestADatabaseThatOpensSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reach := func(context.Context) error { return nil }
		open := func(ctx context.Context) (string, error) {
			select {
			case <-time.After(10 * openPatience):
				return "opened", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		var log strings.Builder
		got, err := patiently(t.Context(), "-db", slog.New(slog.NewTextHandler(&log, nil)), reach, open)
		if got != "opened" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		synctest.Wait() // for the timer that has logged
		if !strings.Contains(log.String(), "takes long to open") {
			t.Errorf("nothing says what the instance waits for:\n%s", &log)
		}
	})
}

// waitedFor calls then when text has been written.
type waitedFor struct {
	strings.Builder
	text string
	then func()
}

func (w *waitedFor) Write(p []byte) (int, error) {
	n, err := w.Builder.Write(p)
	if strings.Contains(w.String(), w.text) {
		w.then()
	}
	return n, err
}

// What expires is said also where nothing is exported.
func TestExpiredEventsAreNamedWithoutAGateway(t *testing.T) {
	dir := t.TempDir()
	url, _, _, stop := startInstance(t, dir)
	response, err := http.Post(url+"/.api/graphql", "application/json", strings.NewReader(oneEvent))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	stop()
	_, _, log, stop := startInstance(t, dir, "-max-bytes", "1")
	q := openTestQueue(t, "sqlite://"+filepath.Join(dir, "instance.db"))
	for expired := int64(0); expired == 0; {
		s, err := q.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		expired = s.Expired
	}
	stop()
	if !strings.Contains(log.String(), `level=WARN msg="events expired before they were exported" events=1`) {
		t.Errorf("log:\n%s", log)
	}
}
