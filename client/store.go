// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"strings"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// Add sends events and returns nil when the gateway has accepted every one of
// them. That makes a Client a store for a recorder whose caller is to wait for
// the gateway: telemetry.New(telemetry.Options{}, c). Otherwise its error is a
// *NotAcceptedError.
func (c *Client) Add(ctx context.Context, events ...*telemetrygatewayv1.Event) error {
	r, err := c.Send(ctx, events...)
	if err == nil && r.Count(Accepted) == len(r.Verdicts) {
		return nil
	}
	return &NotAcceptedError{Result: r, Cause: err}
}

// NotAcceptedError is that the gateway has not accepted all events of a call to
// Add. Those that Failed may be added again. Those that are DeadLettered are
// durable, among what the gateway's operator looks after; like Unsendable ones
// they would be no better the next time.
type NotAcceptedError struct {
	// Result is what became of each event.
	Result Result
	// Cause is why the call ended early, an *Error; nil if it did not.
	Cause error
}

// Error says how many events there are of each outcome and why the first is one
// of them. It quotes no event.
func (e *NotAcceptedError) Error() string {
	var parts []string
	for _, o := range []Outcome{Failed, DeadLettered, Unsendable} {
		if n := e.Result.Count(o); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	text := fmt.Sprintf("of %d events %s", len(e.Result.Verdicts), strings.Join(parts, ", "))
	if e.Cause != nil {
		return text + ": " + e.Cause.Error()
	}
	for i, v := range e.Result.Verdicts {
		if v.Outcome != Accepted {
			return text + fmt.Sprintf("; event %d: %s %s %s", i, v.Reason, v.Field, v.Message)
		}
	}
	return text
}

// Unwrap returns Cause.
func (e *NotAcceptedError) Unwrap() error { return e.Cause }
