// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"testing"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

func BenchmarkAppend(b *testing.B) {
	for _, row := range []struct {
		name  string
		event []byte
	}{
		{"full", wire(b, fullEvent())},
		{"minimal", wire(b, minimalEvent())},
		{"unknown-fields", append(wire(b, fullEvent()), newerEvent(b)...)},
	} {
		b.Run(row.name, func(b *testing.B) {
			e := newEncoder(b, licensed(), payload.KeyFingerprint)
			var dst []byte
			var labels payload.Arena
			e.Use(&labels)
			b.ReportAllocs()
			b.SetBytes(int64(len(row.event)))
			for b.Loop() {
				labels.Reset()
				var v *limits.Violation
				if dst, _, v = e.Append(dst[:0], row.event, receivedAt); v != nil {
					b.Fatal(v)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(len(dst)), "payload-bytes")
		})
	}
}

// BenchmarkViolation measures what a flood of bad events costs.
func BenchmarkViolation(b *testing.B) {
	late := fullEvent()
	late.Interaction.Geolocation.CountryCode = "??"
	for _, row := range []struct {
		name  string
		event []byte
	}{
		{"deep", deep(b, 5000, false)},
		{"no-id", wire(b, &telemetrygatewayv1.Event{Source: fullEvent().Source, Parameters: fullEvent().Parameters})},
		{"last-byte", bytes.Replace(wire(b, late), []byte("??"), []byte("\xff\xff"), 1)},
	} {
		b.Run(row.name, func(b *testing.B) {
			e := newEncoder(b, unlicensed(), payload.KeyFingerprint)
			dst := make([]byte, 0, 1<<16)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, v := e.Append(dst, row.event, receivedAt); v == nil {
					b.Fatal("the event was encoded")
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
