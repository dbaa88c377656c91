// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/telemetrygateway/telemetry/exporter"
	"github.com/telemetrygateway/telemetry/intake"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/queue"
)

// reporter turns what an instance's parts tell into metrics.
type reporter struct{ metrics *observe.InstanceMetrics }

// notTaken is the error of a pass in which the gateway did not take all events,
// although nothing else was wrong.
const notTaken = "not_taken"

// pass counts a pass of the exporter. One in which another exporter had the
// queue, or the mode lets nothing leave, is no pass.
func (r *reporter) pass(p exporter.Pass) {
	m := r.metrics
	for reason, n := range p.Reasons {
		m.Verdicts.Add(float64(n), reason)
	}
	m.ExportedEvents.Add(float64(p.Accepted))
	if p.Err == nil && !p.Leased {
		return
	}
	failure := string(p.Kind)
	if p.Err == nil && p.Failed > 0 {
		failure = notTaken
	}
	m.BatchSize.Observe(float64(p.Sent))
	m.ExportDuration.Observe(p.Duration.Seconds())
	m.ExportPasses.Add(1, p.Identity, failure)
	switch {
	case failure != "":
		m.ExportErrors.Add(1)
	case p.Complete, p.More:
		m.Exports.Add(1)
		m.LastExport.Set(float64(p.Started.Add(p.Duration).Unix()))
	}
	if p.Sent > 0 {
		refused := 0.0
		if p.LicenseRefused != nil {
			refused = 1
		}
		m.LicenseRefused.Set(refused)
	}
}

// pruned counts a cleanup of the queue.
func (r *reporter) pruned(p queue.Pruned, took time.Duration, err error) {
	r.metrics.EventsPruned.Add(float64(p.Exported))
	r.metrics.CleanupDuration.Observe(took.Seconds())
	if err != nil {
		r.metrics.CleanupErrors.Add(1)
	} else {
		r.metrics.Cleanups.Add(1)
	}
}

// request counts a request to the intake.
func (r *reporter) request(_ context.Context, q intake.Request) {
	result := "ok"
	switch {
	case q.Failed > 0 || q.Status >= 500:
		result = "failed"
	case q.Status >= 400:
		result = "refused"
	case len(q.Invalid) > 0 && q.Recorded > 0:
		result = "partial"
	case len(q.Invalid) > 0:
		result = "invalid"
	}
	r.metrics.IntakeRequests.Add(1, result)
	for reason, n := range q.Invalid {
		r.metrics.InvalidEvents.Add(float64(n), reason)
	}
}

// exportTrouble is what whoever asks whether the instance is ready should know
// about export, although it can record without it.
func exportTrouble(s exporter.Status, gateway string) string {
	switch {
	case gateway == "":
		return "nothing is exported until -gateway is set"
	case s.Standby != "":
		return "another process exports"
	case s.Failures > 0:
		why := string(s.Last.Kind)
		if why == "" {
			why = "the gateway did not take all events"
		}
		return fmt.Sprintf("export has failed %d times in a row (%s): see the log", s.Failures, why)
	case s.LicenseRefused != nil:
		return "the gateway refuses the licence, so events go as an unlicensed instance's: see the log"
	}
	return ""
}
