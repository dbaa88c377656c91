// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the gateway side by side with the obvious way to build
// one, and with the floor below which nothing can get, in one run. What it
// prints are ratios: figures of different runs or machines cannot be compared.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

const help = `usage: go run ./bench [-quick] [-run REGEXP] [-json FILE] [-profile DIR]

Measures encoding; what it costs to prove managed services; the gateway end to
end into nothing, into a Pub/Sub-protocol fake and into SQLite; what a flood of
unlicensed senders does to a licensed one; an instance that records into SQLite
and PostgreSQL and exports its queue; and a pipeline that lands events in DuckDB.
It takes about 25 minutes, and 20 GB of disk in $TMPDIR; progress is on standard
error. Nothing else should run on the machine meanwhile.

  go run ./bench
  go run ./bench -quick
  go run ./bench -run '^(encode|discard)/'
  go run ./bench -run '^(record|drain)-sqlite/'
  go run ./bench -run '^land'
  go run ./bench -run discard/gateway -profile /tmp && go tool pprof -top /tmp/discard-gateway.pprof

It exits with 1 if anything was lost or failed. How long things took never makes
it fail.

Flags:
`

// rounds is how often each figure is measured.
const rounds = 3

type options struct {
	quick         bool
	run           *regexp.Regexp
	json, profile string
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
	f.BoolVar(&o.quick, "quick", false, "measure each figure for a fraction of a second, with fewer events queued, to see that it works: about a minute")
	pattern := f.String("run", "", "measure only what matches this `regexp`: encode/gateway, encode/obvious, …, auth/message-jwt, …, sqlite/floor, record-sqlite/queue-1-empty, …, drain-postgres/exporter, …, flood")
	f.StringVar(&o.json, "json", "", "write all samples to this `file` too")
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
	if o.quick {
		rec.queued, drain.queued = 200_000, 100_000
		land.events, land.stocks = 100_000, []int{0, 200_000}
	}
	r := &report{Machine: thisMachine()}
	r.Queued, r.Drained, r.Landed = rec.queued, drain.queued, land.events
	for _, group := range []struct {
		cells       []cell
		full, quick time.Duration
	}{
		{encoding, time.Second, 100 * time.Millisecond},
		{authenticating, time.Second, 100 * time.Millisecond},
		{a.endToEndCells(), 3 * time.Second, 200 * time.Millisecond},
		{rec.cells(), 3 * time.Second, 200 * time.Millisecond},
		{drain.cells(), 0, 0},
		{land.cells(), 20 * time.Second, 3 * time.Second},
	} {
		d := group.full
		if o.quick {
			d = group.quick
		}
		if err := r.measure(group.cells, o.run, d, progress); err != nil {
			return err
		}
	}
	d := 5 * time.Second
	if o.quick {
		d = 300 * time.Millisecond
	}
	for i := 0; i < rounds && o.run.MatchString("flood"); i++ {
		fmt.Fprintf(progress, "round %d of %d: flood\n", i+1, rounds)
		f, err := a.flood(d)
		if err != nil {
			return fmt.Errorf("flood: %w", err)
		}
		r.Flood = append(r.Flood, f)
	}
	if len(r.Rows) == 0 && len(r.Flood) == 0 {
		return errors.New("-run matches nothing")
	}
	if o.json != "" {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	r.print(stdout)
	return nil
}

// measure measures cells in turn, round after round, for d each.
func (r *report) measure(cells []cell, only *regexp.Regexp, d time.Duration, progress io.Writer) error {
	for i := range rounds {
		for _, c := range cells {
			if !only.MatchString(c.name) {
				continue
			}
			fmt.Fprintf(progress, "round %d of %d: %s\n", i+1, rounds, c.name)
			s, err := c.measure(d)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			found := r.row(c.name)
			if found == nil {
				found = &row{Name: c.name}
				r.Rows = append(r.Rows, found)
			}
			found.Samples = append(found.Samples, s)
		}
	}
	return nil
}
