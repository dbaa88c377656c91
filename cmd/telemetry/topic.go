// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

func runTopic(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return command.Group{
		Name: "telemetry topic",
		Intro: `Looks after the subscriptions of a SQLite topic. A topic keeps each message
until all of its subscriptions have it, so that one which nobody reads any longer
makes it grow for ever: ls shows such a one, drop removes it. Both work while a
gateway and a pipeline run.

  telemetry topic ls
  telemetry topic drop -subscription trial
`,
		Commands: []command.Command{
			{Name: "ls", Summary: "list the subscriptions of a topic, and what they have not read", Run: runTopicLs},
			{Name: "drop", Summary: "remove a subscription", Run: runTopicDrop},
		},
	}.Run(ctx, args, stdout, stderr)
}

// topicFlags returns the flags of a command that works on a topic, and where its
// URL will be.
func topicFlags(name, help string) (*command.Flags, *string) {
	f := command.NewFlags("telemetry topic "+name, help)
	return f, f.String("topic", "sqlite://data/topic.db", "`URL` of the topic: sqlite://PATH")
}

// topicError is err, and what to do if the file is missing.
func topicError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return command.BadConfig("%w; a gateway makes the file when it starts: give -topic the URL that the gateway has", err)
	}
	return err
}

const topicLsHelp = `[flags]

Lists the subscriptions of a topic: the number of the last message that each has
acknowledged, how many it has not, how large these are, by the average of all
messages, and when the oldest of them was published. One that is held has a
receiver at work; a receiver without messages does not hold it.

  telemetry topic ls
  telemetry topic ls -topic sqlite://data/deadletter.db -format json | jq .unread
`

func runTopicLs(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, url := topicFlags("ls", topicLsHelp)
	format := f.String("format", "table", "`table|json`; json is a line for each")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	if *format != "table" && *format != "json" {
		return command.BadConfig("-format is %q: want table or json", *format)
	}
	infos, err := topic.Subscriptions(ctx, *url)
	if err != nil {
		return topicError(err)
	}
	if *format == "json" {
		return listSubscriptions(stdout, infos)
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SUBSCRIPTION\tPOSITION\tUNREAD\tBYTES\tOLDEST\tHELD UNTIL")
	for _, i := range infos {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\n", i.Name, i.Position, i.Unread, i.Bytes, timeOrDash(i.Oldest), timeOrDash(i.HeldUntil))
	}
	return t.Flush()
}

func timeOrDash(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func listSubscriptions(stdout io.Writer, infos []topic.SubscriptionInfo) error {
	lines := json.NewEncoder(stdout)
	for _, i := range infos {
		if err := lines.Encode(struct {
			Subscription string    `json:"subscription"`
			Position     int64     `json:"position"`
			Unread       int64     `json:"unread"`
			Bytes        int64     `json:"bytes"`
			Oldest       time.Time `json:"oldest,omitzero"`
			HeldUntil    time.Time `json:"held_until,omitzero"`
		}{i.Name, i.Position, i.Unread, i.Bytes, i.Oldest.UTC(), i.HeldUntil.UTC()}); err != nil {
			return err
		}
	}
	return nil
}

const topicDropHelp = `-subscription NAME [flags]

Removes a subscription for good: the topic no longer keeps messages for it. It
refuses while a receiver is at work. A receiver that waits for messages ends when
it finds that its subscription is gone; one that is started later makes it anew,
and begins with the oldest message that is still there.

  telemetry topic drop -subscription trial
`

func runTopicDrop(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, url := topicFlags("drop", topicDropHelp)
	name := f.String("subscription", "", "`NAME` of the subscription")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	if *name == "" {
		return command.BadConfig("which one? Set -subscription to a name that telemetry topic ls lists")
	}
	return topicError(topic.DropSubscription(ctx, *url, *name))
}
