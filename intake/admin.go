// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"context"
	"errors"
	"math"
	"strconv"

	"github.com/graph-gophers/graphql-go"

	"github.com/telemetrygateway/telemetry/eventlog"
	"github.com/telemetrygateway/telemetry/queue"
)

// query is what administrators can look into.
type query struct{ options *Options }

type pageArgs struct {
	First int32
	After *string
}

// page returns what to ask a store for. It takes no more than a page, and what
// makes no sense for the default.
func (a pageArgs) page() (first int, after string) {
	if a.First <= 0 {
		a.First = defaultPage
	}
	return int(a.First), deref(a.After)
}

// defaultPage is also in the schema.
const defaultPage = 50

// A connection is a page, and an entry one of its nodes: of any of the schema's
// types for them, which have different parts of these fields.
type (
	connection struct {
		Nodes      []entry
		TotalCount int32
		PageInfo   pageInfo
	}
	entry struct {
		ID             graphql.ID
		Timestamp      dateTime
		ExportedAt     dateTime
		DeadLetteredAt dateTime
		Reason         string
		Field          *string
		Message        string
		Payload        jsonValue
	}
	pageInfo struct {
		HasNextPage bool
		EndCursor   *string
	}
)

// Telemetry lets nobody else in, and tells nobody else what there is.
func (q *query) Telemetry(ctx context.Context) (*query, error) {
	if !callFrom(ctx).admin() {
		return nil, &fault{codeForbidden, "only administrators may see what was recorded"}
	}
	return q, nil
}

func (q *query) ExportedEvents(ctx context.Context, a pageArgs) (*connection, error) {
	return q.list(ctx, queue.Exported, a)
}

func (q *query) EventsQueuedForExport(ctx context.Context, a pageArgs) (*connection, error) {
	return q.list(ctx, queue.Pending, a)
}

func (q *query) DeadLetteredEvents(ctx context.Context, a pageArgs) (*connection, error) {
	return q.list(ctx, queue.DeadLettered, a)
}

func (q *query) list(ctx context.Context, s queue.State, a pageArgs) (*connection, error) {
	if q.options.Queue == nil {
		return nil, &fault{codeUnavailable, "this instance has no queue"}
	}
	first, after := a.page()
	page, err := q.options.Queue.List(ctx, s, first, after)
	if err != nil {
		return nil, q.failed(ctx, err)
	}
	entries := make([]entry, len(page.Items))
	for i, item := range page.Items {
		at := dateTime{Time: item.At}
		entries[i] = entry{
			ID: graphql.ID(item.ID), Timestamp: dateTime{Time: item.Timestamp}, ExportedAt: at, DeadLetteredAt: at,
			Reason: item.Reason, Message: item.Message, Payload: jsonValue{item.Event},
		}
		if item.Field != "" {
			entries[i].Field = &item.Field
		}
	}
	return connectionOf(entries, page.Total, page.Next), nil
}

func (q *query) LoggedEvents(ctx context.Context, a struct {
	pageArgs
	Feature, Action, AnonymousUserID *string
	UserID                           *graphql.ID
},
) (*connection, error) {
	if q.options.Log == nil {
		return nil, &fault{codeUnavailable, "this instance keeps no log of its events"}
	}
	filter := eventlog.Filter{Feature: deref(a.Feature), Action: deref(a.Action), AnonymousUserID: deref(a.AnonymousUserID)}
	if a.UserID != nil {
		var err error
		if filter.UserID, err = strconv.ParseInt(string(*a.UserID), 10, 64); err != nil {
			return nil, &fault{codeBadRequest, "userID is not a number"}
		}
	}
	first, after := a.page()
	page, err := q.options.Log.List(ctx, first, after, filter)
	if err != nil {
		return nil, q.failed(ctx, err)
	}
	entries := make([]entry, len(page.Items))
	for i, item := range page.Items {
		entries[i] = entry{ID: graphql.ID(item.ID), Timestamp: dateTime{Time: item.Timestamp}, Payload: jsonValue{item.Event}}
	}
	return connectionOf(entries, page.Total, page.Next), nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func connectionOf(entries []entry, total int64, next string) *connection {
	c := &connection{Nodes: entries, TotalCount: int32(min(total, math.MaxInt32))}
	if next != "" {
		c.PageInfo = pageInfo{HasNextPage: true, EndCursor: &next}
	}
	return c
}

func (q *query) failed(ctx context.Context, err error) error {
	if errors.Is(err, queue.ErrCursor) || errors.Is(err, eventlog.ErrCursor) {
		return &fault{codeBadRequest, "after is not the endCursor of a page of this list"}
	}
	q.options.Logger.ErrorContext(ctx, "recorded events not listed", "error", err)
	return &fault{codeUnavailable, "the events could not be listed"}
}
