// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"context"
	"fmt"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// The codes of errors, in their extensions.
const (
	codeInvalid     = "INVALID_EVENT"
	codeBadRequest  = "BAD_REQUEST"
	codeForbidden   = "FORBIDDEN"
	codeUnavailable = "UNAVAILABLE"
)

// fault is an error of a call as a whole.
type fault struct{ code, message string }

func (f *fault) Error() string              { return f.message }
func (f *fault) Extensions() map[string]any { return map[string]any{"code": f.code} }

// invalidEvents is how recordEvents returns several errors: the handler makes
// one of each.
type invalidEvents []telemetry.InvalidEvent

func (v invalidEvents) Error() string { return fmt.Sprintf("%d events are invalid", len(v)) }

// root gives GraphQL its two entrances.
type root struct{ door *graphQL }

func (r *root) Query() any    { return &query{&r.door.options} }
func (r *root) Mutation() any { return &mutation{r.door.door} }

type mutation struct{ door *door }

type emptyResponse struct{ AlwaysNil *string }

func (m *mutation) Telemetry() *mutation { return m }

func (m *mutation) RecordEvents(ctx context.Context, args struct{ Events []eventInput }) (*emptyResponse, error) {
	call := callFrom(ctx)
	switch n := len(args.Events); {
	case !call.recorded.CompareAndSwap(false, true):
		return nil, &fault{codeBadRequest, "recordEvents may stand once in a request: send all events with it"}
	case n == 0:
		return nil, &fault{codeBadRequest, "no events"}
	case n > m.door.options.MaxEvents:
		return nil, &fault{codeBadRequest, m.door.tooMany(n)}
	}
	invalid, err := m.door.record(ctx, call.key, len(args.Events), func(i int) (*telemetrygatewayv1.Event, *limits.Violation) {
		return args.Events[i].event()
	})
	switch {
	case err != nil:
		return nil, &fault{codeUnavailable, err.Error()}
	case invalid != nil:
		return nil, invalidEvents(invalid)
	}
	return &emptyResponse{}, nil
}
