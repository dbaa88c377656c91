// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// flowWorkers is how many calls a flow makes at once, and flowEvents how many
// events each records.
const (
	flowWorkers = 4
	flowEvents  = 5
)

// A flow records events through the doors of instances, as browsers do, and
// knows of every event, by a number in it, whether an instance has said that it
// is recorded. A call whose outcome is unknown, or an error, is made again with
// the same idempotency key, maybe of another instance.
type flow struct {
	client *http.Client

	mu       sync.Mutex
	next     int          // number of the next new event
	again    []int        // calls to be made again, by their first event
	recorded map[int]bool // by number
	calls    int          // that an instance has answered with success
	failed   int          // all others
	doubt    bool         // the power is cut: answers do not count any more
	changed  chan struct{}
}

func newFlow(t *testing.T) *flow {
	f := &flow{
		client:   &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: flowWorkers}},
		recorded: map[int]bool{}, changed: make(chan struct{}),
	}
	t.Cleanup(f.client.CloseIdleConnections)
	return f
}

// start begins to record, at any of some addresses. What it returns ends that.
func (f *flow) start(t *testing.T, addresses ...string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for worker := range flowWorkers {
		workers.Go(func() {
			for at := worker; ctx.Err() == nil; {
				first := f.take()
				ok := f.call(ctx, first, addresses[at%len(addresses)])
				f.finish(first, ok)
				if !ok {
					at++
				}
			}
		})
	}
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); workers.Wait() }) }
	t.Cleanup(stop)
	return stop
}

func (f *flow) take() (first int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.again) - 1; n >= 0 {
		first, f.again = f.again[n], f.again[:n]
		return first
	}
	f.next += flowEvents
	return f.next - flowEvents
}

func (f *flow) finish(first int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ok && !f.doubt {
		f.calls++
		for n := range flowEvents {
			f.recorded[first+n] = true
		}
	} else {
		f.failed++
		f.again = append(f.again, first)
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// flowTime is when the event of a number happened, as its recorder says.
func flowTime(number int) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC).Add(time.Duration(number) * time.Millisecond)
}

// call records some events and says whether the instance has answered that they
// are recorded.
func (f *flow) call(ctx context.Context, first int, address string) bool {
	var events []any
	for n := range flowEvents {
		events = append(events, map[string]any{
			"feature": "codeSearch", "action": "executed", "source": map[string]any{"client": "journey"},
			"timestamp":  flowTime(first + n).Format(time.RFC3339Nano),
			"parameters": map[string]any{"version": 1, "metadata": []any{map[string]any{"key": "number", "value": first + n}}},
		})
	}
	body, err := json.Marshal(map[string]any{
		"query":     "mutation R($events: [TelemetryEventInput!]!) { telemetry { recordEvents(events: $events) { alwaysNil } } }",
		"variables": map[string]any{"events": events},
	})
	if err != nil {
		panic(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/.api/graphql", strings.NewReader(string(body)))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", fmt.Sprintf("call-%d", first))
	r.Header.Set("X-Sourcegraph-Actor-Anonymous-UID", "somebody")
	response, err := f.client.Do(r)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return err == nil && strings.TrimSpace(string(answer)) == recorded
}

// succeed waits until n more calls have succeeded, and fail until n more have
// failed.
func (f *flow) succeed(t *testing.T, n int) { t.Helper(); f.await(t, n, &f.calls, "succeed") }
func (f *flow) fail(t *testing.T, n int)    { t.Helper(); f.await(t, n, &f.failed, "fail") }

func (f *flow) await(t *testing.T, n int, count *int, what string) {
	t.Helper()
	f.mu.Lock()
	goal := *count + n
	f.mu.Unlock()
	late := time.After(patience)
	for {
		f.mu.Lock()
		reached, changed := *count >= goal, f.changed
		f.mu.Unlock()
		if reached {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%d more calls do not %s", n, what)
		}
	}
}

// cut is called just before the power of an instance's disk is cut, and mend
// once it is back: see ledger.cut.
func (f *flow) cut()  { f.mu.Lock(); f.doubt = true; f.mu.Unlock() }
func (f *flow) mend() { f.mu.Lock(); f.doubt = false; f.mu.Unlock() }

// finishAll makes again all calls that have not succeeded.
func (f *flow) finishAll(t *testing.T, address string) {
	t.Helper()
	f.mu.Lock()
	again := f.again
	f.again = nil
	f.mu.Unlock()
	for _, first := range again {
		ok := f.call(t.Context(), first, address)
		f.finish(first, ok)
		if !ok {
			t.Fatal("an instance to which nothing happens does not record")
		}
	}
}

// check waits until the queue is empty, and compares what was recorded with the
// queue's sums and with what the gateway has published to the topic in a folder.
func (f *flow) check(t *testing.T, db, dir string) {
	t.Helper()
	s := drained(t, db)
	numbers, arrivals := published(t, dir)
	f.mu.Lock()
	defer f.mu.Unlock()
	lost := 0
	for n := range f.recorded {
		if len(numbers[n]) == 0 {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d recorded events are lost", lost, len(f.recorded))
	}
	for n, ids := range numbers {
		if len(ids) != 1 || n < 0 || n >= f.next {
			t.Errorf("event %d of %d arrived as %d events", n, f.next, len(ids))
		}
	}
	if len(f.recorded) == 0 {
		t.Error("nothing was recorded, which proves nothing")
	}
	if s.Recorded != len(numbers) || s.Exported != len(numbers) {
		t.Errorf("%d events arrived, but the queue says %+v", len(numbers), s)
	}
	t.Logf("%d events recorded in %d calls, %d calls failed, %d copies arrived", len(f.recorded), f.calls, f.failed, arrivals-len(numbers))
}

// sums are what telemetry queue stats prints.
type sums struct {
	Recorded, Exported, Filtered, Expired, Pending int
	DeadLettered                                   int `json:"dead_lettered"`
}

func queueSums(t testing.TB, db string) (s sums) {
	t.Helper()
	stdout, stderr, exit := run(t, "", nil, "queue", "stats", "-db", db)
	if exit != 0 {
		t.Fatalf("telemetry queue stats: exit %d: %s", exit, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatal(err)
	}
	if s.Recorded != s.Exported+s.DeadLettered+s.Filtered+s.Expired+s.Pending {
		t.Errorf("the sums do not add up: %s", stdout)
	}
	return s
}

// drained waits until nothing is queued.
func drained(t testing.TB, db string) sums {
	t.Helper()
	for late := time.Now().Add(2 * patience); ; {
		if s := queueSums(t, db); s.Pending == 0 {
			return s
		} else if time.Now().After(late) {
			t.Fatalf("the queue does not get empty: %+v", s)
		}
	}
}

// published reads the topic of the gateway in a folder: the IDs under which
// each number is there, and how many messages there are.
func published(t *testing.T, dir string) (numbers map[int]map[string]bool, messages int) {
	t.Helper()
	numbers = map[int]map[string]bool{}
	for line := range readTopic(t, "sqlite://"+filepath.Join(dir, "data/topic.db")) {
		n := int(line.Data.Event.Parameters.Metadata["number"])
		if numbers[n] == nil {
			numbers[n] = map[string]bool{}
		}
		numbers[n][line.Data.Event.ID] = true
		messages++
	}
	return numbers, messages
}

// A detour is a proxy before a gateway. Handle gets each call, and what passes
// it on.
func detour(t *testing.T, gatewayAddress string, handle func(w http.ResponseWriter, r *http.Request, pass http.Handler)) (gatewayURL string) {
	t.Helper()
	h2c, both := new(http.Protocols), new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	both.SetUnencryptedHTTP2(true)
	both.SetHTTP1(true)
	transport := &http.Transport{Protocols: h2c}
	pass := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: gatewayAddress}) },
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, pass) }))
	server.Config.Protocols, server.Config.ErrorLog = both, pass.ErrorLog
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}
