// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/pipeline"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
	"github.com/telemetrygateway/telemetry/internal/warehouse/door"
)

// runRun wires the pipeline:
//
//	topic ─► subscription ─► pipeline ─► warehouse ◄─ door ◄─ telemetry-pipeline query
//	                          │    ▲
//	    topic of dead letters ◄    ► subscription of dead letters
//
//	operators ─► admin listener ─► metrics, profiles, health
//
// What can be wrong is found out before anything is written. It stops in this
// order: not ready → nothing more is received → batches in hand are committed
// and acknowledged → the door closes → the warehouse closes → topics close.
func runRun(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parseRun(args, stdout, stderr)
	if err != nil {
		return err
	}
	log, err := observe.NewLogger(stderr, c.logFormat, c.logLevel)
	if err != nil {
		return command.BadConfig("%w", err)
	}
	events, err := findSource(ctx, "-topic", c.topic, c.subscription)
	if err != nil {
		return err
	}
	deadLetters, err := findSource(ctx, "-deadletter", c.deadLetters, c.subscription)
	if err != nil {
		return err
	}
	if events.place == deadLetters.place {
		return command.BadConfig("-topic and -deadletter are of one topic, %s: dead letters have one of their own", command.MaskURLs(c.topic))
	}
	var adminListener net.Listener
	if c.admin != "" && c.admin != "off" {
		if adminListener, err = command.Listen("-admin", c.admin); err != nil {
			return err
		}
		defer adminListener.Close()
	}

	batch := pipeline.Batches(c.batch, c.warehouse)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(pipeline.MemoryLimit(batch))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(pipeline.GCPercent)
	}
	built := command.ReadBuild(version)
	metrics := observe.NewPipelineMetrics(built.Version, built.Commit)
	if err := events.open(ctx, batch, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.subscription.Close()) }()
	// Dead letters are few; a large batch of them would only take memory.
	if err := deadLetters.open(ctx, topic.BatchOptions{}, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, deadLetters.subscription.Close()) }()
	deadLetterTopic, err := topic.Open(ctx, deadLetters.topic, log)
	if err != nil {
		return command.BadConfig("-deadletter: %w", err)
	}
	defer func() { err = errors.Join(err, deadLetterTopic.Close()) }()
	events.observe(metrics, "events")
	deadLetters.observe(metrics, "deadletter")

	p := pipeline.New(pipeline.Options{
		Events: events.subscription, DeadLetters: deadLetters.subscription, DeadLetterTopic: deadLetterTopic,
		Open: func(ctx context.Context) (warehouse.Warehouse, error) {
			return openWarehouse(ctx, c.warehouse, metrics, log)
		},
		Metrics: metrics, Log: log,
	})
	health := observe.NewHealth(observe.HealthOptions{Ready: p.Ready, Version: built.Version, Build: built})
	log.Info("pipeline started", "version", built.Version, "topic", command.MaskURLs(c.topic), "deadletter", command.MaskURLs(c.deadLetters),
		"warehouse", command.MaskURLs(c.warehouse), "batch", c.batch)
	if events.name == "" && deadLetters.name != "" {
		log.Warn("dead letters of gateways on other machines do not come here; set -deadletter to a subscription of theirs", "deadletter", command.MaskURLs(c.deadLetters))
	}
	if adminListener != nil {
		admin := &http.Server{Handler: observe.Admin(metrics.Handler(), health), ReadHeaderTimeout: limits.StallTimeout}
		defer admin.Close()
		go func() {
			if err := admin.Serve(adminListener); !errors.Is(err, http.ErrServerClosed) {
				log.Error("the admin listener ended", "error", err)
			}
		}()
		log.Info("admin started", "listen", adminListener.Addr().String())
	}
	defer context.AfterFunc(ctx, func() {
		log.Info("pipeline stopping")
		health.Stop()
	})()
	err = p.Run(ctx)
	log.Info("pipeline stopped")
	return err
}

// openWarehouse opens the warehouse and, if it is a file, a door to it for as
// long as it is open.
func openWarehouse(ctx context.Context, url string, metrics *observe.PipelineMetrics, log *slog.Logger) (warehouse.Warehouse, error) {
	w, err := warehouse.Open(ctx, url, warehouse.Options{Log: log, Same: pipeline.Same})
	if err != nil {
		return nil, err
	}
	log.Info("warehouse opened", "warehouse", command.MaskURLs(url))
	file, ok := warehouse.Path(url)
	if !ok {
		return w, nil
	}
	open, shut := context.WithCancel(context.WithoutCancel(ctx))
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		// Events land whether or not somebody can ask about them.
		if err := door.Serve(open, doorOf(file), w, door.Options{Log: log, Answered: func(err error) {
			result := "ok"
			if err != nil {
				result = "failed"
			}
			metrics.Queries.Add(1, result)
		}}); err != nil {
			log.Error("nobody can query the warehouse while the pipeline runs", "error", err)
		}
	}()
	return withDoor{w, func() { shut(); <-closed }}, nil
}

// withDoor is a warehouse whose door is closed before it is.
type withDoor struct {
	warehouse.Warehouse
	shut func()
}

func (w withDoor) Close() error {
	w.shut()
	return w.Warehouse.Close()
}

// A source is a subscription and the topic that it is of.
type source struct {
	flag         string
	place        string // the same for all URLs of one topic
	topic        string // its URL, to publish
	from         string // the subscription's URL
	name         string // of a SQLite topic's subscription; empty with others
	subscription topic.Subscription
}

// findSource looks at what a flag names and changes nothing.
func findSource(ctx context.Context, flag, url, name string) (*source, error) {
	s := &source{flag: flag, place: url, from: url}
	file, _, _ := strings.Cut(url, "?")
	if path, ok := strings.CutPrefix(file, "sqlite://"); ok {
		// What the gateway's URL says about retention is the gateway's to do, so
		// that both can have the same URL.
		if err := topic.Check(ctx, url); err != nil {
			return nil, command.BadConfig("%s: %w", flag, err)
		}
		s.name, s.from = name, file+"?subscription="+name
		if path, err := neturl.PathUnescape(path); err == nil {
			s.place, _ = filepath.Abs(path)
		}
	}
	var err error
	if s.topic, err = topic.TopicOf(ctx, s.from); err != nil {
		return nil, command.BadConfig("%s: %w", flag, err)
	}
	return s, nil
}

// open opens the subscription. If there is no file of the topic yet, because no
// gateway has run, it makes one as a gateway would.
func (s *source) open(ctx context.Context, b topic.BatchOptions, log *slog.Logger) (err error) {
	s.subscription, err = topic.Subscribe(ctx, s.from, b, log)
	if errors.Is(err, fs.ErrNotExist) {
		var t topic.Topic
		if t, err = topic.Open(ctx, s.topic, log); err == nil {
			if err = t.Close(); err == nil {
				s.subscription, err = topic.Subscribe(ctx, s.from, b, log)
			}
		}
	}
	if err != nil {
		return command.BadConfig("%s: %w", s.flag, err)
	}
	return nil
}

// observe has metrics show how much is left to read, if the topic knows.
func (s *source) observe(m *observe.PipelineMetrics, name string) {
	if s.name == "" {
		return
	}
	m.Backlog(name, func(ctx context.Context) (observe.Backlog, error) {
		all, err := topic.Subscriptions(ctx, s.topic)
		for _, i := range all {
			if i.Name == s.name {
				return observe.Backlog{Messages: i.Unread, Bytes: i.Bytes, Oldest: i.Oldest}, nil
			}
		}
		return observe.Backlog{}, errors.Join(err, fmt.Errorf("there is no subscription %s", s.name))
	})
}
