// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
)

const (
	// pageItems and pageBytes bound a page, and so the memory that a reader
	// can make us use.
	pageItems = 1000
	pageBytes = 16 << 20
	// countMost bounds the work of counting what a filter lets through.
	countMost = 10_000
)

// Filter selects events. Fields that are zero select all.
type Filter struct {
	Feature string
	// Action is found fast only together with another field.
	Action          string
	UserID          int64
	AnonymousUserID string
}

// Page is a part of the log, newest events first.
type Page struct {
	Items []Item
	// Next is the cursor of the page after this one, empty for the last.
	Next string
	// Total is how many events the filter selects on all pages. With a filter
	// that selects some only, counting ends at 10,000.
	Total int64
}

// Item is an event in the log.
type Item struct {
	ID string
	// Event is nil if what is stored cannot be decoded.
	Event *telemetrygatewayv1.Event
	// Timestamp is the event's own, RecordedAt when the log took it.
	Timestamp, RecordedAt time.Time
}

// ErrCursor is the error of List for a cursor that no page named as its next.
var ErrCursor = errors.New("the cursor is not one that a page named as its next")

// List returns the page that follows the cursor after, or the first one if it
// is empty. Events that are added meanwhile do not shift the pages. first is
// how many events to return, at least 1 and at most 1,000; a page of large
// events has fewer.
func (l *Log) List(ctx context.Context, first int, after string, f Filter) (Page, error) {
	page, err := l.list(ctx, min(max(first, 1), pageItems), after, f)
	if err != nil {
		return Page{}, fmt.Errorf("list event log: %w", err)
	}
	return page, nil
}

func (l *Log) list(ctx context.Context, first int, after string, f Filter) (page Page, err error) {
	before, err := parseCursor(after)
	if err != nil {
		return page, err
	}
	where, args := f.where()
	if page.Total, err = l.total(ctx, where, args); err != nil {
		return page, err
	}
	// One more than is asked for tells whether there is another page.
	rows, err := l.db.QueryContext(ctx, l.dialect.Bind(
		"SELECT seq, id, timestamp, recorded_at, payload_pb FROM telemetry_event_log WHERE "+where+" AND seq < ? ORDER BY seq DESC LIMIT ?"),
		append(args, before, first+1)...)
	if err != nil {
		return page, err
	}
	defer rows.Close()
	var seq int64
	for bytes := 0; rows.Next(); {
		if len(page.Items) == first || bytes >= pageBytes {
			page.Next = cursor(seq)
			break
		}
		var item Item
		var timestamp, recorded database.Time
		var payload []byte
		if err := rows.Scan(&seq, &item.ID, &timestamp, &recorded, &payload); err != nil {
			return page, err
		}
		item.Timestamp, item.RecordedAt = timestamp.Time, recorded.Time
		e := &telemetrygatewayv1.Event{}
		if proto.Unmarshal(payload, e) == nil {
			item.Event = e
		}
		bytes += len(payload)
		page.Items = append(page.Items, item)
	}
	return page, rows.Err()
}

// where returns a condition that is true for what f selects.
func (f Filter) where() (condition string, args []any) {
	condition = "1 = 1"
	and := func(column string, zero bool, value any) {
		if !zero {
			condition += " AND " + column + " = ?"
			args = append(args, value)
		}
	}
	and("feature", f.Feature == "", f.Feature)
	and("action", f.Action == "", f.Action)
	and("user_id", f.UserID == 0, f.UserID)
	and("anonymous_user_id", f.AnonymousUserID == "", searchable(f.AnonymousUserID))
	return condition, args
}

func (l *Log) total(ctx context.Context, where string, args []any) (n int64, err error) {
	if len(args) == 0 {
		s, err := l.totals(ctx, l.db)
		return s.Events, err
	}
	err = l.db.QueryRowContext(ctx, l.dialect.Bind(
		"SELECT count(*) FROM (SELECT 1 FROM telemetry_event_log WHERE "+where+" LIMIT ?) AS selected"),
		append(args, countMost)...).Scan(&n)
	return n, err
}

// A cursor is the seq of the last event of a page.
func cursor(seq int64) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(seq)))
}

func parseCursor(s string) (seq int64, err error) {
	if s == "" {
		return math.MaxInt64, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 8 {
		return 0, ErrCursor
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}
