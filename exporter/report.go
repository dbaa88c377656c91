// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"context"
	"log/slog"
	"regexp"
	"time"
)

// said is what was logged, so that the same is not said again at every pass.
type said struct {
	license string
	errors  map[string]bool // since export last worked
	failed  int             // passes since then
}

// maxErrors bounds said.errors. An outage has few faces, but more than one.
const maxErrors = 16

// began takes down that a pass is under way.
func (e *Exporter) began() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status.Next = time.Time{}
}

// ended takes down what a pass did, and logs it.
func (e *Exporter) ended(ctx context.Context, p Pass) {
	e.mu.Lock()
	s := &e.status
	s.Last = p
	switch {
	case p.ok():
		s.LastSuccess, s.Failures = p.Started.Add(p.Duration), 0
	case p.Err != nil || p.Failed > 0:
		s.Failures++
	}
	if p.Sent > 0 {
		s.LicenseRefused = p.LicenseRefused
	}
	if p.Leased {
		s.Standby = ""
	}
	e.mu.Unlock()

	if p.Sent > 0 {
		e.logLicense(p)
	}
	e.logError(p)
	level := slog.LevelDebug
	if p.Accepted > 0 || p.DeadLettered > 0 || p.Filtered > 0 || p.Failed > 0 && p.Err == nil {
		level = slog.LevelInfo
	}
	e.log.Log(ctx, level, "export pass", "mode", p.Mode, "identity", p.Identity, "sent", p.Sent, "accepted", p.Accepted,
		"dead", p.DeadLettered, "failed", p.Failed, "filtered", p.Filtered, "bytes", p.Bytes, "calls", p.Batches,
		"complete", p.Complete, "duration", p.Duration)
}

func (e *Exporter) logError(p Pass) {
	text := same(p.Err)
	switch {
	case p.Err == nil:
		if (p.Complete || p.More) && e.said.failed > 0 {
			e.log.Info("export works again", "failed_passes", e.said.failed)
			e.said.errors, e.said.failed = nil, 0
		}
		return
	case e.said.errors[text], len(e.said.errors) >= maxErrors:
		e.log.Debug("export failed again", "error", p.Err, "kind", p.Kind, "failed_passes", e.said.failed+1)
	default:
		e.log.Error("export failed; events stay queued and are tried again", "error", p.Err, "kind", p.Kind, "failed_passes", e.said.failed+1)
		if e.said.errors == nil {
			e.said.errors = map[string]bool{}
		}
		e.said.errors[text] = true
	}
	e.said.failed++
}

func (e *Exporter) logLicense(p Pass) {
	text := same(p.LicenseRefused)
	switch {
	case text == e.said.license:
		return
	case text == "":
		e.log.Info("the gateway takes the licence again")
	default:
		e.log.Error("the gateway refuses the licence; events are sent as those of an unlicensed instance until it is replaced", "error", p.LicenseRefused)
	}
	e.said.license = text
}

// standby takes down who has the queue, if it is not this exporter.
func (e *Exporter) standby(holder string) {
	e.mu.Lock()
	former := e.status.Standby
	e.status.Standby = holder
	e.mu.Unlock()
	switch {
	case holder == former:
	case holder == "":
		e.log.Info("this exporter has the queue now", "before", former)
	default:
		e.log.Info("another exporter has the queue; this one waits", "holder", holder)
	}
}

// varying is what differs each time that the same error occurs: request IDs,
// ports, times.
var varying = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]+`)

// same is an error's text for comparison with others.
func same(err error) string {
	if err == nil {
		return ""
	}
	return varying.ReplaceAllString(err.Error(), "")
}
