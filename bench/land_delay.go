// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/exporter"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

const (
	// delayName is the cell of the whole road.
	delayName = "land-delay"
	// delayInterval is that of the exporter, and delayPause what the application
	// pauses between two events.
	delayInterval = time.Second
	delayPause    = 5 * time.Millisecond
)

// delayRole lands events, and knows how long ago they were recorded.
func delayRole(c childConfig) (*served, error) {
	ctx, stop := context.WithCancel(context.Background())
	var waits []time.Duration
	enough, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- runPipeline(ctx, c, func(rows []warehouse.Row, r warehouse.Result) {
			for i := range rows {
				waits = append(waits, time.Since(rows[i].RecordedAt))
			}
			if len(waits) >= c.Events {
				close(enough)
			}
		})
	}()
	return &served{
		count: func(u *usage) error {
			select {
			case <-enough:
			case err := <-ended:
				return errors.Join(err, errors.New("the pipeline ended"))
			}
			u.Exported, u.P50, u.P99 = int64(len(waits)), quantile(waits, 0.50), quantile(waits, 0.99)
			return nil
		},
		stop: func() error {
			stop()
			return <-ended
		},
	}, nil
}

// delay records events at an even pace, exports them every second to a gateway,
// and sees when the pipeline has committed them.
func (l *landing) delay(d time.Duration) (s sample, err error) {
	dir, err := os.MkdirTemp(l.dir, "delay")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	n := int(d / delayPause)
	url := "sqlite://" + filepath.Join(dir, "topic.db")
	gateway, err := l.arena.start(delayName+"/gateway", childConfig{Role: "gateway", Topic: url})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, gateway.stop()) }()
	pipeline, err := l.arena.start(delayName, childConfig{Role: "land-delay", Topic: url, Database: filepath.Join(dir, "warehouse.duckdb"), Events: n})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, pipeline.stop()) }()

	q, db, err := openQueue(filepath.Join(dir, "instance.db"))
	if err != nil {
		return s, err
	}
	defer db.Close()
	e, err := exporter.New(q, "http://"+gateway.Address, exporter.Options{
		Identity: func() exporter.Identity { return exporter.Identity{LicenseKey: l.arena.key, InstanceID: "bench-site"} },
		Interval: delayInterval,
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return s, err
	}
	exporting, stop := context.WithCancel(context.Background())
	exported := make(chan error, 1)
	go func() { exported <- e.Run(exporting) }()
	defer func() {
		stop()
		err = errors.Join(err, <-exported)
	}()

	recorder := telemetry.New(telemetry.Options{ServerVersion: "bench"}, q)
	tick := time.NewTicker(delayPause)
	defer tick.Stop()
	started := time.Now()
	for i := range n {
		<-tick.C
		if err := recorder.Record(context.Background(), "search.results", "executed", telemetry.Params{Metadata: telemetry.Metadata{"position": float64(i)}}); err != nil {
			return s, err
		}
	}
	took := time.Since(started)
	u, err := pipeline.usage() // waits for the last event
	if err != nil {
		return s, err
	}
	if u.Exported != int64(n) {
		return s, fmt.Errorf("%d rows of %d events have landed", u.Exported, n)
	}
	s = newSample(n, took, u, nil)
	s.P50, s.P99, s.PeakMB = u.P50, u.P99, float64(u.Peak)/1e6
	return s, nil
}
