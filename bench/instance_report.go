// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

const recordLegend = `
Recording: goroutines of an application record one event after the other and
wait each time until it is on disk; that waiting is p50 and p99. "queue" is the
recorder with the queue, "log+queue" with an event log before it. "obvious" adds
a row in a transaction of its own, redacts nothing and counts nothing. "full" is
with %s events in the queue, as ratio to the same with none when it began.
`

func (r *report) printRecord(w io.Writer) {
	fmt.Fprintf(w, recordLegend+"\n", thousands(r.Queued))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tat once\tp50 ms\tp99 ms\tevents/s\t×obvious\tfull p50 ms\tfull p99 ms\tp50 full÷empty\tp99 full÷empty\t")
	p50 := func(s sample) float64 { return s.P50 }
	p99 := func(s sample) float64 { return s.P99 }
	rate := func(s sample) float64 { return s.EventsPerSecond }
	for _, kind := range databases {
		for _, n := range recorders {
			for _, stores := range []string{onlyQueue, logAndQueue, oneByOne} {
				without, with := r.row(recordName(kind, stores, n, empty)), r.row(recordName(kind, stores, n, full))
				if without == nil && with == nil {
					continue
				}
				fmt.Fprintf(t, "%s %s\t%d\t%v\t%v\t%v\t%v\t%v\t%v\t%v\t%v\t\n", kind, stores, n,
					without.spread(p50), without.spread(p99), without.spread(rate),
					quotient(without, r.row(recordName(kind, oneByOne, n, empty)), rate),
					with.spread(p50), with.spread(p99), quotient(with, without, p50), quotient(with, without, p99))
			}
		}
	}
	t.Flush()
	fmt.Fprintf(w, "\n  ×obvious   how many times more events/s than the obvious way\nEach figure is the median of %d rounds (least–most); the rounds take turns.\n", rounds)
}

const drainLegend = `
Draining: a process exports %s queued events, in one pass of the exporter with
its defaults, to a gateway on the same processors that discards. "obvious" does
what exporters in the field do, over and over without their pause: connect, read
and decode 10,000 rows, send them in messages of a megabyte, read the answers,
mark the rows. It has 1/%d of the events. The aim is 20,000 events/s on two
processors, within 128 MB.
`

func (r *report) printDrain(w io.Writer, rows []*row) {
	fmt.Fprintf(w, drainLegend+"\n", thousands(r.Drained), obviousShare)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tevents/s\t×obvious\tpeak MB\tCPU µs\tallocs\tB\t")
	rate := func(s sample) float64 { return s.EventsPerSecond }
	for _, row := range rows {
		what, _, _ := strings.Cut(row.Name, "/")
		fmt.Fprintf(t, "%s\t%v\t%v\t%v\t%v\t%s\t%s\t\n", row.Name,
			row.spread(rate), quotient(row, r.row(what+"/obvious"), rate),
			row.spread(func(s sample) float64 { return s.PeakMB }), row.spread(sample.cpu),
			figure(row.spread(func(s sample) float64 { return s.Allocs }).Median),
			figure(row.spread(func(s sample) float64 { return s.Bytes }).Median))
	}
	t.Flush()
	fmt.Fprint(w, "\n  ×obvious        how many times more events/s than the obvious way\n  peak MB         the most memory that the exporting process had resident\n  CPU, allocs, B  of the exporting process per event\n")
}
