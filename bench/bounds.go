// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A bound is what a figure is to keep. It holds if the median does.
type bound struct {
	what  string
	found spread // all zero if it was not measured
	sign  string // ≥ or ≤
	limit float64
}

func (b bound) holds() bool {
	if b.sign == "≥" {
		return b.found.Median >= b.limit
	}
	return b.found.Median <= b.limit
}

// bounds are those of the gateway.
func (r *report) bounds() []bound {
	cpu := func(what string, limit float64) bound {
		return bound{what + ": CPU, obvious ÷ gateway", ratio(r.row(what+"/obvious"), r.row(what+"/gateway")), "≥", limit}
	}
	rate := func(s sample) float64 { return s.EventsPerSecond }
	return []bound{
		cpu("encode", 18),
		// None but for a buffer that grows to the largest event, once.
		{"encode: allocations per event", r.row("encode/gateway").spread(func(s sample) float64 { return s.Allocs }), "≤", 0.01},
		cpu("encode-small", 8),
		cpu("encode-large", 8),
		cpu("encode-private", 8),
		cpu("discard", 15),
		{"discard: CPU, gateway ÷ floor", ratio(r.row("discard/gateway"), r.row("discard/floor")), "≤", 3.5},
		cpu("pubsub", 10),
		{"sqlite: events/s, gateway ÷ bare", quotient(r.row("sqlite/gateway"), r.row("sqlite/bare"), rate), "≥", 0.6},
		cpu("batch-1-streams-1000", 3),
		{"latency: p99, loaded ÷ unloaded", spreadOver(r.Latency, latencyRound.slower), "≤", 3},
		{"memory: MB at the peak", spreadOver(r.Memory, memoryRound.peakMB), "≤", 256},
		{"memory: after the load ÷ idle", spreadOver(r.Memory, memoryRound.kept), "≤", 1.2},
	}
}

const boundLegend = `
What the gateway is to keep, in ratios within one run. A bound holds if the median
of the rounds does.
`

func (r *report) printBounds(w io.Writer) {
	measured := slices.DeleteFunc(r.bounds(), func(b bound) bool { return b.found == (spread{}) })
	if len(measured) == 0 {
		return
	}
	fmt.Fprint(w, boundLegend+"\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tbound\tfound\tholds\t")
	for _, b := range measured {
		holds := "no"
		if b.holds() {
			holds = "yes"
		}
		fmt.Fprintf(t, "%s\t%s %s\t%v\t%s\t\n", b.what, b.sign, figure(b.limit), b.found, holds)
	}
	t.Flush()
}
