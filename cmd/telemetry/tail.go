// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

const tailHelp = `[-topic URL] (-from-start | -follow) [flags]

Prints each message of a topic as one line of JSON:

  {"key":"…","attributes":{"…":"…"},"data":{…}}

Data that is not JSON is a string in base64. It ends at the present end of the
topic, or goes on with -follow. Dead letters are in a topic, too.

A SQLite topic is only looked at: no subscription loses a message by it, and it
works while a gateway runs. A Pub/Sub subscription cannot be looked at: messages
printed are acknowledged, and its other receivers do not get them. Make a
subscription of its own for it. It has no end, and so needs -follow or -limit.

  telemetry tail -from-start
  telemetry tail -topic sqlite://data/deadletter.db -from-start -limit 10
  telemetry tail -follow | jq .data.event.feature
  telemetry tail -topic gcppubsub://projects/P/subscriptions/S -follow
`

// tailConfig is what the flags of telemetry tail say.
type tailConfig struct {
	topic             string
	fromStart, follow bool
	limit             int
}

func parseTail(args []string, stdout, stderr io.Writer) (*tailConfig, error) {
	c := new(tailConfig)
	f := command.NewFlags("telemetry tail", tailHelp)
	f.StringVar(&c.topic, "topic", "sqlite://data/topic.db", "`URL` of the topic: sqlite://PATH or gcppubsub://projects/P/subscriptions/S")
	f.BoolVar(&c.fromStart, "from-start", false, "begin with the oldest message that the topic has, not with the next one")
	f.BoolVar(&c.follow, "follow", false, "at the end, wait for further messages")
	f.IntVar(&c.limit, "limit", 0, "end after `N` messages; 0 for no limit")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return nil, err
	}
	return c, c.check()
}

// check turns the flags into parameters of the topic's URL.
func (c *tailConfig) check() error {
	if c.limit < 0 {
		return command.BadConfig("-limit is %d: it must not be negative", c.limit)
	}
	switch scheme, _, _ := strings.Cut(c.topic, ":"); scheme {
	case "sqlite":
		if !c.fromStart && !c.follow {
			return command.BadConfig("where to begin? Set -from-start to read what is there, -follow to wait for more, or both")
		}
		peek, until, separator := "peek=now", "", "?"
		if c.fromStart {
			peek = "peek=start"
		}
		if !c.follow {
			until = "&until=now"
		}
		if strings.Contains(c.topic, "?") {
			separator = "&"
		}
		c.topic += separator + peek + until
	case "gcppubsub":
		if c.fromStart {
			return command.BadConfig("-from-start does not go with Pub/Sub: its subscription knows where to begin")
		}
		if !c.follow && c.limit == 0 {
			return command.BadConfig("a Pub/Sub subscription has no end: set -follow or -limit")
		}
	}
	return nil
}

func runTail(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseTail(args, stdout, stderr)
	if err != nil {
		return err
	}
	sub, err := topic.Subscribe(ctx, c.topic, topic.BatchOptions{}, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if errors.Is(err, fs.ErrNotExist) {
		return command.BadConfig("%w; a gateway makes the file when it starts: give -topic the URL that the gateway has", err)
	} else if err != nil {
		return command.BadConfig("%w", err)
	}
	defer sub.Close()
	err = c.print(ctx, sub, bufio.NewWriter(stdout))
	if errors.Is(err, syscall.EPIPE) {
		return nil // whoever reads has had enough, as with | head
	}
	return err
}

var errEnough = errors.New("the limit is reached")

// print prints messages until ctx, the topic or the limit ends. A batch is
// acknowledged once all of it has been written.
func (c *tailConfig) print(ctx context.Context, sub topic.Subscription, w *bufio.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	printed := 0
	var line []byte
	err := sub.Receive(ctx, func(_ context.Context, ms []topic.Message) error {
		for _, m := range ms {
			if c.limit > 0 && printed == c.limit {
				// Not acknowledged: the rest of the batch belongs to others.
				stop(errEnough)
				return errEnough
			}
			line = append(topic.AppendLine(line[:0], m), '\n')
			if _, err := w.Write(line); err != nil {
				stop(err)
				return err
			}
			printed++
		}
		if err := w.Flush(); err != nil {
			stop(err)
			return err
		}
		if c.limit > 0 && printed == c.limit {
			stop(errEnough)
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch cause := context.Cause(ctx); {
	case cause == nil, errors.Is(cause, context.Canceled), errors.Is(cause, errEnough):
		return w.Flush()
	default:
		return cause
	}
}
