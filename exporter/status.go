// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"errors"
	"time"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/queue"
)

// Values of Pass.Identity.
const (
	Licensed   = "licensed"
	Unlicensed = "unlicensed"
	Service    = "service"
)

// Values of Pass.Kind besides those of client.Kind.
const (
	// KindQueue: the queue's database failed.
	KindQueue client.Kind = "queue"
	// KindFenced: another exporter has taken the queue over.
	KindFenced client.Kind = "fenced"
	// KindConfig: there is no client with this configuration.
	KindConfig client.Kind = "config"
)

// Pass says what one pass did.
type Pass struct {
	Started  time.Time
	Duration time.Duration
	// Mode is the policy's, the last one if it changed meanwhile. In the modes Local
	// and Off nothing is sent.
	Mode queue.Mode
	// Leased says that this exporter had the queue to itself. If it is false in a
	// mode that sends, another exporter has it, and this pass did nothing.
	Leased bool
	// Identity is how the last call was made: Licensed, Unlicensed or Service. It is
	// empty if there was none.
	Identity string
	// LicenseRefused is why the gateway did not take the licence; nil if it did.
	// The events are then sent as unlicensed.
	LicenseRefused error

	// Batches is the number of calls that brought a verdict on an event.
	Batches int
	// Sent is the number of events in calls, and what follows adds up to it.
	Sent, Accepted, DeadLettered, Failed int
	// Bytes is the size of the events sent, before compression.
	Bytes int64
	// Reasons counts the verdicts of events that were not accepted by reason.
	Reasons map[string]int
	// Filtered is the number of events that were taken out of the queue, before
	// anything was sent, because the policy does not allow them. Those that come up
	// later are in queue.Stats only.
	Filtered int64

	// Complete says that everything there was has been tried. It is false when the
	// pass ended early, because of Err or RetryAfter or More or to stop, and when it
	// went on where one before it had ended.
	Complete bool
	whole    bool // it began with the oldest event
	// More says that the pass had taken so long that it ended for that alone. The
	// next follows at once.
	More bool
	// RetryAfter is how long the gateway asks to wait; 0 if it did not say.
	RetryAfter time.Duration
	// Err is why the pass ended early, and Kind its class.
	Err  error
	Kind client.Kind
}

// ok says whether the pass did all that there was to do, or all it had time for.
func (p *Pass) ok() bool { return (p.Complete || p.More) && p.Failed == 0 }

// Status is the state of an Exporter, for health pages and metrics.
type Status struct {
	// Last is the last pass, whose Started is zero before the first.
	Last Pass
	// LastSuccess is when a pass last did all that there was to do, or all it had
	// time for; zero if never.
	LastSuccess time.Time
	// Failures is the number of passes since then that ended early, or whose
	// events the gateway did not all take.
	Failures int
	// LicenseRefused is why the gateway did not take the licence in the last pass
	// that sent; nil if it did.
	LicenseRefused error
	// Standby names the exporter that has the queue, if it is not this one.
	Standby string
	// Next is when Run begins its next pass; zero while it is in one.
	Next time.Time
}

// Status returns the present state. It does not wait for anything.
func (e *Exporter) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status
}

// kindOf returns the class of the error that ended a pass.
func kindOf(err error) client.Kind {
	var c *client.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errSilent):
		return client.Broken
	case errors.As(err, &c):
		return c.Kind
	case errors.Is(err, queue.ErrFenced):
		return KindFenced
	case errors.Is(err, errConfig):
		return KindConfig
	default:
		return KindQueue
	}
}
