// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// The codes of errors, in their extensions.
const (
	codeInvalid     = "INVALID_EVENT"
	codeBadRequest  = "BAD_REQUEST"
	codeForbidden   = "FORBIDDEN"
	codeUnavailable = "UNAVAILABLE"
)

// call is what resolvers know of the request that they work for.
type call struct {
	admin func() bool
	// key is the idempotency key, or "".
	key string
	// recorded says that recordEvents was called. Aliases could call it as
	// often as a request has room for, with the same events each time.
	recorded atomic.Bool
	// result is written by recordEvents alone.
	result Request
}

type callKey struct{}

func callFrom(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// fault is an error of a call as a whole.
type fault struct{ code, message string }

func (f *fault) Error() string              { return f.message }
func (f *fault) Extensions() map[string]any { return map[string]any{"code": f.code} }

// invalidEvents is how recordEvents returns several errors: the handler makes
// one of each.
type invalidEvents []telemetry.InvalidEvent

func (v invalidEvents) Error() string { return fmt.Sprintf("%d events are invalid", len(v)) }

type mutation struct {
	recorder *telemetry.Recorder
	options  *Options
}

type emptyResponse struct{ AlwaysNil *string }

func (m *mutation) Telemetry() *mutation { return m }

func (m *mutation) RecordEvents(ctx context.Context, args struct{ Events []eventInput }) (*emptyResponse, error) {
	call := callFrom(ctx)
	switch n := len(args.Events); {
	case !call.recorded.CompareAndSwap(false, true):
		return nil, &fault{codeBadRequest, "recordEvents may stand once in a request: send all events with it"}
	case n == 0:
		return nil, &fault{codeBadRequest, "no events"}
	case n > m.options.MaxEvents:
		return nil, &fault{codeBadRequest, fmt.Sprintf("%d events are more than the %d that one call may have", n, m.options.MaxEvents)}
	}
	var (
		actor   = telemetry.ActorFrom(ctx)
		events  = make([]*telemetrygatewayv1.Event, 0, len(args.Events))
		indexes = make([]int, 0, len(args.Events)) // of events, in what was sent
		invalid invalidEvents
	)
	for i := range args.Events {
		e, violation := args.Events[i].event()
		if violation != nil {
			invalid = append(invalid, telemetry.InvalidEvent{Index: i, Reason: violation.Reason, Field: violation.Field, Message: violation.Message})
			continue
		}
		if call.key != "" {
			// An event that has no wire format gets no ID here: the recorder
			// finds out why and says so.
			e.Id, _ = derivedID(actor, call.key, i, e)
		}
		events, indexes = append(events, e), append(indexes, i)
	}
	call.result.Recorded = len(events)
	if len(events) > 0 {
		err := m.recorder.RecordReceived(ctx, events...)
		var broken telemetry.InvalidEvents
		errors.As(err, &broken)
		for _, v := range broken {
			v.Index = indexes[v.Index]
			invalid = append(invalid, v)
		}
		call.result.Recorded -= len(broken)
		// What is not about events alone is a store's, or joined with a store's.
		if _, ok := err.(telemetry.InvalidEvents); err != nil && !ok {
			m.options.Logger.ErrorContext(ctx, "received events not recorded", "events", call.result.Recorded, "error", err)
			call.result.Recorded, call.result.Failed = 0, call.result.Recorded
			return nil, &fault{codeUnavailable, "the events could not be recorded: send them again later"}
		}
	}
	if len(invalid) > 0 {
		call.result.Invalid = map[string]int{}
		for _, v := range invalid {
			call.result.Invalid[v.Reason]++
		}
		slices.SortFunc(invalid, func(a, b telemetry.InvalidEvent) int { return a.Index - b.Index })
		return nil, invalid
	}
	return &emptyResponse{}, nil
}
