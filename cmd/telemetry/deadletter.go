// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/deadletter"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

func runDeadletter(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return command.Group{
		Name: "telemetry deadletter",
		Intro: `Looks at dead letters, which are events that could not be published or could not
land in the warehouse, and publishes them after all once they are mended. It
works while a gateway and a pipeline run.

  telemetry deadletter ls -where reason=action_invalid -since 24h
  telemetry deadletter show 5f1c4be05b1f3dd54a2f3d7e6a0c9b18
  telemetry deadletter replay -topic sqlite://data/topic.db -patch fix.json -dry-run
`,
		Commands: []command.Command{
			{Name: "ls", Summary: "list dead letters, without what the events hold", Run: runDeadletterLs},
			{Name: "show", Summary: "print a dead letter with its event", Run: runDeadletterShow},
			{Name: "replay", Summary: "publish the events of dead letters, patched or as they were", Run: runDeadletterReplay},
		},
	}.Run(ctx, args, stdout, stderr)
}

// deadletterFlags are the flags of all these commands.
type deadletterFlags struct {
	*command.Flags
	url   *string
	wait  *time.Duration
	which deadletter.Selection
	log   *slog.Logger
}

func newDeadletterFlags(name, help string, stderr io.Writer) *deadletterFlags {
	f := &deadletterFlags{Flags: command.NewFlags("telemetry deadletter "+name, help)}
	f.log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	f.url = f.String("deadletter", "sqlite://data/deadletter.db", "`URL` of the dead letters: of a topic, sqlite://PATH, with ?subscription=NAME for what that subscription has not taken yet; or of a subscription, gcppubsub://projects/P/subscriptions/S")
	f.wait = f.Duration("wait", 5*time.Second, "Pub/Sub only: end when no message has come for this `duration`")
	return f
}

// selection adds the flags that select dead letters.
func (f *deadletterFlags) selection() {
	f.Func("where", "only those with `FIELD=PATTERN`, in which * stands for any text; given again, all conditions hold. Fields: id, stage (gateway or pipeline), reason, field, source, source_id, license_id, identity, event_id, feature, action", func(s string) error {
		c, err := deadletter.ParseCondition(s)
		f.which.Where = append(f.which.Where, c)
		return err
	})
	f.Func("since", "only events that were received since a `time`, such as 2026-03-01T12:00:00Z, or since that long ago, such as 24h", func(s string) (err error) {
		if ago, err := time.ParseDuration(s); err == nil {
			f.which.Since = time.Now().Add(-ago)
			return nil
		}
		if f.which.Since, err = time.Parse(time.RFC3339, s); err != nil {
			return errors.New("want a duration such as 24h, or a time such as 2026-03-01T12:00:00Z")
		}
		return nil
	})
}

// open opens the dead letters.
func (f *deadletterFlags) open(ctx context.Context) (*deadletter.Letters, error) {
	letters, err := deadletter.Open(ctx, *f.url, *f.wait, f.log)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, command.BadConfig("%w; a gateway makes the file when it starts: give -deadletter the URL that the gateway has", err)
	} else if err != nil {
		return nil, command.BadConfig("%w", err)
	}
	return letters, nil
}

// mention tells that there may be more than was looked at.
func mention(looked deadletter.Looked, stderr io.Writer) {
	if looked.More {
		fmt.Fprintf(stderr, "There may be more: a subscription hands out no more than the %d that were looked at.\n", looked.Letters)
	}
}

const deadletterLsHelp = `[-where FIELD=PATTERN]... [flags]

Lists dead letters, each once, however often it was delivered: who made it, when
the event was received and from whom, and what is wrong with it. Nothing else of
the event is shown. Looking takes nothing away: from a SQLite topic nobody misses
a message, and to a Pub/Sub subscription all are given back at the end.

  telemetry deadletter ls
  telemetry deadletter ls -where reason=id_conflict -where 'identity=license/L-7f3a/*'
  telemetry deadletter ls -since 24h -format json | jq -r .reason | sort | uniq -c
`

// listedLetter is what ls says of a dead letter.
type listedLetter struct {
	ID         string     `json:"id"`
	ReceivedAt *time.Time `json:"received_at"`
	Stage      string     `json:"stage"`
	Reason     string     `json:"reason"`
	Field      string     `json:"field"`
	Message    string     `json:"message"`
	Source     string     `json:"source"`
	SourceID   string     `json:"source_id"`
	LicenseID  string     `json:"license_id"`
	Identity   string     `json:"identity"`
	EventID    string     `json:"event_id"`
}

func runDeadletterLs(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newDeadletterFlags("ls", deadletterLsHelp, stderr)
	f.selection()
	format := f.String("format", "table", "`table|json`; json is a line for each")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	if *format != "table" && *format != "json" {
		return command.BadConfig("-format is %q: want table or json", *format)
	}
	letters, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer letters.Close()
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	rows := 0
	lines := json.NewEncoder(stdout)
	lines.SetEscapeHTML(false)
	if *format == "table" {
		fmt.Fprintln(table, "ID\tRECEIVED\tSTAGE\tREASON\tFIELD\tSENDER\tEVENT ID")
	}
	looked, err := letters.List(ctx, f.which, func(l *deadletter.Letter) error {
		if *format == "json" {
			return lines.Encode(listing(l))
		}
		if rows++; rows%1000 == 0 { // aligned a thousand at a time, not kept for ever
			if err := table.Flush(); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintln(table, row(l))
		return err
	})
	if err := errors.Join(err, table.Flush()); err != nil {
		return err
	}
	mention(looked, stderr)
	return nil
}

func listing(l *deadletter.Letter) listedLetter {
	out := listedLetter{
		ID: l.Field("id"), Stage: l.Field("stage"), Reason: l.Field("reason"), Field: l.Field("field"), Message: l.Violation.Message,
		Source: l.Field("source"), SourceID: l.Field("source_id"), LicenseID: l.Field("license_id"),
		Identity: l.Field("identity"), EventID: l.Field("event_id"),
	}
	if !l.ReceivedAt.IsZero() {
		out.ReceivedAt = &l.ReceivedAt
	}
	return out
}

// row is a line of the table. What senders chose cannot spoil a terminal.
func row(l *deadletter.Letter) string {
	received := ""
	if !l.ReceivedAt.IsZero() {
		received = l.ReceivedAt.UTC().Format(time.RFC3339)
	}
	cells := []string{l.Field("id"), received, l.Field("stage"), l.Field("reason"), l.Field("field"), l.Field("identity"), l.Field("event_id")}
	for i, cell := range cells {
		if cells[i] = cmp.Or(cell, "-"); strings.ContainsFunc(cell, func(r rune) bool { return !unicode.IsGraphic(r) || r == unicode.ReplacementChar }) {
			cells[i] = strconv.QuoteToGraphic(cell)
		}
	}
	return strings.Join(cells, "\t")
}

const deadletterShowHelp = `ID [flags]

Prints the dead letter that ls calls ID, or whose ID begins so, as JSON: all of
the message that it is, and its event as a payload shows it, which is what a
patch for telemetry deadletter replay is a patch of. An event that JSON has no
form for is shown as protobuf text.

This prints what the sender sent.

  telemetry deadletter show 5f1c4be05b1f3dd54a2f3d7e6a0c9b18
  telemetry deadletter show 5f1c | jq .event.parameters
`

func runDeadletterShow(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newDeadletterFlags("show", deadletterShowHelp, stderr)
	f.Takes = "ID"
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	if len(f.Args()) != 1 || f.Args()[0] == "" {
		return command.BadConfig("want one ID, as telemetry deadletter ls prints it")
	}
	id, err := deadletter.ParseCondition("id=" + f.Args()[0] + "*")
	if err != nil {
		return err
	}
	f.which.Where = []deadletter.Condition{id}
	letters, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer letters.Close()
	lines := json.NewEncoder(stdout)
	lines.SetEscapeHTML(false)
	lines.SetIndent("", "  ")
	looked, err := letters.List(ctx, f.which, func(l *deadletter.Letter) error { return lines.Encode(show(l)) })
	if err != nil {
		return err
	}
	if looked.Matched == 0 {
		mention(looked, stderr)
		return fmt.Errorf("there is no dead letter %s in %s", f.Args()[0], command.MaskURLs(*f.url))
	}
	return nil
}

// shownLetter is what show says of a dead letter.
type shownLetter struct {
	ID         string          `json:"id"`
	Stage      string          `json:"stage"`
	Message    json.RawMessage `json:"message"` // as telemetry tail prints it
	Event      json.RawMessage `json:"event,omitempty"`
	EventText  string          `json:"eventText,omitempty"`
	EventError string          `json:"eventError,omitempty"`
}

func show(l *deadletter.Letter) shownLetter {
	out := shownLetter{ID: l.Field("id"), Stage: l.Field("stage"), Message: topic.AppendLine(nil, l.Message)}
	event, err := l.DecodeEvent()
	if err != nil {
		out.EventError = err.Error()
		return out
	}
	if text, err := protojson.Marshal(event); err == nil {
		out.Event = text
	} else {
		out.EventText = prototext.Format(event)
	}
	return out
}
