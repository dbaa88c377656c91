// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"
)

// shapeCells measure servers that discard, under other loads than the usual
// one: other events, more and fewer streams, larger and smaller messages.
func (a *arena) shapeCells(quick bool) []cell {
	var cells []cell
	add := func(what string, l load) {
		for _, who := range []string{"gateway", "obvious", "floor"} {
			if quick && who == "obvious" && l.streams*l.events > 100_000 {
				continue // each stream sends a message at least, which takes it too long
			}
			name := what + "/" + who
			cells = append(cells, cell{name, func(d time.Duration) (sample, error) { return a.endToEnd(name, who, "discard:", l, d) }})
		}
	}
	for _, k := range kinds()[1:] {
		l := usualLoad()
		l.kind = k
		add("discard"+k.suffix, l)
	}
	for _, n := range []int{1, 10, 100, 1000} {
		l := usualLoad()
		l.streams = n
		if n == 1000 {
			l.window = 1 // half a million events are on their way all the same
		}
		add(fmt.Sprintf("streams-%d", n), l)
	}
	for _, n := range []int{1, 10, 100, 5000} {
		l := usualLoad()
		l.events = n
		add(fmt.Sprintf("batch-%d", n), l)
	}
	l := usualLoad()
	l.streams, l.events = 1000, 1
	add("batch-1-streams-1000", l)
	return cells
}
