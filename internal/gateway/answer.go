// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// Numbers of the fields that an answer has, in RecordEventsResponse and
// RecordEventBatchResponse alike, and in EventVerdict. A test holds them
// against the contract's descriptor.
const (
	succeededField  = 1
	verdictsField   = 1001
	retryAfterField = 1002
	outcomeField    = 1
	reasonField     = 2
	fieldField      = 3
	messageField    = 4
)

const (
	accepted     = telemetrygatewayv1.EventVerdict_OUTCOME_ACCEPTED
	deadLettered = telemetrygatewayv1.EventVerdict_OUTCOME_DEAD_LETTERED
	failed       = telemetrygatewayv1.EventVerdict_OUTCOME_FAILED
)

// verdict is what became of one event.
type verdict struct {
	id      string // empty if the event has none that can be read
	outcome telemetrygatewayv1.EventVerdict_Outcome
	reason  string
	field   string
	message string
}

// answer is what became of one message.
type answer struct {
	verdicts   []verdict
	retryAfter time.Duration
	refusal    error // set if the sender sent more than it may
}

// append makes the wire format of an answer. An accepted event, by far the
// most frequent kind, costs its ID and seven bytes: a sender that reads no
// answer before it has sent everything must not make us keep much.
func (a *answer) append(dst []byte) []byte {
	// Many answers wait to be read at once: none takes more than it needs.
	size := protowire.SizeTag(retryAfterField) + protowire.SizeBytes(2*sizeOfVarint(1, math.MaxInt64))
	for i := range a.verdicts {
		v := &a.verdicts[i]
		size += protowire.SizeTag(verdictsField) + protowire.SizeBytes(v.size())
		if v.id != "" && v.outcome != failed {
			size += protowire.SizeTag(succeededField) + protowire.SizeBytes(len(v.id))
		}
	}
	dst = slices.Grow(dst, size)
	for i := range a.verdicts {
		v := &a.verdicts[i]
		if v.id != "" && v.outcome != failed {
			dst = protowire.AppendTag(dst, succeededField, protowire.BytesType)
			dst = protowire.AppendString(dst, v.id)
		}
	}
	for i := range a.verdicts {
		v := &a.verdicts[i]
		dst = protowire.AppendTag(dst, verdictsField, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(v.size()))
		dst = v.append(dst)
	}
	if a.retryAfter > 0 {
		seconds := uint64(a.retryAfter / time.Second)
		nanos := uint64(a.retryAfter % time.Second)
		size := sizeOfVarint(1, seconds) + sizeOfVarint(2, nanos)
		dst = protowire.AppendTag(dst, retryAfterField, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(size))
		dst = appendVarint(dst, 1, seconds)
		dst = appendVarint(dst, 2, nanos)
	}
	return dst
}

func (v *verdict) append(dst []byte) []byte {
	dst = appendVarint(dst, outcomeField, uint64(v.outcome))
	dst = appendString(dst, reasonField, v.reason)
	dst = appendString(dst, fieldField, v.field)
	return appendString(dst, messageField, v.message)
}

func (v *verdict) size() int {
	return sizeOfVarint(outcomeField, uint64(v.outcome)) +
		sizeOfString(reasonField, v.reason) + sizeOfString(fieldField, v.field) + sizeOfString(messageField, v.message)
}

// proto is the verdict as the contract has it.
func (v *verdict) proto() *telemetrygatewayv1.EventVerdict {
	return &telemetrygatewayv1.EventVerdict{Outcome: v.outcome, Reason: v.reason, Field: v.field, Message: v.message}
}

func appendVarint(dst []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, n, protowire.VarintType), v)
}

func sizeOfVarint(n protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(n) + protowire.SizeVarint(v)
}

func appendString(dst []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, n, protowire.BytesType), s)
}

func sizeOfString(n protowire.Number, s string) int {
	if s == "" {
		return 0
	}
	return protowire.SizeTag(n) + protowire.SizeBytes(len(s))
}
