// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"time"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// Outcome says who has an event now.
type Outcome uint8

const (
	// Failed: the event is not known to be durable anywhere. Send it again.
	Failed Outcome = iota
	// Accepted: the gateway has published the event durably.
	Accepted
	// DeadLettered: the gateway can never publish the event and keeps it, with
	// the reason, where its operator sees it. Do not send it again.
	DeadLettered
	// Unsendable: the event was not sent, because it cannot be encoded or is
	// larger than the gateway takes. Sending it again is no use.
	Unsendable
)

// String is the outcome in lower case, as in "dead-lettered".
func (o Outcome) String() string {
	switch o {
	case Failed:
		return "failed"
	case Accepted:
		return "accepted"
	case DeadLettered:
		return "dead-lettered"
	case Unsendable:
		return "unsendable"
	default:
		return "unknown"
	}
}

// Reasons that this package gives. All others are the gateway's.
const (
	// ReasonNotSent: the call ended before the event's turn came.
	ReasonNotSent = "not_sent"
	// ReasonUnanswered: the event was sent, and the call ended without an
	// answer. The gateway may or may not have it.
	ReasonUnanswered = "unanswered"
	// ReasonUnacknowledged: the gateway answered without acknowledging the
	// event, as old gateways do, which give no reasons.
	ReasonUnacknowledged = "unacknowledged"
	// ReasonUnencodable: the event has a text that is not UTF-8.
	ReasonUnencodable = "unencodable"
	// ReasonTooLarge: the event does not fit in Options.MaxMessageBytes.
	ReasonTooLarge = "too_large"
)

// Verdict is what became of one event. Apart from Outcome it is empty for
// accepted events.
type Verdict struct {
	Outcome Outcome
	// Reason is a stable code, such as "feature_invalid".
	Reason string
	// Field is the path of the event's field that Reason is about, if one is.
	Field string
	// Message explains Reason to a person. It never quotes the event.
	Message string
}

// Result is what became of the events of one call.
type Result struct {
	// RequestID names the call in the gateway's logs.
	RequestID string
	// Verdicts has one entry for each event, in the order sent.
	Verdicts []Verdict
	// RetryAfter is how long the gateway asks to wait before failed events are
	// sent again; 0 if it did not say.
	RetryAfter time.Duration
}

// Count returns how many events had an outcome.
func (r Result) Count(o Outcome) int {
	n := 0
	for i := range r.Verdicts {
		if r.Verdicts[i].Outcome == o {
			n++
		}
	}
	return n
}

// verdict reads what the gateway says of an event.
func (s *call) verdict(v *telemetrygatewayv1.EventVerdict) Verdict {
	out := Verdict{Reason: s.redact(v.GetReason()), Field: s.redact(v.GetField()), Message: s.redact(v.GetMessage())}
	switch v.GetOutcome() {
	case telemetrygatewayv1.EventVerdict_OUTCOME_ACCEPTED:
		out.Outcome = Accepted
	case telemetrygatewayv1.EventVerdict_OUTCOME_DEAD_LETTERED:
		out.Outcome = DeadLettered
	default:
		out.Outcome = Failed
	}
	return out
}
