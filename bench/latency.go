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

// latencyShare is the part of what the gateway takes at most that it is loaded
// with.
const latencyShare = 0.7

// latencyRound is what one round found of how long a message waits for its
// acknowledgement. Latencies are in milliseconds.
type latencyRound struct {
	Unloaded, Loaded latencyPhase
	Most             float64 // events/s that the gateway took as fast as it could
}

type latencyPhase struct {
	P50, P99              float64
	EventsPerSecond       float64 // due while loaded, acknowledged while not
	GatewayCPU, SenderCPU float64 // processors
}

// slower is how many times longer the slowest hundredth takes under load.
func (l latencyRound) slower() float64 { return l.Loaded.P99 / l.Unloaded.P99 }

// latency measures how long the gateway takes to acknowledge a message: alone,
// and under a part of the load that it has just shown to take.
func (a *arena) latency(d time.Duration) (r latencyRound, err error) {
	gateway, err := a.start("latency/gateway", childConfig{Role: "gateway", Topic: "discard:"})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, gateway.stop()) }()
	alone := usualLoad()
	alone.streams, alone.window = 1, 1
	if r.Unloaded, err = a.latencyUnder(gateway, alone, d); err != nil {
		return r, err
	}
	most, err := a.send(gateway, usualLoad(), d)
	if err != nil {
		return r, err
	}
	r.Most = float64(eventsOf(most.acks)) / most.took.Seconds()
	loaded := usualLoad()
	loaded.window = pacedWindow
	loaded.interval = time.Duration(float64(loaded.events) / (latencyShare * r.Most) * float64(time.Second))
	r.Loaded, err = a.latencyUnder(gateway, loaded, d)
	return r, err
}

func (a *arena) latencyUnder(gateway *child, l load, d time.Duration) (latencyPhase, error) {
	o, err := a.send(gateway, l, d)
	took, waits := o.took.Seconds(), latencies(o.acks)
	return latencyPhase{
		P50: quantile(waits, 0.50), P99: quantile(waits, 0.99), EventsPerSecond: float64(eventsOf(o.acks)) / took,
		GatewayCPU: o.server.CPU.Seconds() / took, SenderCPU: o.sender.CPU.Seconds() / took,
	}, err
}

const latencyLegend = `
Latency of messages of %d events, from when one was due to its acknowledgement,
by a gateway that discards. "unloaded": one message at a time, on one stream.
"loaded": a message at equal intervals, whether or not those before it are
answered, on %d streams in turn, together %.0f %% of what the gateway took just
before from as many streams that sent as fast as they could ("most").
`

func (r *report) printLatency(w io.Writer) {
	fmt.Fprintf(w, latencyLegend+"\n", sendEvents, usualLoad().streams, latencyShare*100)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tp50 ms\tp99 ms\tp99 ÷ unloaded\tevents/s\tgateway CPU\tsender CPU\t")
	for _, row := range []struct {
		name  string
		phase func(latencyRound) latencyPhase
	}{
		{"unloaded", func(l latencyRound) latencyPhase { return l.Unloaded }},
		{"loaded", func(l latencyRound) latencyPhase { return l.Loaded }},
	} {
		over := func(of func(latencyPhase) float64) spread {
			return spreadOver(r.Latency, func(l latencyRound) float64 { return of(row.phase(l)) })
		}
		fmt.Fprintf(t, "%s\t%v\t%v\t%v\t%v\t%v\t%v\t\n", row.name,
			over(func(p latencyPhase) float64 { return p.P50 }), over(func(p latencyPhase) float64 { return p.P99 }),
			spreadOver(r.Latency, func(l latencyRound) float64 { return row.phase(l).P99 / l.Unloaded.P99 }),
			over(func(p latencyPhase) float64 { return p.EventsPerSecond }),
			over(func(p latencyPhase) float64 { return p.GatewayCPU }), over(func(p latencyPhase) float64 { return p.SenderCPU }))
	}
	fmt.Fprintf(t, "most\t\t\t\t%v\t\t\t\n", spreadOver(r.Latency, func(l latencyRound) float64 { return l.Most }))
	t.Flush()
	fmt.Fprint(w, "\n  CPU  processors that the process kept busy\n")
}
