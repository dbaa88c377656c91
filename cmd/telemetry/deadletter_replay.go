// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/deadletter"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

const deadletterReplayHelp = `-topic URL [-where FIELD=PATTERN]... [-patch FILE] [flags]

Publishes the events of dead letters to the topic of events, as the gateway would
have: from the same sender, with the same ID and time of receipt, and with the
label replay.of. A patch mends them first: an RFC 7396 merge patch of the event as
telemetry deadletter show prints it, in which null removes. An event that cannot
be decoded takes a patch that is the whole event. One that still breaks a rule is
not published.

Replaying twice does no harm: the same messages are published again, and the
warehouse has each event once. Dead letters in a SQLite topic stay. Of a Pub/Sub
subscription, those whose events have been published are acknowledged.

Prints a line for each dead letter, and a sum. The exit code is 1 if an event
could not be published.

  telemetry deadletter replay -topic sqlite://data/topic.db -where reason=action_invalid -patch fix.json -dry-run
  telemetry deadletter replay -topic sqlite://data/topic.db -where id=5f1c4be05b1f3dd54a2f3d7e6a0c9b18 -patch new-id.json
`

func runDeadletterReplay(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newDeadletterFlags("replay", deadletterReplayHelp, stderr)
	f.selection()
	events := f.String("topic", "", "`URL` of the topic of events: sqlite://PATH or gcppubsub://projects/P/topics/T")
	patch := f.String("patch", "", "`file` with a merge patch of each event; - for standard input")
	dryRun := f.Bool("dry-run", false, "publish nothing, and say what would become of each event")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	// What is published must stay: Pub/Sub's dead letters go when it is.
	switch scheme, rest, _ := strings.Cut(*events, ":"); {
	case *events == "":
		return command.BadConfig("which topic? Give -topic the URL that the gateway has")
	case scheme != "sqlite" && scheme != "gcppubsub":
		return command.BadConfig("-topic is %s: events are replayed into a topic of sqlite: or gcppubsub:", command.MaskURLs(*events))
	case withoutParams(*events) == withoutParams(*f.url):
		return command.BadConfig("-topic and -deadletter are both %s: events are replayed into the gateway's -topic", command.MaskURLs(*events))
	case scheme == "sqlite" && !strings.Contains(rest, "?"):
		*events += "?retention=forever" // how long messages stay is for the gateway to say
	}
	var r deadletter.ReplayOptions
	var err error
	if r.Patch, err = f.readPatch(*patch); err != nil {
		return err
	}
	letters, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer letters.Close()
	done := "would be published"
	if !*dryRun {
		done = "published"
		if r.Topic, err = topic.Open(ctx, *events, f.log); err != nil {
			return command.BadConfig("-topic: %w", err)
		}
		defer r.Topic.Close()
	}
	r.Report = func(l *deadletter.Letter, invalid error) {
		if invalid != nil {
			fmt.Fprintf(stdout, "%s cannot be published: %v\n", l.Field("id"), invalid)
			return
		}
		fmt.Fprintf(stdout, "%s %s\n", l.Field("id"), done)
	}
	sum, err := letters.Replay(ctx, f.which, r)
	fmt.Fprintf(stdout, "%d of %d dead letters match: %d %s, %d cannot be\n", sum.Matched, sum.Letters, sum.Published, done, sum.Invalid)
	mention(sum.Looked, stderr)
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted; do the same again to go on")
	case err != nil:
		return fmt.Errorf("%w; what was published is, so do the same again to go on", err)
	case sum.Invalid > 0:
		return command.ErrReported
	}
	return nil
}

// readPatch reads and checks the patch in a file.
func (f *deadletterFlags) readPatch(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	read := func() ([]byte, error) { return os.ReadFile(file) }
	if file == "-" {
		read = func() ([]byte, error) { return io.ReadAll(os.Stdin) }
	}
	patch, err := read()
	if err != nil {
		return nil, command.BadConfig("-patch: %w", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(patch, &fields); err != nil || fields == nil {
		return nil, command.BadConfig("-patch: %s is no JSON object%s", file, because(err))
	}
	one := false
	for _, c := range f.which.Where {
		one = one || c.One()
	}
	if id := fields["id"]; id != nil && !one {
		return nil, command.BadConfig("-patch: %s gives all events the same ID: select one dead letter with -where id=…", file)
	}
	return patch, nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func withoutParams(url string) string {
	before, _, _ := strings.Cut(url, "?")
	return before
}
