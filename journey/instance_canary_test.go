// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sdk "github.com/telemetrygateway/telemetry"
	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database/cluster"
	"github.com/telemetrygateway/telemetry/queue"
)

// A hunt is an instance and its gateway, and the canaries that are let loose in
// them.
type hunt struct {
	*testing.T
	dir, dbURL, driver, dsn string
	queueFiles              string

	leave   *canaries // may leave
	logged  *canaries // are in the instance's own log alone
	invalid *canaries // are in events that are not taken
	nowhere *canaries // are in what is no part of an event
	foreign *canaries // are in the queue's table, put there by others
	secret  *canaries // are the instance's own

	gateway, instance *process
	admin             string // the instance's
	witness           *witness
	licence, token    string
	allowed           []string // keys
	private           map[string]any
	wrong             map[string]any // an event that is invalid
	answers           strings.Builder
	places            map[string]string // where no canary but those that may leave is to be
	queued            map[string]string // where there may be foreign ones
}

// TestCanaries puts a text of its own into every field that is private, and into
// whatever else a request has, and searches for them wherever they could come
// out: on the wire, in logs, metrics, answers of both processes and of the
// commands, in the queue's files and in the topic. Those that are allowed arrive,
// and those that are not are in the instance's own log alone.
func TestCanaries(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "instance.db")
		h := newHunt(t, dir, "sqlite://"+path, "sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)", path)
		h.start(h.witness.url)
		h.run()
		if h.witness.protocols["HTTP/2.0"] == 0 {
			t.Errorf("it did not speak HTTP/2 but %v", h.witness.protocols)
		}
	})
	// Through a proxy, which carries Connect over HTTP/1.1, compressed.
	t.Run("PostgreSQL", func(t *testing.T) {
		c, err := cluster.Start("")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Stop(); err != nil {
				t.Error(err)
			}
		})
		if err := c.CreateDatabase("instance"); err != nil {
			t.Fatal(err)
		}
		h := newHunt(t, t.TempDir(), c.URL("instance"), "pgx", c.URL("instance"), c.Dir())
		h.dbURL += "&password=" + h.secret.put("the database's password")
		h.start("http://gateway.example.com", "HTTP_PROXY="+h.witness.url)
		h.run()
		if h.witness.compressed == 0 || h.witness.protocols["HTTP/1.1"] == 0 {
			t.Errorf("it compressed %d times and spoke %v", h.witness.compressed, h.witness.protocols)
		}
	})
}

func newHunt(t *testing.T, dir, dbURL, driver, dsn, queueFiles string) *hunt {
	h := &hunt{
		T: t, dir: dir, dbURL: dbURL, driver: driver, dsn: dsn, queueFiles: queueFiles,
		leave: newCanaries(), logged: newCanaries(), invalid: newCanaries(), nowhere: newCanaries(), foreign: newCanaries(), secret: newCanaries(),
		places: map[string]string{}, queued: map[string]string{},
	}
	_, public := issueLicence(t) // of which the instance's is not
	h.gateway = startGateway(t, dir, "-log-level", "debug", "-license-keys", public)
	h.witness = newWitness(t, h.gateway.address)
	return h
}

func (h *hunt) start(gatewayURL string, env ...string) {
	h.token, h.licence = h.secret.put("the administrators' token"), h.secret.put("the licence key")
	write(h.T, filepath.Join(h.dir, "token"), h.token)
	write(h.T, filepath.Join(h.dir, "licence"), h.licence)
	for _, value := range []string{"a text", "a list", "an object", "a mixed list"} {
		h.allowed = append(h.allowed, h.leave.put("the allowed key of "+value))
	}
	write(h.T, filepath.Join(h.dir, "allow.yaml"), fmt.Sprintf("allow: [{feature: search, action: executed, keys: [%s], reason: test}]", strings.Join(h.allowed, ", ")))
	cmd := exec.Command(telemetry, "instance", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-log-level", "debug",
		"-gateway", gatewayURL, "-export-interval", "100ms", "-cleanup-interval", "1s", "-license", "@licence",
		"-db", h.dbURL, "-event-log", "sqlite://"+h.eventLog(), "-allow-private", "allow.yaml",
		"-admin-token-file", "token", "-demo-page", "-user-header", "X-User", "-country-header", "X-Country", "-trusted-proxies", "192.0.2.0/24")
	cmd.Dir, cmd.Env = h.dir, append(withoutProxy(cleanEnv()), env...)
	h.instance = launch(h.T, cmd, "instance")
	h.admin = h.instance.await(h.T, `msg="admin started".* listen=(\S+)`)
}

func (h *hunt) eventLog() string { return filepath.Join(h.dir, "events.db") }

func (h *hunt) run() {
	h.record()
	h.recordWrong()
	poison := addForeign(h.T, h.driver, h.dsn, h.foreign)
	drained(h.T, h.dbURL)
	h.instance.await(h.T, `level=ERROR msg="the gateway refuses the licence`)
	h.look()
	if dead := h.places["telemetry queue dead"]; strings.Count(dead, "\n") != 2 || !strings.Contains(dead, poison) {
		h.Errorf("the dead letters are\n%s", dead)
	}
	onlyOurs(h.T, h.dir, "instance.db*", "events.db*")
	kept := files(h.T, h.eventLog())
	h.breakStores()
	h.instance.signal(h.T, syscall.SIGTERM)
	h.instance.wait(h.T)
	h.queued["the queue's files at the end"] = files(h.T, h.queueFiles)
	h.places["the wire"], h.places["an answer"] = h.witness.heard(), h.answers.String()
	h.places["the instance's log"], h.places["the gateway's log"] = h.instance.tail(1e6), h.gateway.tail(1e6)

	// The search finds what is there, and so would find what is not to be.
	h.leave.each(h.T, "the wire", h.places["the wire"])
	h.leave.each(h.T, "the topic", h.places["the topic"])
	h.leave.each(h.T, "the queue", h.queued["the queue's files"])
	h.logged.each(h.T, "the instance's log of events", kept+files(h.T, h.eventLog()))
	h.nowhere.none(h.T, "the instance's log of events", kept)
	h.invalid.none(h.T, "the instance's log of events", kept)
	for what, text := range h.queued {
		for _, c := range []*canaries{h.logged, h.nowhere, h.invalid, h.secret} {
			c.none(h.T, what, text)
		}
	}
	for what, text := range h.places {
		if what == "the wire" {
			text = strings.ReplaceAll(text, h.licence, "") // it is sent to be checked
		}
		for _, c := range []*canaries{h.logged, h.nowhere, h.invalid, h.foreign, h.secret} {
			c.none(h.T, what, text)
		}
	}
}

// ask sends a request to the instance with canaries in its headers.
func (h *hunt) ask(method, path, body string, header ...string) (answer string) {
	h.Helper()
	r, err := http.NewRequestWithContext(h.Context(), method, "http://"+h.instance.address+path+"?"+h.nowhere.put("the query string"), strings.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	for name, format := range map[string]string{
		"Idempotency-Key": "%s", "Cookie": "session=%s", "Authorization": "Bearer %s", "User-Agent": "%s", "Referer": "https://%s.example.com/",
		"X-Forwarded-For": "%s", "X-User": "%s", "X-Country": "%s", "Tracestate": "a=%s", "Baggage": "a=%s", "X-Sourcegraph-Client": "%s",
	} {
		r.Header.Set(name, fmt.Sprintf(format, h.nowhere.put("header "+name)))
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	response, err := client.Do(r)
	if err != nil {
		h.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		h.Fatal(err)
	}
	fmt.Fprintln(&h.answers, response.Status, response.Header, string(b))
	return string(b)
}

const door = "/.api/graphql"

func (h *hunt) request(events ...map[string]any) string {
	h.Helper()
	body, err := json.Marshal(map[string]any{
		"query":     "mutation R($events: [TelemetryEventInput!]!) { telemetry { recordEvents(events: $events) { alwaysNil } } }",
		"variables": map[string]any{"events": events},
	})
	if err != nil {
		h.Fatal(err)
	}
	return string(body)
}

// object returns private metadata with canaries at several depths.
func (c *canaries) object(where string) map[string]any {
	return map[string]any{
		c.put("a key in " + where):     c.put("a value in " + where),
		c.put("an object in " + where): map[string]any{c.put("a deep key in " + where): []any{c.put("a deep value in " + where), 1, nil}},
	}
}

func (h *hunt) event(feature string, private any) map[string]any {
	marketing := map[string]any{}
	for _, field := range []string{"url", "firstSourceURL", "cohortID", "referrer", "lastSourceURL", "deviceSessionID", "sessionReferrer", "sessionFirstURL"} {
		marketing[field] = h.logged.put("marketing field " + field)
	}
	return map[string]any{
		"feature": feature, "action": "executed", "source": map[string]any{"client": "journey"},
		"parameters": map[string]any{"version": 1, "privateMetadata": private}, "marketingTracking": marketing,
	}
}

// record records events with all there is.
func (h *hunt) record() {
	h.private = h.logged.object("private metadata")
	text := h.leave.put("an allowed text")
	h.private[h.allowed[1]] = []any{h.leave.put("an allowed list"), h.leave.put("the end of an allowed list")}
	h.private[h.allowed[2]] = h.logged.object("an object under an allowed key")
	h.private[h.allowed[3]] = []any{h.logged.put("a list with more than texts"), 1}
	// Twice, and of another length: files may cut a text in two at the end of a
	// page, but not the same one both times; and a message is compressed only if it
	// is long.
	for _, padding := range []string{"", strings.Repeat("x", 5000)} {
		h.private[h.allowed[0]] = text + padding
		for _, events := range [][]map[string]any{
			{h.event("search", h.private), h.event("search.other", h.private)},
			{h.event("search", h.logged.object("private metadata of its own"))},
			{h.event("search", h.logged.put("private metadata that are no object"))},
		} {
			if answer := h.ask(http.MethodPost, door, h.request(events...)); answer != recorded {
				h.Fatalf("the instance answers %s", answer)
			}
		}
	}
}

// recordWrong does whatever can be wrong with a request.
func (h *hunt) recordWrong() {
	put := h.invalid.put
	h.wrong = h.event("search", h.invalid.object("an invalid event"))
	h.wrong["feature"] = put("an invalid feature") + " "
	delete(h.wrong, "marketingTracking")
	wrongMetadata, late, null := h.event("search", nil), h.event("search", nil), h.event("search", nil)
	wrongMetadata["parameters"] = map[string]any{"version": 1, "metadata": []any{map[string]any{"key": "k", "value": put("metadata that are a text")}}}
	late["timestamp"] = put("a timestamp")
	null["action"] = []any{put("an action that is a list")}
	bodies := []string{h.request(h.wrong, wrongMetadata, late), h.request(null), "{" + put("no JSON"), `[{"query": "` + put("a batch") + `"}]`}
	for _, row := range []struct{ query, where string }{
		{`mutation { telemetry { recordEvents(events: \"%s\") { alwaysNil } } }`, "a literal"},
		{`mutation { telemetry { recordEvents(events: [{feature: 1, parameters: {privateMetadata: {key: \"%s\"}}}]) { alwaysNil } } }`, "a value in a literal"},
		{`mutation ($e: Int = \"%s\") { telemetry { recordEvents(events: $e) { alwaysNil } } }`, "a default"},
		{`mutation { telemetry { \"%s\" } }`, "a text in the wrong place"},
		{`mutation { telemetry { recordEvents(events: \"%s) } }`, "a text that does not end"},
		{`{ telemetry { x } }", "operationName": "%s`, "an operation's name"},
		{`query($a: Int) { telemetry { exportedEvents(first: $a) { totalCount } } }", "variables": {"a": "%s"}, "x": "`, "a variable"},
		{`{ telemetry { exportedEvents(after: \"%s\") { totalCount } } }`, "a cursor"},
	} {
		bodies = append(bodies, fmt.Sprintf(`{"query": "`+row.query+`"}`, put(row.where)))
	}
	for _, body := range bodies {
		h.ask(http.MethodPost, door, body)
	}
	good := h.request(h.event("search", nil))
	h.ask(http.MethodPost, door, good, "Origin", "https://"+h.nowhere.put("an origin"))
	h.ask(http.MethodPost, door, good, "Content-Type", h.nowhere.put("a content type"))
	h.ask(http.MethodPut, door, put("a body of PUT"))
	h.ask(http.MethodGet, "/"+h.nowhere.put("a path"), "")
}

// look goes wherever what the instance has can come out.
func (h *hunt) look() {
	h.places["the topic"] = files(h.T, filepath.Join(h.dir, "data"))
	h.places["the gateway's metrics"] = fetch(h.T, h.gateway.admin, "/metrics")
	for _, path := range []string{"/metrics", "/debug/pprof/goroutine?debug=2"} {
		h.places["the instance's "+path] = fetch(h.T, h.admin, path)
	}
	for _, path := range []string{"/readyz", "/livez", "/version"} {
		h.places["the instance's "+path] = fetch(h.T, h.instance.address, path) + fetch(h.T, h.admin, path)
	}
	for _, command := range []string{"list", "list -state exported", "dead", "stats"} {
		stdout, stderr, exit := run(h.T, h.dir, nil, append(strings.Fields("queue "+command), "-db", h.dbURL)...)
		if exit != 0 {
			h.Errorf("telemetry queue %s: exit %d: %s", command, exit, stderr)
		}
		h.places["telemetry queue "+command] = stdout + stderr
	}
	for _, mode := range []string{"all", "unknown"} {
		stdout, stderr, _ := run(h.T, h.dir, nil, "instance", "-license", h.licence, "-db", h.dbURL, "-print-config", "-mode", mode)
		h.places["telemetry instance -print-config -mode "+mode] = stdout + stderr
	}
	h.queued["the queue's files"] = files(h.T, h.queueFiles)
}

// breakStores takes their tables away from the stores, and uses them.
func (h *hunt) breakStores() {
	for _, at := range [][3]string{
		{h.driver, h.dsn, "ALTER TABLE telemetry_events_export_queue RENAME TO gone"},
		{"sqlite", "file:" + h.eventLog(), "ALTER TABLE telemetry_event_log RENAME TO gone"},
	} {
		db, err := sql.Open(at[0], at[1])
		if err != nil {
			h.Fatal(err)
		}
		_, err = db.ExecContext(h.Context(), at[2])
		if err = errors.Join(err, db.Close()); err != nil {
			h.Fatal(err)
		}
	}
	if answer := h.ask(http.MethodPost, door, h.request(h.event("search", h.private), h.wrong)); !strings.Contains(answer, "UNAVAILABLE") {
		h.Errorf("without its tables the instance answers %s", answer)
	}
	h.ask(http.MethodPost, door, `{"query": "{ telemetry { loggedEvents { totalCount } exportedEvents { totalCount } } }"}`, "Authorization", "Bearer "+h.token)
	ready := fetch(h.T, h.instance.address, "/readyz")
	for late := time.Now().Add(patience); strings.HasPrefix(ready, "ok") && time.Now().Before(late); {
		ready = fetch(h.T, h.instance.address, "/readyz") // it finds out once a second
	}
	if want := "the queue's database does not do what it is asked: see the log\n"; ready != want {
		h.Errorf("/readyz says %q, want %q", ready, want)
	}
	h.places["the broken instance's /metrics"] = fetch(h.T, h.admin, "/metrics")
	log := h.instance.tail(1e6)
	for _, text := range []string{"received events not recorded", "recorded events not listed", `level=ERROR msg="not ready"`} {
		if !strings.Contains(log, text) {
			h.Errorf("the log does not have %q", text)
		}
	}
}

// addForeign queues an event with canaries in it, by a program that goes by
// the policy, and others past any policy, one of them poison and one not even an
// event. It returns the ID of the poison.
func addForeign(t *testing.T, driver, dsn string, foreign *canaries) (poison string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	full := func(c *canaries) *pb.Event {
		private, err := structpb.NewStruct(map[string]any{c.put("a foreign key"): map[string]any{"deep": []any{c.put("a foreign value")}}})
		if err != nil {
			t.Fatal(err)
		}
		e := &pb.Event{
			Id: uuid.NewString(), Timestamp: timestamppb.New(time.Now().Add(-time.Hour)), Feature: "search", Action: "executed",
			Source:     &pb.EventSource{Server: &pb.EventSource_Server{Version: "1"}, Client: &pb.EventSource_Client{Name: "journey"}},
			Parameters: &pb.EventParameters{PrivateMetadata: private},
			MarketingTracking: &pb.EventMarketingTracking{
				Url: new(c.put("a foreign URL")), CohortId: new(c.put("a foreign cohort")), SessionReferrer: new(c.put("a foreign referrer")),
			},
		}
		for _, m := range []proto.Message{e, e.Source, e.Source.Client, e.Parameters, private} {
			m.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 1234, protowire.BytesType), c.put("a foreign unknown field")))
		}
		return e
	}
	byPolicy, err := queue.Open(t.Context(), db, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	past, err := queue.Open(t.Context(), db, queue.Options{Policy: queue.Policy{Vendor: true}})
	if err != nil {
		t.Fatal(err)
	}
	program := newCanaries()
	if err := sdk.New(sdk.Options{}, byPolicy).RecordReceived(t.Context(), full(program)); err != nil {
		t.Fatal(err)
	}
	for _, canary := range program.all {
		foreign.all, foreign.where[canary] = append(foreign.all, canary), "a program's: "+program.where[canary]
	}
	bad := full(foreign)
	bad.Feature = "no feature has spaces"
	if err := past.Add(t.Context(), full(foreign), bad); err != nil {
		t.Fatal(err)
	}
	insert := "INSERT INTO telemetry_events_export_queue (id, timestamp, payload_pb) VALUES ($1, $2, $3)"
	var at any = time.Now().Add(-time.Hour)
	if driver == "sqlite" {
		at = time.Now().Add(-time.Hour).UnixMicro()
	}
	if _, err := db.ExecContext(t.Context(), insert, uuid.NewString(), at, []byte("\xff"+foreign.put("bytes that are no event"))); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO telemetry_events_export_ledger (recorded, filtered, exported, dead_lettered, expired, bytes, pruned) VALUES (1, 0, 0, 0, 0, 1, 0)"); err != nil {
		t.Fatal(err)
	}
	return bad.Id
}
