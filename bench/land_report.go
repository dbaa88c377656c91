// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

const landLegend = `
Landing: a process with the defaults of telemetry-pipeline lands %s events of a
SQLite topic in a DuckDB file that has so many rows already. "obvious" decodes
each message with encoding/json and inserts it into %d columns of a table whose
primary key keeps duplicates out, in transactions of 1,000 rows. It has 1/%d of
the events. The aim is 50,000 events/s on two processors with a million rows
there, within 512 MB.
`

const delayLegend = `
Delay: an application records an event every %v into SQLite, an exporter sends
them to a gateway every %v, the gateway publishes them to a SQLite topic, and the
pipeline commits them to DuckDB: all of it on the same processors. p50 and p99
are from the call of Record until the row is committed.
`

func (r *report) printLand(w io.Writer, rows []*row) {
	fmt.Fprintf(w, landLegend+"\n", thousands(r.Landed), obviousColumns, landObviousShare)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tevents/s\t×obvious\t÷none there\tpeak MB\tCPU µs\tallocs\tB\t")
	rate := func(s sample) float64 { return s.EventsPerSecond }
	for _, row := range rows {
		what, who, _ := strings.Cut(row.Name, "/")
		fmt.Fprintf(t, "%s\t%v\t%v\t%v\t%v\t%v\t%s\t%s\t\n", row.Name,
			row.spread(rate), quotient(row, r.row(what+"/obvious"), rate), quotient(row, r.row(landName(0, who)), rate),
			row.spread(func(s sample) float64 { return s.PeakMB }), row.spread(sample.cpu),
			figure(row.spread(func(s sample) float64 { return s.Allocs }).Median),
			figure(row.spread(func(s sample) float64 { return s.Bytes }).Median))
	}
	t.Flush()
	fmt.Fprint(w, "\n  ×obvious        how many times more events/s than the obvious way\n"+
		"  ÷none there     events/s as a part of those with no rows there\n"+
		"  peak MB         the most memory that the landing process had resident\n"+
		"  CPU, allocs, B  of the landing process per event; allocs and B are Go's alone\n")
}

func (r *report) printDelay(w io.Writer, row *row) {
	fmt.Fprintf(w, delayLegend+"\n", delayPause, delayInterval)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tp50 ms\tp99 ms\tpeak MB\t")
	fmt.Fprintf(t, "%s\t%v\t%v\t%v\t\n", row.Name,
		row.spread(func(s sample) float64 { return s.P50 }), row.spread(func(s sample) float64 { return s.P99 }),
		row.spread(func(s sample) float64 { return s.PeakMB }))
	t.Flush()
	fmt.Fprintf(w, "\nEach figure is the median of %d rounds (least–most); the rounds take turns.\n", rounds)
}
