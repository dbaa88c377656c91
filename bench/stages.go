// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// A stage is a part of what the gateway does, as the sum of what some cells take
// less what others do.
type stage struct {
	name        string
	plus, minus []string
}

func stages() []stage {
	return []stage{
		{"receive, acknowledge", []string{"discard/floor"}, nil},
		{"encode", []string{"encode/gateway"}, nil},
		{"all else, into nothing", []string{"discard/gateway"}, []string{"discard/floor", "encode/gateway"}},
		{"publish to Pub/Sub", []string{"pubsub/gateway"}, []string{"discard/gateway"}},
		{"write to SQLite", []string{"sqlite/gateway"}, []string{"discard/gateway"}},
	}
}

// stage returns nothing unless all its cells were measured.
func (r *report) stage(s stage) spread {
	var sums []float64
	for i, of := range [][]string{s.plus, s.minus} {
		for _, name := range of {
			row := r.row(name)
			if row == nil {
				return spread{}
			}
			if sums == nil {
				sums = make([]float64, len(row.Samples))
			}
			for j := range sums {
				if i == 0 {
					sums[j] += row.Samples[j].CPU
				} else {
					sums[j] -= row.Samples[j].CPU
				}
			}
		}
	}
	return spreadOf(sums)
}

const stageLegend = `
By stage: µs of processor time per event of the test mix, as differences of cells
above, round by round. To receive and to acknowledge is what the floor takes; all
else is to identify the sender, to judge and to count.
`

func (r *report) printStages(w io.Writer) {
	fmt.Fprint(w, stageLegend+"\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tCPU µs\t")
	for _, s := range stages() {
		if found := r.stage(s); found != (spread{}) {
			fmt.Fprintf(t, "%s\t%v\t\n", s.name, found)
		}
	}
	t.Flush()
}
