// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"testing"

	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// BenchmarkDecode sets the two ways to read a payload side by side.
func BenchmarkDecode(b *testing.B) {
	m := encode(b, licensedEncoder(b, payload.KeyFingerprint), typicalEvent())
	run := func(name string, decode func(*warehouse.Row) bool) {
		b.Run(name, func(b *testing.B) {
			var row warehouse.Row
			b.ReportAllocs()
			b.SetBytes(int64(len(m.Data)))
			for b.Loop() {
				if !decode(&row) {
					b.Fatal("cannot be decoded")
				}
			}
		})
	}
	run("canonical", func(row *warehouse.Row) bool { return Decode(&m, row) == nil })
	run("any", func(row *warehouse.Row) bool { return decodeAny(m.Data, row) == nil })
}
