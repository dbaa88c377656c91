// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// memoryStreams is how many streams send while memory is measured.
const memoryStreams = 1000

// memoryRound is what the gateway's process had resident in one round, in
// bytes.
type memoryRound struct {
	Idle  int64 // when it had just started
	Peak  int64 // at most, since it started
	After int64 // when the load had ended
	// Rest is how many seconds earlier it had.
	Rest            float64
	EventsPerSecond float64
}

// memory measures what memory the gateway takes under many streams, and how
// much of it it gives back within the time that it rests.
func (a *arena) memory(d, rest time.Duration) (m memoryRound, err error) {
	program, err := a.shipped()
	if err != nil {
		return m, err
	}
	gateway, err := a.start("memory/gateway", childConfig{Role: "shipped", Program: program, Topic: "discard:"})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, gateway.stop()) }()
	idle, err := gateway.usage()
	if err != nil {
		return m, err
	}
	l := usualLoad()
	l.streams = memoryStreams
	o, err := a.send(gateway, l, d)
	if err != nil {
		return m, err
	}
	time.Sleep(rest)
	after, err := gateway.usage()
	return memoryRound{
		Idle: idle.Resident, Peak: after.Peak, After: after.Resident, Rest: rest.Seconds(),
		EventsPerSecond: float64(eventsOf(o.acks)) / o.took.Seconds(),
	}, err
}

const memoryLegend = `
Memory that the gateway's process has resident: idle when it has just started;
at its peak while %d streams on %d connections send messages of %d events as
fast as they are taken; and %.0f s after they have hung up. The process is the
command telemetry, as it is shipped.
`

func (r *report) printMemory(w io.Writer) {
	fmt.Fprintf(w, memoryLegend+"\n", memoryStreams, maxConnections, sendEvents, r.Memory[0].Rest)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tidle MB\tpeak MB\tafter MB\tafter ÷ idle\tevents/s\t")
	over := func(of func(memoryRound) float64) spread { return spreadOver(r.Memory, of) }
	fmt.Fprintf(t, "memory\t%v\t%v\t%v\t%v\t%v\t\n",
		over(func(m memoryRound) float64 { return float64(m.Idle) / 1e6 }), over(memoryRound.peakMB),
		over(func(m memoryRound) float64 { return float64(m.After) / 1e6 }), over(memoryRound.kept),
		over(func(m memoryRound) float64 { return m.EventsPerSecond }))
	t.Flush()
}

func (m memoryRound) peakMB() float64 { return float64(m.Peak) / 1e6 }

// kept is the memory after the load as a multiple of that before it.
func (m memoryRound) kept() float64 { return float64(m.After) / float64(m.Idle) }
