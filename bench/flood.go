// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// The licensed sender: a message each interval, over several streams.
	pacedInterval = 10 * time.Millisecond
	pacedStreams  = 4
	// The flood: streams from as many addresses as there are connections.
	floodConnections = 64
	floodStreams     = 4 // on each connection
	floodWindow      = 4
	// It has less of the processors than the others have.
	floodProcs = 1
	floodNice  = 10
)

// pacedSizes is how many events the messages of the licensed sender have, in
// turn.
func pacedSizes() []int {
	return []int{1, 10, 1, 10, 1, 100, 1, 10, 1, 10, 1, 100, 1, 10, 1, 500, 1, 10, 1, 100}
}

// floodRound is what one round of the flood found.
type floodRound struct {
	Calm, Begins, GoesOn floodPhase
}

// floodPhase is what the licensed sender saw in one phase, what the flood did
// meanwhile, and what both took.
type floodPhase struct {
	Seconds, P50, P99                 float64 // P50 and P99 in milliseconds
	Offered, Admitted, RefusedStreams float64 // per second
	GatewayCPU, FloodCPU              float64 // processors
}

// flood measures how long a licensed sender waits for its acknowledgements:
// alone, when unlicensed senders begin to flood the gateway and use up what it
// allows them at once, and after that.
func (a *arena) flood(d time.Duration) (r floodRound, err error) {
	gateway, err := a.start("flood/gateway", childConfig{Role: "gateway", Topic: "discard:"})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, gateway.stop()) }()
	load, err := newLoader(gateway.Address, pacedStreams, licensedMetadata(a.key))
	if err != nil {
		return r, err
	}
	defer load.close()
	messages, err := newMix(2).messages(pacedSizes()...)
	if err != nil {
		return r, err
	}
	phase := func(p *floodPhase, d time.Duration, flood *child) error {
		usages := func() (g, f usage, err error) {
			if g, err = gateway.usage(); err == nil && flood != nil {
				f, err = flood.usage()
			}
			return g, f, err
		}
		g0, f0, err := usages()
		if err != nil {
			return err
		}
		started := time.Now()
		if err := load.open(); err != nil {
			return err
		}
		pace, err := newPacer(messages, pacedStreams, pacedInterval, started, d)
		if err != nil {
			return err
		}
		defer pace.close()
		acks, err := load.run(pacedWindow, pace.next)
		if err != nil {
			return err
		}
		if err := load.hangUp(); err != nil {
			return err
		}
		took := time.Since(started).Seconds()
		g1, f1, err := usages()
		if err != nil {
			return err
		}
		g, f := g1.minus(g0), f1.minus(f0)
		waits := latencies(acks)
		*p = floodPhase{
			Seconds: took, P50: quantile(waits, 0.50), P99: quantile(waits, 0.99),
			Offered: float64(f.Offered) / took, Admitted: float64(f.Admitted) / took, RefusedStreams: float64(f.RefusedStreams) / took,
			GatewayCPU: g.CPU.Seconds() / took, FloodCPU: f.CPU.Seconds() / took,
		}
		return nil
	}
	var warm floodPhase
	if err := phase(&warm, d/4, nil); err != nil {
		return r, err
	}
	if err := phase(&r.Calm, d, nil); err != nil {
		return r, err
	}
	flood, err := a.start("flood/flood", childConfig{Role: "flood", Target: gateway.Address, Procs: floodProcs, Nice: floodNice})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, flood.stop()) }()
	if err := phase(&r.Begins, d, flood); err != nil {
		return r, err
	}
	return r, phase(&r.GoesOn, d, flood)
}

// floodRole sends as many events as it can, without a licence, and opens each
// stream that is refused again at once.
func floodRole(c childConfig) (*served, error) {
	messages, err := newMix(3).messages(sendEvents, sendEvents, sendEvents, sendEvents)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var offered, admitted, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range floodConnections {
		conn, err := dial(c.Target, fmt.Sprintf("127.0.0.%d", 2+i))
		if err != nil {
			cancel()
			return nil, err
		}
		context.AfterFunc(ctx, func() { conn.Close() })
		for j := range floodStreams {
			wg.Go(func() {
				md := unlicensedMetadata(fmt.Sprintf("flood-%d-%d", i, j))
				for n := 0; ctx.Err() == nil; {
					stream, err := open(ctx, conn, md)
					if err == nil {
						err = exchange(stream, floodWindow, func() (message, time.Time, bool) {
							m := messages[n%len(messages)]
							n++
							offered.Add(int64(m.events))
							return m, time.Now(), true
						}, func(a ack) { admitted.Add(int64(a.events)) }, true)
					}
					if err != nil && ctx.Err() == nil {
						refused.Add(1)
					}
				}
			})
		}
	}
	return &served{
		count: func(u *usage) error {
			u.Offered, u.Admitted, u.RefusedStreams = offered.Load(), admitted.Load(), refused.Load()
			return nil
		},
		stop: func() error {
			cancel()
			wg.Wait()
			return nil
		},
	}, nil
}
