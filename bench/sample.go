// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A cell is one thing to be measured, again and again.
type cell struct {
	name    string // WHAT/WHO, such as discard/gateway
	measure func(time.Duration) (sample, error)
}

// A sample is what one measurement found. Zero means not measured.
type sample struct {
	EventsPerSecond float64 // acknowledged, by the clock on the wall
	CPU             float64 // µs of processor time per event
	Allocs          float64 // allocations on the heap per event
	Bytes           float64 // allocated on the heap per event
	P50, P99        float64 // ms from sending a message to its acknowledgement
	PeakMB          float64 `json:",omitempty"` // resident at most
}

func newSample(events int, took time.Duration, u usage, waits []time.Duration) sample {
	n := float64(max(events, 1))
	return sample{
		EventsPerSecond: float64(events) / took.Seconds(),
		CPU:             float64(u.CPU.Nanoseconds()) / 1000 / n,
		Allocs:          float64(u.Mallocs) / n,
		Bytes:           float64(u.Bytes) / n,
		P50:             quantile(waits, 0.50),
		P99:             quantile(waits, 0.99),
	}
}

func latencies(acks []ack) []time.Duration {
	waits := make([]time.Duration, len(acks))
	for i, a := range acks {
		waits[i] = a.latency
	}
	return waits
}

// quantile returns the q-quantile of waits in milliseconds, and sorts them.
func quantile(waits []time.Duration, q float64) float64 {
	if len(waits) == 0 {
		return 0
	}
	slices.Sort(waits)
	i := int(math.Ceil(q*float64(len(waits)))) - 1
	return float64(waits[max(i, 0)].Nanoseconds()) / 1e6
}

// spread is the median of several samples' figures, the least and the most.
type spread struct{ Median, Min, Max float64 }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	median := v[len(v)/2]
	if len(v)%2 == 0 {
		median = (v[len(v)/2-1] + median) / 2
	}
	return spread{median, v[0], v[len(v)-1]}
}

// spreadOver is the spread of a figure of several rounds.
func spreadOver[T any](rounds []T, of func(T) float64) spread {
	var values []float64
	for _, r := range rounds {
		values = append(values, of(r))
	}
	return spreadOf(values)
}

// String is the median with the least and the most.
func (s spread) String() string {
	if s == (spread{}) {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", figure(s.Median), figure(s.Min), figure(s.Max))
}

// figure writes a number with three digits that matter.
func figure(v float64) string {
	if math.Abs(v) < 0.005 {
		return "0"
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	scale := math.Pow(10, float64(digits))
	return fmt.Sprintf("%.*f", max(0, digits), math.Round(v*scale)/scale)
}
