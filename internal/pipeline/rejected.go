// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// The values of warehouse.Rejected.Stage: who made a dead letter.
const (
	stageGateway  = "gateway"
	stagePipeline = "pipeline"
)

// DecodeRejected makes the row of the dead letter that m carries: everything in
// it but LandedAt, as far as the dead letter has it. What is no dead letter lands
// as one of the pipeline's own, with m's data as its bytes. The row may point
// into m's key and data.
func DecodeRejected(m *topic.Message, r *warehouse.Rejected) {
	*r = warehouse.Rejected{RejectedID: payload.DeadLetterID(m.Data)}
	letter, err := payload.DecodeDeadLetter(m.Data)
	if err != nil {
		letter = &payload.DeadLetter{Key: m.Key, Data: m.Data, Violation: *invalid("", "is not a dead letter")}
	}
	r.Reason, r.Field, r.Message = letter.Violation.Reason, letter.Violation.Field, letter.Violation.Message
	key := m.Key
	if letter.Data == nil {
		r.Stage, r.Bytes = stageGateway, letter.Event
		fillLetter(&r.Row, letter)
	} else {
		r.Stage, r.Bytes = stagePipeline, letter.Data
		key = letter.Key
		if decodePayload(letter.Data, &r.Row, new(origin)) != nil {
			r.Row = warehouse.Row{}
			fillLetter(&r.Row, letter)
		}
	}
	if slash := strings.LastIndexByte(key, '/'); slash > 0 && usableKey(key) {
		r.Identity = key[:slash]
	}
	if r.Identity != "" && r.EventID != "" {
		r.KeyHash = keyHash(r.Identity, r.EventID)
	}
}

// fillLetter fills what d shows of an event whose payload there is none of, or
// that cannot be read.
func fillLetter(row *warehouse.Row, d *payload.DeadLetter) {
	if e, err := d.DecodeEvent(); err == nil {
		fillEvent(row, e)
	}
	fillOrigin(row, &d.Origin)
	if at := d.ReceivedAt.UTC(); 1 <= at.Year() && at.Year() <= 9999 {
		row.ReceivedAt = at.Truncate(time.Microsecond)
	}
	fill := func(column *string, label string) {
		if *column == "" {
			*column = d.Labels[label]
		}
	}
	switch source := d.Labels["publisher.source"]; source {
	case licensedInstance, unlicensedInstance:
		fill(&row.Source, "publisher.source")
	default:
		if source != "" && row.Source == "" {
			row.Source = managedService // whose label is its ID
		}
	}
	fill(&row.SourceID, "publisher.id")
	fill(&row.LicenseID, "license.id")
	fill(&row.EventID, "event.id")
	fill(&row.Feature, "event.feature")
	fill(&row.Action, "event.action")
}
