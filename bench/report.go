// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"
)

// report is all that a run found. It is also what -json writes and -from reads.
type report struct {
	Machine machine
	Quick   bool // so that the figures mean nothing
	Queued  int  // events in the full queue that is recorded into
	Drained int  // events in a queue that is exported
	Landed  int  // events in a topic that is landed
	Rows    []*row
	Flood   []floodRound   `json:",omitempty"`
	Latency []latencyRound `json:",omitempty"`
	Memory  []memoryRound  `json:",omitempty"`
}

// readReport reads what -json has written.
func readReport(file string) (*report, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(report)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s is not what -json writes: %w", file, err)
	}
	if r.empty() {
		return nil, fmt.Errorf("%s has nothing measured in it; name what -json has written", file)
	}
	return r, nil
}

func (r *report) write(file string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

func (r *report) empty() bool {
	return len(r.Rows)+len(r.Flood)+len(r.Latency)+len(r.Memory) == 0
}

// row is the samples of one cell, one for each round.
type row struct {
	Name    string
	Samples []sample
}

// machine is what the figures depend on.
type machine struct {
	CPU        string
	Cores      int
	OS, Arch   string
	Go, Commit string
}

func thisMachine() machine {
	return machine{cpuModel(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), commit()}
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, model, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return "unknown"
}

func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

const encodeLegend = `
Encoding alone, on one goroutine: an event's wire bytes become the JSON that is
published. "obvious" decodes it, renders it with protojson and joins the parts
with encoding/json. "floor" copies the wire bytes. Beside the test mix there are
small events, large ones, and ones that are mostly private metadata.
`

const endToEndLegend = `
End to end: %d streams, each on a connection of its own, send messages of %d
events over gRPC on loopback and leave at most %d messages each unanswered. The
sender, the server and the fake Pub/Sub server are processes of their own.
"gateway" is the gateway. "obvious" decodes whole messages, encodes each event
as above, and publishes each with a future of its own from %d goroutines. "floor"
receives the same bytes with the same RPC library and publishes each event's
bytes as they are. "sqlite" is durable: each acknowledged event is on the disk;
"bare" is a loop that inserts the rows of the gateway, %[2]d a transaction.
`

const shapeLegend = `
Other loads, into nothing and otherwise as above. "discard-small", "-large" and
"-private" send these events. "streams-N" sends over N streams, which share %d
connections if there are more; 1,000 of them leave one message each unanswered.
"batch-N" sends messages of N events.
`

const columnLegend = `
  events/s   acknowledged, by the clock on the wall; the sender takes its part of
             the same processors
  CPU µs     processor time of the server's process per event, kernel included
  allocs, B  allocations and bytes on the server's heap per event
  p50, p99   ms from sending a message to its acknowledgement, while as much is
             sent as is taken: it is the time in line, above all
  ×obvious   how many times less CPU than the obvious way takes
  ×floor     how many times more CPU than the floor takes
Each figure is the median of the rounds (least–most), which take turns.
`

// print writes the tables.
func (r *report) print(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%s, %d processors, %s/%s, %s, commit %s\n", m.CPU, m.Cores, m.OS, m.Arch, m.Go, m.Commit)
	if r.Quick {
		fmt.Fprintln(w, "A quick run, which shows that everything works: the figures mean nothing.")
	}
	var encode, auth, endToEnd, shapes, record, drain, land []*row
	for _, row := range r.Rows {
		switch what, _, _ := strings.Cut(row.Name, "/"); {
		case strings.HasPrefix(what, "encode"):
			encode = append(encode, row)
		case what == "auth":
			auth = append(auth, row)
		case strings.HasPrefix(what, "record-"):
			record = append(record, row)
		case strings.HasPrefix(what, "drain-"):
			drain = append(drain, row)
		case row.Name == delayName:
		case strings.HasPrefix(what, "land-"):
			land = append(land, row)
		case what == "discard" || what == "pubsub" || what == "sqlite":
			endToEnd = append(endToEnd, row)
		default:
			shapes = append(shapes, row)
		}
	}
	r.printBounds(w)
	if len(encode) > 0 {
		fmt.Fprint(w, encodeLegend, "\n")
		r.table(w, encode, false)
	}
	if len(endToEnd)+len(shapes) > 0 {
		l := usualLoad()
		fmt.Fprintf(w, endToEndLegend+"\n", l.streams, l.events, l.window, obviousWorkers)
		if len(endToEnd) > 0 {
			r.table(w, endToEnd, true)
		}
	}
	if len(shapes) > 0 {
		fmt.Fprintf(w, shapeLegend+"\n", maxConnections)
		r.table(w, shapes, true)
	}
	if len(encode)+len(endToEnd)+len(shapes) > 0 {
		fmt.Fprint(w, columnLegend)
	}
	if r.stage(stages()[2]) != (spread{}) {
		r.printStages(w)
	}
	if len(r.Latency) > 0 {
		r.printLatency(w)
	}
	if len(r.Memory) > 0 {
		r.printMemory(w)
	}
	if len(auth) > 0 {
		r.printAuth(w, auth)
	}
	if len(record) > 0 {
		r.printRecord(w)
	}
	if len(drain) > 0 {
		r.printDrain(w, drain)
	}
	if len(land) > 0 {
		r.printLand(w, land)
	}
	if row := r.row(delayName); row != nil {
		r.printDelay(w, row)
	}
	if len(r.Flood) > 0 {
		r.printFlood(w)
	}
}

func (r *report) table(w io.Writer, rows []*row, acks bool) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := "\tevents/s\tCPU µs\tallocs\tB\t×obvious\t×floor\t"
	if acks {
		head += "p50 ms\tp99 ms\t"
	}
	fmt.Fprintln(t, head)
	for _, row := range rows {
		what, _, _ := strings.Cut(row.Name, "/")
		fmt.Fprintf(t, "%s\t%v\t%v\t%s\t%s\t%v\t%v\t", row.Name,
			row.spread(func(s sample) float64 { return s.EventsPerSecond }),
			row.spread(sample.cpu),
			figure(row.spread(func(s sample) float64 { return s.Allocs }).Median),
			figure(row.spread(func(s sample) float64 { return s.Bytes }).Median),
			ratio(r.row(what+"/obvious"), row), ratio(row, r.row(what+"/floor")))
		if acks {
			fmt.Fprintf(t, "%v\t%v\t",
				row.spread(func(s sample) float64 { return s.P50 }),
				row.spread(func(s sample) float64 { return s.P99 }))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}

func (r *report) row(name string) *row {
	for _, row := range r.Rows {
		if row.Name == name {
			return row
		}
	}
	return nil
}

// spread returns nothing for no row.
func (r *row) spread(of func(sample) float64) spread {
	if r == nil {
		return spread{}
	}
	return spreadOver(r.Samples, of)
}

func (s sample) cpu() float64 { return s.CPU }

// ratio is of the CPU time of two rows, round by round.
func ratio(a, b *row) spread { return quotient(a, b, sample.cpu) }

// quotient is of a figure of two rows, round by round.
func quotient(a, b *row, of func(sample) float64) spread {
	if a == nil || b == nil {
		return spread{}
	}
	var values []float64
	for i := range min(len(a.Samples), len(b.Samples)) {
		values = append(values, of(a.Samples[i])/of(b.Samples[i]))
	}
	return spreadOf(values)
}

const floodLegend = `
A flood of unlicensed senders: %d connections from as many addresses, %d streams
on each, send messages of %d events as fast as they can, and open each stream
that is refused again at once, from a process of its own that has %d processor at
most, at nice %d. The gateway has its defaults and discards. Meanwhile a licensed
sender sends a message of 1 to 500 events every %v. Its p50 and p99 are from when
a message was due to its acknowledgement. The flood "begins" while it uses up what
it is allowed at once, and then "goes on".
`

func (r *report) printFlood(w io.Writer) {
	fmt.Fprintf(w, floodLegend+"\n", floodConnections, floodStreams, sendEvents, floodProcs, floodNice, pacedInterval)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "flood\tp50 ms\tp99 ms\tp99 ÷ calm\toffered/s\tadmitted/s\trefused streams/s\tgateway CPU\tflood CPU\t")
	for _, row := range []struct {
		name  string
		phase func(floodRound) floodPhase
	}{
		{"calm", func(f floodRound) floodPhase { return f.Calm }},
		{"begins", func(f floodRound) floodPhase { return f.Begins }},
		{"goes on", func(f floodRound) floodPhase { return f.GoesOn }},
	} {
		over := func(of func(floodPhase) float64) spread {
			return spreadOver(r.Flood, func(f floodRound) float64 { return of(row.phase(f)) })
		}
		fmt.Fprintf(t, "%s\t%v\t%v\t%v\t%s\t%s\t%s\t%s\t%s\t\n", row.name,
			over(func(p floodPhase) float64 { return p.P50 }), over(func(p floodPhase) float64 { return p.P99 }),
			spreadOver(r.Flood, func(f floodRound) float64 { return row.phase(f).P99 / f.Calm.P99 }),
			figure(over(func(p floodPhase) float64 { return p.Offered }).Median),
			figure(over(func(p floodPhase) float64 { return p.Admitted }).Median),
			figure(over(func(p floodPhase) float64 { return p.RefusedStreams }).Median),
			figure(over(func(p floodPhase) float64 { return p.GatewayCPU }).Median),
			figure(over(func(p floodPhase) float64 { return p.FloodCPU }).Median))
	}
	t.Flush()
	fmt.Fprint(w, "\n  offered, admitted  events of the flood; the rest is refused\n  CPU                processors that the process kept busy\n")
}
