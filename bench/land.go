// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/pipeline"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// landObviousShare is the part, as 1/n, of the events that the obvious way lands.
const landObviousShare = 50

// landing measures how fast the events of a topic land in a warehouse that has
// rows already, and how much memory the landing process takes.
type landing struct {
	arena    *arena
	dir      string
	events   int   // in the topic
	stocks   []int // rows that are there already
	progress func(format string, a ...any)
	made     map[string]string // files to copy, by name
}

func (l *landing) cells() []cell {
	l.made = map[string]string{}
	var cells []cell
	for _, stock := range l.stocks {
		for _, who := range []string{"pipeline", "obvious"} {
			if who == "obvious" && stock > 1_000_000 {
				continue // it would take too long
			}
			name := landName(stock, who)
			cells = append(cells, cell{name, func(time.Duration) (sample, error) { return l.land(name, who, stock) }})
		}
	}
	return append(cells, cell{delayName, l.delay})
}

// landName is the name of a cell.
func landName(stock int, who string) string { return fmt.Sprintf("land-%s/%s", short(stock), who) }

// short writes 1000000 as 1m.
func short(n int) string {
	switch {
	case n > 0 && n%1_000_000 == 0:
		return fmt.Sprintf("%dm", n/1_000_000)
	case n > 0 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}

func (l *landing) land(name, who string, stock int) (s sample, err error) {
	n, role := l.events, "land"
	if who == "obvious" {
		n, role = n/landObviousShare, "land-obvious"
	}
	dir, err := os.MkdirTemp(l.dir, "land")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	from, err := l.once("topic", func(path string) error { return fillTopic(path, l.events) })
	if err == nil {
		err = copyFile(filepath.Join(dir, "topic.db"), from)
	}
	if err != nil {
		return s, fmt.Errorf("fill a topic: %w", err)
	}
	if stock > 0 {
		from, err := l.once(who+short(stock), func(path string) error {
			l.progress("filling a warehouse with %s rows (%s)", thousands(stock), who)
			if who == "obvious" {
				return fillObviousWarehouse(path, stock)
			}
			return fillWarehouse(path, stock)
		})
		if err == nil {
			err = copyFile(filepath.Join(dir, "warehouse.duckdb"), from)
		}
		if err != nil {
			return s, fmt.Errorf("fill a warehouse: %w", err)
		}
	}
	child, err := l.arena.start(name, childConfig{
		Role: role, Topic: "sqlite://" + filepath.Join(dir, "topic.db"),
		Database: filepath.Join(dir, "warehouse.duckdb"), Events: n,
	})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, child.stop()) }()
	u, err := child.usage() // waits for the end
	if err != nil {
		return s, err
	}
	if u.Exported != int64(n) {
		return s, fmt.Errorf("%d of %d events have landed", u.Exported, n)
	}
	s = newSample(n, u.Took, u, nil)
	s.PeakMB = float64(u.Peak) / 1e6
	return s, nil
}

// once makes a file in the first round, and returns its path.
func (l *landing) once(name string, make func(path string) error) (string, error) {
	if path, ok := l.made[name]; ok {
		return path, nil
	}
	path := filepath.Join(l.dir, "land-"+name)
	if err := make(path); err != nil {
		return "", err
	}
	l.made[name] = path
	return path, nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// landEncoder encodes the events that land.
func landEncoder() (*payload.Encoder, error) {
	return payload.NewEncoder(licensedMetadata("bench"), licensedSender(), payload.KeyFingerprint)
}

// fillTopic makes a topic of n events that nobody has received.
func fillTopic(path string, n int) error {
	ctx := context.Background()
	t, err := topic.Open(ctx, "sqlite://"+path, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	e, err := landEncoder()
	if err != nil {
		return errors.Join(err, t.Close())
	}
	mix, receivedAt := newMix(3), time.Now()
	for done := 0; done < n && err == nil; done += 1000 {
		err = publish(ctx, t, e, mix, min(1000, n-done), receivedAt)
	}
	return errors.Join(err, t.Close()) // closed, all of it is in one file
}

func publish(ctx context.Context, t topic.Topic, e *payload.Encoder, m *mix, n int, receivedAt time.Time) error {
	ms, err := landMessages(e, m, n, receivedAt)
	if err != nil {
		return err
	}
	return errors.Join(t.Publish(ctx, ms)...)
}

func landMessages(e *payload.Encoder, m *mix, n int, receivedAt time.Time) ([]topic.Message, error) {
	events, err := m.events(n)
	if err != nil {
		return nil, err
	}
	ms := make([]topic.Message, n)
	for i, event := range events {
		data, labels, v := e.Append(nil, event, receivedAt)
		if v != nil {
			return nil, v
		}
		ms[i] = topic.Message{Key: labels.Key, Data: data, Attributes: labels.Attributes}
	}
	return ms, nil
}

// fillWarehouse lands n events that are not those of the topic.
func fillWarehouse(path string, n int) error {
	ctx := context.Background()
	w, err := warehouse.Open(ctx, "duckdb://"+path, warehouse.Options{})
	if err != nil {
		return err
	}
	e, err := landEncoder()
	if err != nil {
		return errors.Join(err, w.Close())
	}
	mix, now := newMix(4), time.Now()
	for done := 0; done < n && err == nil; done += pipeline.DefaultBatch {
		err = fillBatch(ctx, w, e, mix, min(pipeline.DefaultBatch, n-done), now)
	}
	return errors.Join(err, w.Close())
}

func fillBatch(ctx context.Context, w warehouse.Warehouse, e *payload.Encoder, m *mix, n int, now time.Time) error {
	ms, err := landMessages(e, m, n, now)
	if err != nil {
		return err
	}
	rows := make([]warehouse.Row, n)
	for i := range ms {
		if v := pipeline.Decode(&ms[i], &rows[i]); v != nil {
			return v
		}
		rows[i].LandedAt = now
	}
	result, err := w.Insert(ctx, &warehouse.Batch{Events: rows})
	if err == nil && result.Landed != n {
		err = fmt.Errorf("%d of %d rows are new", result.Landed, n)
	}
	return err
}

// landed is a warehouse that tells when so many events have landed.
type landed struct {
	warehouse.Warehouse
	tell func([]warehouse.Row, warehouse.Result)
}

func (l landed) Insert(ctx context.Context, b *warehouse.Batch) (warehouse.Result, error) {
	result, err := l.Warehouse.Insert(ctx, b)
	if err == nil {
		l.tell(b.Events, result)
	}
	return result, err
}

// landRole is the pipeline as telemetry-pipeline run wires it with its defaults,
// without what lands dead letters and answers queries.
// It ends when so many events have landed.
func landRole(c childConfig) (int64, error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	n := 0
	err := runPipeline(ctx, c, func(_ []warehouse.Row, r warehouse.Result) {
		if n += r.Landed; n >= c.Events {
			stop()
		}
	})
	return int64(n), err
}

func runPipeline(ctx context.Context, c childConfig, tell func([]warehouse.Row, warehouse.Result)) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	url := "duckdb://" + c.Database
	batch := pipeline.Batches(pipeline.DefaultBatch, url)
	debug.SetMemoryLimit(pipeline.MemoryLimit(batch))
	debug.SetGCPercent(pipeline.GCPercent)
	events, err := topic.Subscribe(ctx, c.Topic+"?subscription=pipeline", batch, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	dead, err := topic.Open(ctx, "sqlite://deadletter.db", log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dead.Close()) }()
	var mu sync.Mutex // the pipeline may insert two batches at once
	return pipeline.New(pipeline.Options{
		Events: events, DeadLetterTopic: dead,
		Open: func(ctx context.Context) (warehouse.Warehouse, error) {
			w, err := warehouse.Open(ctx, url, warehouse.Options{Log: log, Same: pipeline.Same})
			return landed{w, func(rows []warehouse.Row, r warehouse.Result) {
				mu.Lock()
				defer mu.Unlock()
				tell(rows, r)
			}}, err
		},
		Metrics: observe.NewPipelineMetrics("bench", "bench"), Log: log,
	}).Run(ctx)
}
