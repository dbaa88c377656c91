// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package deadletter_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/telemetrygateway/telemetry/internal/deadletter"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/pipeline"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// road is what lies between dead letters and the warehouse.
type road struct {
	events, letters, warehouse string // URLs
}

func newRoad(t *testing.T) *road {
	r := &road{file(t, "topic.db"), file(t, "deadletter.db"), "duckdb://" + filepath.Join(t.TempDir(), "warehouse.duckdb")}
	for _, url := range []string{r.events, r.letters} { // that they keep everything for the pipeline
		sub, err := topic.Subscribe(t.Context(), url+"?subscription=pipeline", topic.BatchOptions{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		sub.Close()
	}
	return r
}

// land lands what is in the topic of events, and then what is among the dead
// letters.
func (r *road) land(t *testing.T) {
	t.Helper()
	for _, url := range []string{r.events, r.letters} {
		infos, err := topic.Subscriptions(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if infos[0].Unread == 0 {
			continue
		}
		ctx, stop := context.WithCancel(t.Context())
		subscribe := func(of string) topic.Subscription {
			sub, err := topic.Subscribe(t.Context(), of+"?subscription=pipeline", topic.BatchOptions{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if of == url {
				return &counted{sub, infos[0].Unread, stop}
			}
			return sub
		}
		o := pipeline.Options{
			Events: subscribe(r.events), DeadLetterTopic: open(t, r.letters), Metrics: observe.NewPipelineMetrics("", ""),
			Open: func(ctx context.Context) (warehouse.Warehouse, error) {
				return warehouse.Open(ctx, r.warehouse, warehouse.Options{Same: pipeline.Same})
			},
		}
		if url == r.letters {
			o.DeadLetters = subscribe(r.letters)
		}
		err = pipeline.New(o).Run(ctx)
		stop()
		if err != nil {
			t.Fatal(err)
		}
		o.Events.Close()
		if o.DeadLetters != nil {
			o.DeadLetters.Close()
		}
	}
}

// counted calls stop once so many messages have been handled.
type counted struct {
	topic.Subscription
	left int64
	stop func()
}

func (s *counted) Receive(ctx context.Context, f func(context.Context, []topic.Message) error) error {
	return s.Subscription.Receive(ctx, func(ctx context.Context, ms []topic.Message) error {
		err := f(ctx, ms)
		if err == nil {
			if s.left -= int64(len(ms)); s.left <= 0 {
				s.stop()
			}
		}
		return err
	})
}

// query returns the rows that a query yields.
func (r *road) query(t *testing.T, sql string) (found [][]any) {
	t.Helper()
	w, err := warehouse.OpenReader(t.Context(), r.warehouse, warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	rows, err := w.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found = append(found, row)
	}
}

func (r *road) check(t *testing.T, sql string, want ...any) {
	t.Helper()
	got := r.query(t, sql)
	if len(got) != 1 {
		t.Fatalf("%s yields %v", sql, got)
	}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("%s (-want +got):\n%s", sql, diff)
	}
}

// manyLetters are more than one batch, and so more than one request to publish.
const manyLetters = 1200

// TestReplayLandsOnce even when a replay is killed in the middle, and done again,
// and again.
func TestReplayLandsOnce(t *testing.T) {
	r := newRoad(t)
	publish(t, r.letters, letters(t, manyLetters)...)
	r.land(t)
	r.check(t, `SELECT count(*), count(DISTINCT rejected_id) FROM events_rejected WHERE stage = 'gateway'`, int64(manyLetters), int64(manyLetters))

	r.replayAndDie(t)
	some := len(read(t, r.events))
	if some == 0 || some == manyLetters {
		t.Fatalf("%d events were published: it was not killed in the middle", some)
	}
	r.land(t)
	r.check(t, `SELECT count(*) FROM events`, int64(some))
	for range 2 {
		replay(t, r.letters, where(t), deadletter.ReplayOptions{Topic: open(t, r.events), Patch: fix})
		r.land(t)
		r.check(t, `SELECT count(*), count(DISTINCT event_id), count(DISTINCT replay_of), min(action), max(action), min(received_at), max(received_at) FROM events`,
			int64(manyLetters), int64(manyLetters), int64(manyLetters), "opened", "opened",
			receivedAt.Truncate(time.Microsecond), receivedAt.Truncate(time.Microsecond))
		r.check(t, `SELECT count(*) FROM events_duplicates`, int64(0))
		r.check(t, `SELECT count(*) FROM events_rejected`, int64(manyLetters))
		r.check(t, `SELECT count(*) FROM events e JOIN events_rejected r ON e.replay_of = replace(CAST(r.rejected_id AS VARCHAR), '-', '') AND e.event_id = r.event_id`, int64(manyLetters))
	}
}

// TestReplayOfAConflict lands as another event, or is a conflict again.
func TestReplayOfAConflict(t *testing.T) {
	r := newRoad(t)
	other := event("taken")
	other.Action = "closed"
	publish(t, r.events, published(t, event("taken"), receivedAt), published(t, other, receivedAt.Add(time.Second)))
	r.land(t)
	r.check(t, `SELECT count(*), min(action) FROM events`, int64(1), "opened")
	r.check(t, `SELECT count(*), min(action), min(reason) FROM events_rejected`, int64(1), "closed", "id_conflict")

	conflicts := where(t, "reason=id_conflict")
	for range 2 {
		replay(t, r.letters, conflicts, deadletter.ReplayOptions{Topic: open(t, r.events), Patch: []byte(`{"id":"free"}`)})
		r.land(t)
		r.check(t, `SELECT count(*), count(DISTINCT event_id) FROM events`, int64(2), int64(2))
		r.check(t, `SELECT action FROM events WHERE event_id = 'free' AND replay_of IS NOT NULL`, "closed")
	}
	// As it was it is a conflict still, and a dead letter of its own.
	first := read(t, r.letters)[0]
	id := payload.DeadLetterID(first.Data)
	for range 2 {
		replay(t, r.letters, where(t, "id="+hex.EncodeToString(id[:])), deadletter.ReplayOptions{Topic: open(t, r.events)})
		r.land(t)
		r.check(t, `SELECT count(*), count(replay_of) FROM events_rejected`, int64(2), int64(1))
		r.check(t, `SELECT count(*) FROM events`, int64(2))
	}
	r.check(t, `SELECT count(*) FROM events_duplicates`, int64(0))
}

// victimEnv is set in a process that replays and is killed on the way.
const victimEnv = "DEADLETTER_TEST_VICTIM"

// replayAndDie replays in a process that does not live to publish twice.
func (r *road) replayAndDie(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], r.letters, r.events)
	cmd.Env = append(os.Environ(), victimEnv+"=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) == "" {
		os.Exit(m.Run())
	}
	if err := die(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

func die(ctx context.Context, letters, events string) error {
	log := slog.New(slog.DiscardHandler)
	l, err := deadletter.Open(ctx, letters, quiet, log)
	if err != nil {
		return err
	}
	to, err := topic.Open(ctx, events, log)
	if err != nil {
		return err
	}
	_, err = l.Replay(ctx, deadletter.Selection{}, deadletter.ReplayOptions{Topic: &deadly{Topic: to}, Patch: fix})
	return err
}

// deadly kills the process when it is published to a second time.
type deadly struct {
	topic.Topic
	published bool
}

func (d *deadly) Publish(ctx context.Context, ms []topic.Message) []error {
	if d.published {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	d.published = true
	return d.Topic.Publish(ctx, ms)
}
