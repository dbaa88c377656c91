// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package balance shows whether every event that was accepted is accounted for:
// for each sender and day, what is in the topics against what is in the
// warehouse.
//
// A line adds up if
//
//	accepted + replayed = landed + duplicates + rejected + in flight
//
// where what is in flight is only known to be among the messages that the
// pipeline has not acknowledged. The numbers are read in an order that makes this
// hold while everything runs: first how far the pipeline is, then the warehouse,
// and then the topics. So whatever the pipeline has acknowledged must be in the
// warehouse's numbers, and whatever is in those must be in the topics'.
package balance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// Options say what is compared.
type Options struct {
	// Topic and DeadLetters are URLs, as a pipeline has them. Only topics of
	// sqlite: still have messages that were acknowledged, so that of others
	// nothing is known about what was accepted.
	Topic, DeadLetters string
	Subscription       string // the pipeline's, in both topics
	// Query asks the warehouse.
	Query func(ctx context.Context, sql string) (warehouse.Rows, error)
	// Since leaves out all that was received before its day, in UTC, and what has
	// no such time.
	Since time.Time
	Log   *slog.Logger
}

// Line is what became of what one sender sent on one day.
type Line struct {
	Identity string // what event IDs are unique within; empty where it could not be read
	Day      string // of received_at in UTC, such as 2026-11-22; empty where it could not be read
	// Known says whether Accepted and Replayed are, and so whether there is
	// anything to compare: false for days of which messages have been removed.
	Known bool
	// Accepted counts events that a gateway took: published, each as often as it
	// was received and once however often it is in the topic, or made dead letters.
	Accepted   int64
	Replayed   int64 // dead letters that were published after all
	Landed     int64
	Duplicates int64
	Rejected   map[string]int64 // by reason
	// InFlight counts what is in a topic and not in the warehouse yet.
	InFlight int64
	// Missing is how many more there should be in the warehouse; if it is
	// negative, how many fewer. A line with 0 adds up.
	Missing int64

	unread int64 // messages that the pipeline has not acknowledged
}

// Report is all lines, by identity and day.
type Report struct {
	Lines []Line
	Notes []string // what could not be compared, and why
}

// Balanced says whether all lines add up.
func (r *Report) Balanced() bool {
	return !slices.ContainsFunc(r.Lines, func(l Line) bool { return l.Missing != 0 })
}

// place is what a line is about.
type place struct{ identity, day string }

// books are the lines being filled.
type books struct {
	o     Options
	lines map[place]*Line
	notes []string
	// Of days up to this one not all messages are there any longer. No day is
	// later than "unknown".
	incomplete string
}

// at returns the line of a place, or nil if it is of no interest.
func (b *books) at(identity, day string) *Line {
	if !b.o.Since.IsZero() && day < b.o.Since.UTC().Format(time.DateOnly) {
		return nil
	}
	l := b.lines[place{identity, day}]
	if l == nil {
		identity = strings.Clone(identity) // it may point into a message
		l = &Line{Identity: identity, Day: day, Rejected: map[string]int64{}}
		b.lines[place{identity, day}] = l
	}
	return l
}

// Take compares the topics with the warehouse. It changes neither.
func Take(ctx context.Context, o Options) (*Report, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &books{o: o, lines: map[place]*Line{}}
	events, err := b.position(ctx, o.Topic)
	if err != nil {
		return nil, err
	}
	deadLetters, err := b.position(ctx, o.DeadLetters)
	if err != nil {
		return nil, err
	}
	if err := b.countWarehouse(ctx); err != nil {
		return nil, fmt.Errorf("read the warehouse: %w", err)
	}
	if err := b.countTopic(ctx, o.Topic, events, new(occurrences).event); err != nil {
		return nil, err
	}
	if err := b.countTopic(ctx, o.DeadLetters, deadLetters, new(occurrences).deadLetter); err != nil {
		return nil, err
	}
	return b.close(), nil
}

// unknown is later than any day: nothing is known of what was accepted.
const unknown = "unknown"

// position returns how far the pipeline has come in a topic.
func (b *books) position(ctx context.Context, url string) (int64, error) {
	if !strings.HasPrefix(url, "sqlite:") {
		b.incomplete = unknown
		b.notes = append(b.notes, fmt.Sprintf("%s does not keep what was acknowledged: nothing is known of what was accepted", url))
		return 0, nil
	}
	infos, err := topic.Subscriptions(ctx, url)
	if err != nil {
		return 0, err
	}
	for _, i := range infos {
		if i.Name == b.o.Subscription {
			return i.Position, nil
		}
	}
	b.notes = append(b.notes, fmt.Sprintf("%s has no subscription %q: nothing of it has been acknowledged", url, b.o.Subscription))
	return 0, nil
}

// countWarehouse adds what the warehouse has.
func (b *books) countWarehouse(ctx context.Context) (err error) {
	rows, err := b.o.Query(ctx, statement(b.o.Since))
	if err != nil {
		return fmt.Errorf("ask the warehouse: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for {
		row, err := rows.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		what, _ := row[0].(string)
		reason, _ := row[1].(string)
		identity, _ := row[2].(string)
		day, _ := row[3].(string)
		n, isNumber := row[4].(int64)
		if !isNumber {
			return fmt.Errorf("it counts in %T", row[4])
		}
		l := b.at(identity, day)
		switch {
		case l == nil:
		case what == "landed":
			l.Landed += n
		case what == "duplicate":
			l.Duplicates += n
		default:
			l.Rejected[reason] += n
		}
	}
}

// statement is one statement, and so sees one state of the warehouse, in SQL that
// all warehouses understand.
func statement(since time.Time) string {
	where := ""
	if !since.IsZero() {
		where = "WHERE received_at >= TIMESTAMP '" + since.UTC().Format(time.DateOnly) + " 00:00:00'"
	}
	const place = "coalesce(identity, '') AS identity, coalesce(CAST(CAST(received_at AS DATE) AS STRING), '') AS day, count(*) AS events"
	return "SELECT 'landed' AS what, '' AS reason, " + place + " FROM events " + where + " GROUP BY 3, 4" +
		" UNION ALL SELECT 'duplicate', '', " + place + " FROM events_duplicates " + where + " GROUP BY 3, 4" +
		" UNION ALL SELECT 'rejected', coalesce(reason, ''), " + place + " FROM events_rejected " + where + " GROUP BY 2, 3, 4"
}

// close does the sums.
func (b *books) close() *Report {
	r := &Report{Notes: b.notes}
	for _, l := range b.lines {
		if l.Known = b.incomplete == "" || l.Day > b.incomplete; l.Known {
			settled := l.Landed + l.Duplicates
			for _, n := range l.Rejected {
				settled += n
			}
			switch open := l.Accepted + l.Replayed - settled; {
			case open < 0:
				l.Missing = open
			default:
				l.InFlight = min(open, l.unread)
				l.Missing = open - l.InFlight
			}
		} else {
			l.Accepted, l.Replayed, l.InFlight = 0, 0, l.unread
		}
		r.Lines = append(r.Lines, *l)
	}
	slices.SortFunc(r.Lines, func(x, y Line) int {
		return cmp.Or(cmp.Compare(x.Identity, y.Identity), cmp.Compare(x.Day, y.Day))
	})
	if b.incomplete != "" && b.incomplete != unknown {
		r.Notes = append(r.Notes, fmt.Sprintf("up to %s messages have been removed from a topic, as its retention says: what was accepted until then is no longer known", b.incomplete))
	}
	return r
}
