// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pipeline is the other command under test, built when a test first needs it.
var pipeline = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(filepath.Dir(telemetry), "telemetry-pipeline")
	build := exec.Command("go", "build", "-o", binary, "../cmd/telemetry-pipeline")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build telemetry-pipeline: %w; it takes a C++ compiler, which “apt-get install g++” installs\n%s", err, out)
	}
	return binary, nil
})

// runPipeline runs a command of telemetry-pipeline to its end.
func runPipeline(t testing.TB, env []string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	binary, err := pipeline()
	if err != nil {
		t.Fatal(err)
	}
	return runBinary(t, binary, t.TempDir(), env, args...)
}

// A landing is where the road of one test ends: topics, and a pipeline that
// lands what is in them in a DuckDB file.
type landing struct {
	topic, deadLetter string // URLs for who publishes
	flags             []string
	env               []string
	warehouse         string // the file
	redelivered       int    // messages of the topic that say again what another one says
}

// landingIn has the topics of a gateway in a folder, and a warehouse in another.
func landingIn(topics, warehouse string) *landing {
	l := &landing{
		topic:      "sqlite://" + filepath.Join(topics, "topic.db"),
		deadLetter: "sqlite://" + filepath.Join(topics, "deadletter.db"),
		warehouse:  filepath.Join(warehouse, "warehouse.duckdb"),
	}
	l.flags = []string{"-topic", l.topic, "-deadletter", l.deadLetter, "-warehouse", "duckdb://" + l.warehouse}
	return l
}

// spawn starts a pipeline.
func (l *landing) spawn(t testing.TB, flags ...string) *process {
	t.Helper()
	binary, err := pipeline()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "-admin", "127.0.0.1:0"}, l.flags...)
	cmd := exec.Command(binary, append(args, flags...)...)
	cmd.Dir, cmd.Env = t.TempDir(), append(withoutProxy(cleanEnv()), l.env...)
	return spawn(t, cmd, "pipeline")
}

// start starts a pipeline and waits until it is ready.
func (l *landing) start(t testing.TB, flags ...string) *process {
	t.Helper()
	p := l.spawn(t, flags...)
	p.listens(t)
	awaitReady(t, p)
	return p
}

// listens waits until a pipeline has told its address.
func (p *process) listens(t testing.TB) {
	t.Helper()
	p.admin = p.await(t, `msg="admin started".* listen=(\S+)`)
	p.address = p.admin
}

func awaitReady(t testing.TB, p *process) {
	t.Helper()
	status, body := 0, ""
	poll(t, "a pipeline that is ready", func() bool {
		status, body = p.get(t, "/readyz")
		return status == http.StatusOK
	}, func() string { return fmt.Sprintf("/readyz: %d %s\n%s", status, body, p.tail(20)) })
}

// poll asks again and again until something is so. A wait that is in vain ends
// with what say returns.
func poll(t testing.TB, what string, so func() bool, say func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	const long = 4 * patience // a lease of Pub/Sub is for a minute
	late := time.After(long)
	for !so() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("still no %s after %v: %s", what, long, say())
		}
	}
}

// metric returns the sum of a metric's series that have a label, or of all of
// them.
func (p *process) metric(t testing.TB, name, label string) (sum float64) {
	t.Helper()
	_, body := p.get(t, "/metrics")
	series := regexp.MustCompile(`(?m)^` + name + `(\{[^}]*\})? (\S+)$`)
	for _, m := range series.FindAllStringSubmatch(body, -1) {
		if v, err := strconv.ParseFloat(m[2], 64); err != nil {
			t.Fatal(err)
		} else if strings.Contains(m[1], label) {
			sum += v
		}
	}
	return sum
}

// file is the path of a topic in a file.
func file(topicURL string) string { return strings.TrimPrefix(topicURL, "sqlite://") }

// openTopic opens a topic's file to look at it, or to do to it what no part of
// the product does.
func openTopic(t testing.TB, topicURL string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file(topicURL)+"?mode=rw&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// unread is how many messages of a topic the pipeline has not acknowledged.
func unread(t testing.TB, db *sql.DB) (n int) {
	t.Helper()
	err := db.QueryRow(`SELECT (SELECT count(*) FROM messages WHERE seq > ifnull((SELECT position FROM subscriptions WHERE name = 'pipeline'), 0))`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// drained waits until the pipeline has acknowledged all that is in the topics.
func (l *landing) drained(t testing.TB, p *process) {
	t.Helper()
	events, dead := openTopic(t, l.topic), openTopic(t, l.deadLetter)
	defer events.Close()
	defer dead.Close()
	// Dead letters come last, since a pipeline makes some of events.
	poll(t, "empty topic", func() bool { return unread(t, events) == 0 && unread(t, dead) == 0 }, func() string { return p.tail(20) })
}

// expireLeases does what 15 seconds after a crash would do: the next pipeline
// may have what the dead one was working on. TestLandingTakeover waits for that.
func (l *landing) expireLeases(t testing.TB) {
	t.Helper()
	for _, url := range []string{l.topic, l.deadLetter} {
		if _, err := os.Stat(file(url)); err != nil {
			continue // there is none yet
		}
		db := openTopic(t, url)
		if _, err := db.ExecContext(context.Background(), "UPDATE subscriptions SET lease_until = 0"); err != nil {
			t.Fatal(err)
		}
		db.Close()
	}
}

// stopPipeline ends a pipeline as an operator does.
func stopPipeline(t testing.TB, p *process) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if s := p.wait(t); s.ExitCode() != 0 {
		t.Errorf("the pipeline ended with %v:\n%s", s, p.tail(20))
	}
}

// query asks the file.
func (l *landing) query(t testing.TB, query string) (rows []map[string]any) {
	t.Helper()
	return l.ask(t, "duckdb://"+l.warehouse, query)
}

// ask runs a query with the command.
func (l *landing) ask(t testing.TB, warehouse, query string) (rows []map[string]any) {
	t.Helper()
	stdout, stderr, exit := runPipeline(t, l.env, "query", "-warehouse", warehouse, "-format", "json", query)
	if exit != 0 {
		t.Fatalf("telemetry-pipeline query %q: exit %d: %s", query, exit, stderr)
	}
	for line := range strings.Lines(stdout) {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("telemetry-pipeline query printed %q: %v", line, err)
		}
		rows = append(rows, row)
	}
	return rows
}

// landed is how many events there are by the command.
func (l *landing) landed(t testing.TB) int {
	t.Helper()
	return int(l.query(t, "SELECT count(*) AS n FROM events")[0]["n"].(float64))
}

// balanced has the command say whether all adds up.
func (l *landing) balanced(t testing.TB) string {
	t.Helper()
	stdout, stderr, exit := runPipeline(t, l.env, append([]string{"balance"}, l.flags...)...)
	if exit != 0 {
		t.Errorf("telemetry-pipeline balance: exit %d: %s%s", exit, stderr, stdout)
	}
	return stdout
}

// last is the end of the log, for messages.
func (p *process) last() string { return p.tail(20) }
