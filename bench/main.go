// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the gateway side by side with the obvious way to build
// one, and with the floor below which nothing can get, in one run. What it
// prints are ratios: figures of different runs or machines cannot be compared.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

const help = `usage: go run ./bench [-quick] [-run REGEXP] [-json FILE] [-svg FILE] [-profile DIR]
       go run ./bench -from FILE [-svg FILE]

Measures encoding; what it costs to prove managed services; the gateway end to
end into nothing, into a Pub/Sub-protocol fake and into SQLite, with few and many
streams, small and large messages; how long a message waits for its answer, alone
and under load; how much memory a thousand streams take; what a flood of
unlicensed senders does to a licensed one; an instance that records into SQLite
and PostgreSQL and exports its queue; and a pipeline that lands events in DuckDB.
It takes about 35 minutes, and 20 GB of disk in $TMPDIR; progress is on standard
error. Nothing else should run on the machine meanwhile.

  go run ./bench
  go run ./bench -quick
  go run ./bench -run '^(encode|discard)/'
  go run ./bench -run '^(streams|batch)-'
  go run ./bench -run '^(latency|memory|flood)$'
  go run ./bench -run '^(record|drain)-sqlite/'
  go run ./bench -run '^land'
  go run ./bench -run discard/gateway -profile /tmp && go tool pprof -top /tmp/discard-gateway.pprof
  go run ./bench -json docs/speed.json -svg docs/speed.svg
  go run ./bench -from docs/speed.json

It exits with 1 if anything was lost or failed. How long things took never makes
it fail.

Flags:
`

// rounds is how often each figure is measured; in a quick run, some are only
// once. Latency depends on how fast the machine is from one second to the next, so
// that it takes latencyRounds, and shorter ones.
const rounds, latencyRounds = 3, 9

type options struct {
	quick                    bool
	run                      *regexp.Regexp
	json, svg, from, profile string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == childArg {
		if err := beChild(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if err := run(o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string, stdout io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.BoolVar(&o.quick, "quick", false, "measure each figure for a fraction of a second, with fewer events queued, to see that it works: about three minutes")
	pattern := f.String("run", "", "measure only what matches this `regexp`: encode/gateway, encode/obvious, …, auth/message-jwt, …, sqlite/floor, discard-large/gateway, …, streams-1000/floor, batch-1/gateway, …, latency, memory, flood, record-sqlite/queue-1-empty, …, drain-postgres/exporter, …")
	f.StringVar(&o.json, "json", "", "write all samples to this `file` too")
	f.StringVar(&o.svg, "svg", "", "draw the events that a core-second is good for in this `file`")
	f.StringVar(&o.from, "from", "", "measure nothing, and print what this `file` says, which -json has written")
	f.StringVar(&o.profile, "profile", "", "write a CPU profile of each server into this `directory`")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		f.SetOutput(stdout)
		fmt.Fprint(stdout, help)
		f.PrintDefaults()
		return o, err
	}
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q; -help shows the flags", f.Arg(0))
	}
	if err == nil && o.from != "" && (o.quick || *pattern != "" || o.json != "" || o.profile != "") {
		err = errors.New("-from measures nothing, and so goes with no flag but -svg")
	}
	if err != nil {
		return o, err
	}
	if o.run, err = regexp.Compile(*pattern); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if o.profile != "" {
		if o.profile, err = filepath.Abs(o.profile); err == nil {
			err = os.MkdirAll(o.profile, 0o755)
		}
	}
	return o, err
}

func run(o options, stdout, progress io.Writer) (err error) {
	r := &report{Machine: thisMachine(), Quick: o.quick}
	if o.from != "" {
		r, err = readReport(o.from)
	} else {
		err = r.fill(o, progress)
	}
	if err != nil {
		return err
	}
	if o.json != "" {
		if err := r.write(o.json); err != nil {
			return err
		}
	}
	r.print(stdout)
	if o.svg == "" {
		return nil
	}
	drawn, err := r.chart()
	if err != nil {
		return fmt.Errorf("-svg: %w", err)
	}
	return os.WriteFile(o.svg, drawn, 0o644)
}

// fill measures.
func (r *report) fill(o options, progress io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "telemetry-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a, err := newArena(dir, o.profile)
	if err != nil {
		return err
	}
	encoding, err := encodeCells()
	if err != nil {
		return err
	}
	auth, err := newAuthentication()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, auth.close()) }()
	authenticating, err := auth.cells()
	if err != nil {
		return err
	}
	i := &instances{dir: dir}
	defer func() { err = errors.Join(err, i.close()) }()
	rec := &recording{instances: i, queued: 10_000_000, progress: func(format string, a ...any) { fmt.Fprintf(progress, format+"\n", a...) }}
	defer func() { err = errors.Join(err, rec.close()) }()
	drain := &draining{arena: a, instances: i, queued: 1_000_000}
	land := &landing{arena: a, dir: dir, events: 500_000, stocks: []int{0, 1_000_000, 10_000_000}, progress: rec.progress}
	rest, fewer, more := time.Minute, rounds, latencyRounds
	if o.quick {
		rec.queued, drain.queued = 200_000, 100_000
		land.events, land.stocks = 100_000, []int{0, 200_000}
		rest, fewer, more = 2*time.Second, 1, 1
	}
	r.Queued, r.Drained, r.Landed = rec.queued, drain.queued, land.events
	for _, group := range []struct {
		trials      []trial
		times       int
		full, quick time.Duration
	}{
		{r.trials(encoding), rounds, time.Second, 100 * time.Millisecond},
		{r.trials(authenticating), rounds, time.Second, 100 * time.Millisecond},
		{r.trials(a.endToEndCells()), rounds, 3 * time.Second, 200 * time.Millisecond},
		{r.trials(a.shapeCells(o.quick)), fewer, time.Second, 100 * time.Millisecond},
		{[]trial{{"latency", into(&r.Latency, a.latency)}}, more, 2 * time.Second, 300 * time.Millisecond},
		{[]trial{{"memory", into(&r.Memory, func(d time.Duration) (memoryRound, error) { return a.memory(d, rest) })}}, fewer, 5 * time.Second, 500 * time.Millisecond},
		{[]trial{{"flood", into(&r.Flood, a.flood)}}, rounds, 5 * time.Second, 300 * time.Millisecond},
		{r.trials(rec.cells()), rounds, 3 * time.Second, 200 * time.Millisecond},
		{r.trials(drain.cells()), rounds, 0, 0},
		{r.trials(land.cells()), rounds, 20 * time.Second, 3 * time.Second},
	} {
		d := group.full
		if o.quick {
			d = group.quick
		}
		if err := measure(group.trials, o.run, group.times, d, progress); err != nil {
			return err
		}
	}
	if r.empty() {
		return errors.New("-run matches nothing")
	}
	return nil
}

// A trial is one thing that is measured in each round, and put into the report.
type trial struct {
	name    string
	measure func(time.Duration) error
}

// trials are those of cells, whose samples become rows.
func (r *report) trials(cells []cell) []trial {
	var trials []trial
	for _, c := range cells {
		trials = append(trials, trial{c.name, func(d time.Duration) error {
			s, err := c.measure(d)
			if err != nil {
				return err
			}
			if r.row(c.name) == nil {
				r.Rows = append(r.Rows, &row{Name: c.name})
			}
			found := r.row(c.name)
			found.Samples = append(found.Samples, s)
			return nil
		}})
	}
	return trials
}

// into is for what has figures of its own.
func into[T any](list *[]T, measure func(time.Duration) (T, error)) func(time.Duration) error {
	return func(d time.Duration) error {
		found, err := measure(d)
		if err != nil {
			return err
		}
		*list = append(*list, found)
		return nil
	}
}

// measure makes trials in turn, so many rounds, of d each.
func measure(trials []trial, only *regexp.Regexp, times int, d time.Duration, progress io.Writer) error {
	for i := range times {
		for _, t := range trials {
			if !only.MatchString(t.name) {
				continue
			}
			fmt.Fprintf(progress, "round %d of %d: %s\n", i+1, times, t.name)
			if err := t.measure(d); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}
