// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// errNotRecorded is all that a client hears of what is wrong with a store.
var errNotRecorded = errors.New("the events could not be recorded: send them again later")

// record records the n events of a call, which event makes one by one, or names
// the rule that one breaks. It returns the invalid ones in order; the others are
// recorded unless there is an error, which is errNotRecorded.
func (d *door) record(ctx context.Context, key string, n int, event func(int) (*telemetrygatewayv1.Event, *limits.Violation)) ([]telemetry.InvalidEvent, error) {
	var (
		result  = &callFrom(ctx).result
		actor   = telemetry.ActorFrom(ctx)
		events  = make([]*telemetrygatewayv1.Event, 0, n)
		indexes = make([]int, 0, n) // of events, in what was sent
		invalid []telemetry.InvalidEvent
	)
	for i := range n {
		e, v := event(i)
		if v != nil {
			invalid = append(invalid, telemetry.InvalidEvent{Index: i, Reason: v.Reason, Field: v.Field, Message: v.Message})
			continue
		}
		if key != "" {
			// An event that has no wire format gets no ID here: the recorder
			// finds out why and says so.
			e.Id, _ = derivedID(actor, key, i, e)
		}
		events, indexes = append(events, e), append(indexes, i)
	}
	result.Recorded = len(events)
	if len(events) > 0 {
		err := d.recorder.RecordReceived(ctx, events...)
		var broken telemetry.InvalidEvents
		errors.As(err, &broken)
		for _, v := range broken {
			v.Index = indexes[v.Index]
			invalid = append(invalid, v)
		}
		result.Recorded -= len(broken)
		// What is not about events alone is a store's, or joined with a store's.
		if _, ok := err.(telemetry.InvalidEvents); err != nil && !ok {
			d.options.Logger.ErrorContext(ctx, "received events not recorded", "events", result.Recorded, "error", err)
			result.Recorded, result.Failed = 0, result.Recorded
			return nil, errNotRecorded
		}
	}
	if len(invalid) > 0 {
		result.Invalid = map[string]int{}
		for _, v := range invalid {
			result.Invalid[v.Reason]++
		}
		slices.SortFunc(invalid, func(a, b telemetry.InvalidEvent) int { return a.Index - b.Index })
	}
	return invalid, nil
}

// derivedID returns the ID of an event that the actor sent under an idempotency
// key: the same one when it is sent again. The actor is part of it, so that
// nobody can suppress an event of someone else's by guessing the key. So is the
// event itself, because a client that uses a key twice by mistake must not lose
// what it sent the second time.
func derivedID(a telemetry.Actor, key string, index int, e *telemetrygatewayv1.Event) (string, error) {
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("derive event ID: %w", err)
	}
	h := sha256.New()
	for _, number := range []uint64{uint64(a.UserID), uint64(index)} {
		h.Write(binary.BigEndian.AppendUint64(nil, number))
	}
	// Each text comes after its length, so that no two lists of them look the same.
	for _, text := range []string{a.AnonymousUserID, a.ExternalID, key} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		h.Write([]byte(text))
	}
	h.Write(content)
	var id uuid.UUID
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x80 // version 8
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return id.String(), nil
}
