// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/queue"
)

// queuePage is how many events are read at once.
const queuePage = 500

func runQueue(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return command.Group{
		Name: "telemetry queue",
		Intro: `Looks into the queue of an instance, from which its events are exported, and
mends it. It works while the instance runs. An event in it is pending until it
is exported, and dead if it never can be; telemetry queue help stats explains
what else can become of one.

  telemetry queue stats
  telemetry queue stats -db postgres://app@db.internal/app
  telemetry queue list -limit 10 | jq .event.feature
  telemetry queue dead
  telemetry queue replay 0197a5b0-7e5f-7c1d-9d3e-2f6a1c0b4d5e
`,
		Commands: []command.Command{
			{Name: "stats", Summary: "print what became of all events ever recorded", Run: runQueueStats},
			{Name: "list", Summary: "print events, as they leave the instance", Run: runQueueList},
			{Name: "dead", Summary: "print events that cannot be exported, and why", Run: runQueueDead},
			{Name: "replay", Summary: "put such events back into the queue", Run: runQueueReplay},
		},
	}.Run(ctx, args, stdout, stderr)
}

// queueFlags returns the flags of a command that works on a queue, and where
// its URL will be.
func queueFlags(name, help string) (*command.Flags, *string) {
	f := command.NewFlags("telemetry queue "+name, help)
	return f, f.String("db", "sqlite://data/instance.db", "`URL` of the queue's database, as the instance has it")
}

// withQueue opens the queue at a URL for f. Unlike an instance it makes none.
func withQueue(ctx context.Context, url string, f func(*queue.Queue) error) (err error) {
	if err := checkDatabase(url); err != nil {
		return command.BadConfig("-db: %w", err)
	}
	if path, ok := sqlitePath(url); ok {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return command.BadConfig("-db: there is no %s; an instance makes it when it starts: give -db the URL that the instance has", path)
		}
	}
	db, err := openDatabase(url)
	if err != nil {
		return command.BadConfig("-db: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	q, err := queue.Open(ctx, db, queue.Options{})
	if err != nil {
		return wrap("-db", err)
	}
	return f(q)
}

const queueStatsHelp = `[-db URL]

Prints one line of JSON that says what became of all events ever recorded into
the queue:

  {"recorded":9,"exported":5,"dead_lettered":1,"filtered":1,"expired":0,"pending":2,"bytes":811,"oldest":"…"}

Each event is in one state, so recorded is the sum of the five after it. Filtered
are those that the policy does not let leave; expired those that -max-age or
-max-bytes of the instance deleted. Bytes and oldest are about those pending.

  telemetry queue stats
  telemetry queue stats -db postgres://app@db.internal/app
`

func runQueueStats(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, db := queueFlags("stats", queueStatsHelp)
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	return withQueue(ctx, *db, func(q *queue.Queue) error {
		s, err := q.Stats(ctx)
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(struct {
			Recorded     int64     `json:"recorded"`
			Exported     int64     `json:"exported"`
			DeadLettered int64     `json:"dead_lettered"`
			Filtered     int64     `json:"filtered"`
			Expired      int64     `json:"expired"`
			Pending      int64     `json:"pending"`
			Bytes        int64     `json:"bytes"`
			Oldest       time.Time `json:"oldest,omitzero"`
		}{s.Recorded, s.Exported, s.DeadLettered, s.Filtered, s.Expired, s.Pending, s.Bytes, s.Oldest})
	})
}

const queueListHelp = `[-state pending|exported] [flags]

Prints events of the queue, one line of JSON each: those that wait to be
exported, oldest first, or those that were exported and are still kept, latest
first. They are as they leave the instance: what is private is not in the queue.

  {"id":"…","timestamp":"…","event":{…}}

  telemetry queue list
  telemetry queue list -state exported -limit 10
`

func runQueueList(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, db := queueFlags("list", queueListHelp)
	state := f.String("state", "pending", "`pending|exported`")
	limit := f.Int("limit", 0, "end after `N` events; 0 for no limit")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	states := map[string]queue.State{"pending": queue.Pending, "exported": queue.Exported}
	s, ok := states[*state]
	if !ok {
		return command.BadConfig("-state is %q: it must be pending or exported", *state)
	}
	return printQueue(ctx, *db, s, *limit, stdout)
}

const queueDeadHelp = `[flags]

Prints the events that cannot be exported, latest first, one line of JSON each
with the rule that it breaks. They stay until they are replayed.

  {"id":"…","timestamp":"…","at":"…","reason":"feature_invalid","field":"feature","message":"…","event":{…}}

  telemetry queue dead
  telemetry queue dead | jq -r 'select(.reason == "too_large").id' | xargs telemetry queue replay
`

func runQueueDead(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, db := queueFlags("dead", queueDeadHelp)
	limit := f.Int("limit", 0, "end after `N` events; 0 for no limit")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	return printQueue(ctx, *db, queue.DeadLettered, *limit, stdout)
}

// eachItem calls f with the events in a state, at most limit unless it is 0.
func eachItem(ctx context.Context, q *queue.Queue, s queue.State, limit int, f func(queue.Item) error) error {
	for n, after := 0, ""; ; {
		want := queuePage
		if limit > 0 {
			want = min(want, limit-n)
		}
		page, err := q.List(ctx, s, want, after)
		if err != nil {
			return err
		}
		for _, item := range page.Items {
			if err := f(item); err != nil {
				return err
			}
		}
		if n, after = n+len(page.Items), page.Next; after == "" || n == limit {
			return nil
		}
	}
}

func printQueue(ctx context.Context, url string, s queue.State, limit int, stdout io.Writer) error {
	if limit < 0 {
		return command.BadConfig("-limit is %d: it must not be negative", limit)
	}
	return withQueue(ctx, url, func(q *queue.Queue) error {
		w := bufio.NewWriter(stdout)
		err := eachItem(ctx, q, s, limit, func(item queue.Item) error { return printItem(w, item) })
		if err = errors.Join(err, w.Flush()); errors.Is(err, syscall.EPIPE) {
			return nil // whoever reads has had enough, as with | head
		}
		return err
	})
}

// printItem writes an event as a line. One that cannot be decoded is null.
func printItem(w io.Writer, item queue.Item) error {
	event := json.RawMessage("null")
	if item.Event != nil {
		b, err := protojson.Marshal(item.Event)
		if err != nil {
			return fmt.Errorf("event %q: %w", item.ID, err)
		}
		var plain bytes.Buffer // protojson adds blanks at random
		if err := json.Compact(&plain, b); err != nil {
			return fmt.Errorf("event %q: %w", item.ID, err)
		}
		event = plain.Bytes()
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		ID        string          `json:"id"`
		Timestamp time.Time       `json:"timestamp,omitzero"`
		At        time.Time       `json:"at,omitzero"`
		Reason    string          `json:"reason,omitempty"`
		Field     string          `json:"field,omitempty"`
		Message   string          `json:"message,omitempty"`
		Event     json.RawMessage `json:"event"`
	}{item.ID, item.Timestamp, item.At, item.Reason, item.Field, item.Message, event})
}

const queueReplayHelp = `(ID… | -all) [flags]

Puts events that could not be exported back into the queue, with the IDs and
times they had, to be exported again: for when what was in their way is gone, as
after the gateway's limits were raised. Prints how many there were.

  telemetry queue replay 0197a5b0-7e5f-7c1d-9d3e-2f6a1c0b4d5e
  telemetry queue replay -all
`

func runQueueReplay(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, db := queueFlags("replay", queueReplayHelp)
	f.Takes = "ID"
	all := f.Bool("all", false, "replay every one of them")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	if *all == (len(f.Args()) > 0) {
		return command.BadConfig("what to replay? Give either IDs, which telemetry queue dead lists, or -all")
	}
	return withQueue(ctx, *db, func(q *queue.Queue) error {
		ids := f.Args()
		if *all {
			err := eachItem(ctx, q, queue.DeadLettered, 0, func(item queue.Item) error {
				ids = append(ids, item.ID)
				return nil
			})
			if err != nil {
				return err
			}
		}
		n, err := q.Replay(ctx, ids...)
		if _, printErr := fmt.Fprintf(stdout, "{\"replayed\":%d}\n", n); printErr != nil {
			err = errors.Join(err, printErr)
		}
		if err == nil && !*all && n < len(ids) {
			return fmt.Errorf("%d of %d events are not there: see %s", len(ids)-n, len(ids), strings.ReplaceAll(f.Name(), "replay", "dead"))
		}
		return err
	})
}
