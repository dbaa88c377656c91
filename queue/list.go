// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
)

// State is where an event is on its way out.
type State int

const (
	// Pending events wait to be exported.
	Pending State = iota
	// Exported events have left, and are kept for Options.Retention.
	Exported
	// DeadLettered events can never leave as they are.
	DeadLettered
)

// Page is a part of a list.
type Page struct {
	Items []Item
	Next  string // for the page after this one; empty if there is none
	Total int64  // of all pages
}

// Item is an event in a list.
type Item struct {
	ID        string
	Event     *v1.Event // nil if the bytes are no event
	Timestamp time.Time // the event's own
	At        time.Time // when it got into its state; zero if pending

	Reason, Field, Message string // of a dead letter, see Dead
}

const (
	pageItems = 1000
	pageBytes = 8 << 20 // at least one item, though
)

// states has, for each State, where its events are and in which order they are
// listed.
var states = [...]struct {
	columns, from, where, order, descending string
}{
	Pending:      {"timestamp, '', '', ''", "telemetry_events_export_queue", "exported_at IS NULL", "timestamp", ""},
	Exported:     {"exported_at, '', '', ''", "telemetry_events_export_queue", "exported_at IS NOT NULL", "exported_at", " DESC"},
	DeadLettered: {"dead_at, reason, field, message", "telemetry_events_export_dead_letters", "dead_at IS NOT NULL", "dead_at", " DESC"},
}

// List returns the first events in a state, or those after a page: pending ones
// the oldest first, others the latest first. It returns from 1 to 1000 events,
// whatever first says, and less when they are large. Pages neither repeat nor
// skip what is there all the time.
func (q *Queue) List(ctx context.Context, s State, first int, after string) (Page, error) {
	if s < 0 || int(s) >= len(states) {
		return Page{}, fmt.Errorf("list events: state %d is not known", s)
	}
	from, err := q.parseCursor(s, after)
	if err != nil {
		return Page{}, fmt.Errorf("list events: %w", err)
	}
	first = min(max(first, 1), pageItems)
	var p Page
	var last position
	size := 0
	var sum delta
	err = q.read(ctx, func(c conn) error {
		if sum, _, err = c.totals(); err != nil {
			return err
		}
		fit, err := c.fit(pageBytes, func(columns string) (string, []any) { return q.page(s, columns, from, first+1) })
		if err != nil {
			return err
		}
		// One more than fits says whether there is another page.
		query, args := q.page(s, "id, timestamp, payload_pb, "+states[s].columns, from, min(first, fit)+1)
		return c.each(query, args, func(scan func(...any) error) error {
			var i Item
			var timestamp, at database.Time
			var payload []byte
			if err := scan(&i.ID, &timestamp, &payload, &at, &i.Reason, &i.Field, &i.Message); err != nil {
				return err
			}
			if size += len(payload); len(p.Items) == first || len(p.Items) > 0 && size > pageBytes {
				p.Next = last.cursor(s)
				return errEnough
			}
			last = position{at.Time, i.ID}
			i.Timestamp = timestamp.Time
			if s != Pending {
				i.At = at.Time
			}
			var e v1.Event
			if proto.Unmarshal(payload, &e) == nil {
				i.Event = &e
			}
			p.Items = append(p.Items, i)
			return nil
		})
	})
	if err != nil {
		return Page{}, fmt.Errorf("list events: %w", err)
	}
	switch s {
	case Pending:
		p.Total = sum.pending()
	case Exported:
		p.Total = sum.exported - sum.pruned
	case DeadLettered:
		p.Total = sum.dead
	}
	return p, nil
}

// page returns the query for columns of n rows from a position on.
func (q *Queue) page(s State, columns string, from position, n int) (query string, args []any) {
	x := states[s]
	query = "SELECT " + columns + " FROM " + x.from + " WHERE " + x.where
	if from != (position{}) {
		sign := " > "
		if x.descending != "" {
			sign = " < "
		}
		query += " AND (" + x.order + ", id)" + sign + "(?, ?)"
		args = append(args, q.dialect.Time(from.time), from.id)
	}
	query += " ORDER BY " + x.order + x.descending + ", id" + x.descending + " LIMIT ?"
	return query, append(args, n)
}

// cursor returns what List takes to go on after a position.
func (p position) cursor(s State) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d %s", s, p.time.UnixMicro(), p.id))
}

func (q *Queue) parseCursor(s State, cursor string) (position, error) {
	if cursor == "" {
		return position{}, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return position{}, ErrCursor
	}
	parts := strings.SplitN(string(text), " ", 3)
	if len(parts) != 3 || parts[0] != strconv.Itoa(int(s)) {
		return position{}, ErrCursor
	}
	micros, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return position{}, ErrCursor
	}
	id := parts[2]
	// The database would refuse these, which is not the caller's business.
	if _, ok := canonical(id); !ok && q.uuids && s != DeadLettered || clean(id, len(id)) != id {
		return position{}, ErrCursor
	}
	return position{time.UnixMicro(micros).UTC(), id}, nil
}

// ErrCursor is the error of List for a cursor that no page of the list had.
var ErrCursor = errors.New("the cursor is not one that this list has returned; begin again without")
