// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package exporter sends the events of an instance's queue to a telemetry
// gateway: queue → exporter → client → gateway.
//
//	e, err := exporter.New(q, "https://telemetry.example.com", exporter.Options{
//		Identity: func() exporter.Identity { return exporter.Identity{LicenseKey: key, InstanceID: siteID} },
//	})
//	...
//	err = e.Run(ctx) // until ctx ends
//
// An instance's identity is asked for at every pass. A managed service has
// Options.Service instead, and a queue whose policy redacts nothing:
//
//	q, err := queue.Open(ctx, db, queue.Options{Policy: queue.Policy{Vendor: true}})
//	e, err := exporter.New(q, url, exporter.Options{Service: client.Service("pings", "prod", tokens)})
//
// It works in passes. A pass sends what is queued, oldest first, until the
// queue is empty, and marks each event that the gateway has acknowledged. While
// one batch is being sent the next is read and the one before is marked, so at
// most two batches are in memory.
//
// What holds:
//   - An event is marked as exported only when the gateway has said that it is
//     durable there, and as dead only when the gateway, or the client, has said
//     that it can never be. Everything else stays queued.
//   - Nothing is given up: after an error there is another pass, without end.
//     The pause grows, is random, and is never shorter than the gateway asks
//     for.
//   - Events that fail hold up nothing behind them.
//   - One exporter at a time works on a queue. Any others wait, and take over
//     when it is gone.
//   - When the policy's mode is local or off there is no client, so no name is
//     looked up and no packet leaves.
//   - The content of events, licence keys and tokens are in no error and no log
//     line.
package exporter

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/queue"
)

// Defaults and bounds of Options.
const (
	DefaultInterval        = 5 * time.Minute
	MaxInterval            = time.Hour
	DefaultBatch           = 10_000
	MinBatch               = 100
	DefaultBatchBytes      = 8 << 20
	MaxLeaseFor            = 2 * time.Minute
	MinLeaseFor            = time.Second
	DefaultCleanupInterval = time.Minute
	DefaultGrace           = 15 * time.Second
)

// Identity is who an instance says it is. With a licence key it sends as a
// licensed instance, without one as an unlicensed one.
type Identity struct {
	LicenseKey string
	// InstanceID is the site ID. If it is empty, the queue's own ID is used.
	InstanceID  string
	ExternalURL string
}

// String names the instance without its licence key.
func (id Identity) String() string {
	if id.LicenseKey != "" {
		return fmt.Sprintf("licensed instance %q", id.InstanceID)
	}
	return fmt.Sprintf("unlicensed instance %q", id.InstanceID)
}

// GoString is String, for %#v.
func (id Identity) GoString() string { return id.String() }

// Options change how an Exporter works. The zero value is right for most
// unlicensed instances.
type Options struct {
	// Identity is asked at the beginning of every pass, so that a new licence
	// needs no restart. Nil means that there is no licence.
	Identity func() Identity
	// Service is who sends if that is a managed service, as client.Service makes
	// it, and not an instance. Identity is then not asked, and what the gateway
	// does not take from the service stays queued.
	Service client.Identity
	// Interval is the time between two passes, on average: DefaultInterval if 0,
	// and at most MaxInterval. Single ones are up to a tenth shorter or longer, so
	// that instances which were started together do not stay together.
	Interval time.Duration
	// Batch is the most events that are sent in one call: DefaultBatch if 0, and
	// at least MinBatch.
	Batch int
	// BatchBytes is the most bytes of events in one call, unless a single event
	// is larger: DefaultBatchBytes if 0.
	BatchBytes int
	// LeaseFor is how long after this process has died another one, or the same
	// one started again, may export: as long as Interval if 0, within MinLeaseFor
	// and MaxLeaseFor. It may be set to any time from MinLeaseFor to
	// queue.MaxLease.
	LeaseFor time.Duration
	// CleanupInterval is the time between two calls of the queue's Prune:
	// DefaultCleanupInterval if 0.
	CleanupInterval time.Duration
	// Grace is how long the batch in flight may still take when the exporter is
	// told to stop: DefaultGrace if 0.
	Grace time.Duration
	// Client is for the client that sends.
	Client client.Options
	// Logger has a line for each pass that did something, and one for each error
	// that is new. Nil means slog.Default.
	Logger *slog.Logger
	// OnPass, if set, is called after every pass, by Run and Export.
	OnPass func(Pass)
	// OnPrune, if set, is called after every cleanup with what it removed and how
	// long it took.
	OnPrune func(queue.Pruned, time.Duration, error)
	// Holder names this exporter to others that want the same queue. It must be
	// another one for each; it is made up from the host and process if empty.
	Holder string
}

// Exporter sends the events of one queue to one gateway.
type Exporter struct {
	q      *queue.Queue
	url    string
	o      Options
	log    *slog.Logger
	sender sender

	// turn is held by whoever makes a pass, and guards what follows.
	turn     sync.Mutex
	lease    *queue.Lease
	unmarked marks // acknowledged, but the database did not take it
	walk     walk
	said     said

	mu     sync.Mutex
	status Status
}

// New returns an exporter for a queue and the gateway at an http or https URL.
// It does not connect. With an empty URL it can do all but send, which suits
// modes that do not.
func New(q *queue.Queue, gatewayURL string, o Options) (*Exporter, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	if gatewayURL != "" {
		// This finds out what is wrong with the URL and the client's options; it
		// opens nothing.
		id := o.Service
		if id == (client.Identity{}) {
			id = client.Unlicensed(q.InstanceID(), "")
		}
		c, err := client.New(gatewayURL, id, o.Client)
		if err != nil {
			return nil, err
		}
		c.Close()
	}
	e := &Exporter{q: q, url: gatewayURL, o: o, log: o.Logger}
	e.walk = walk{batch: o.Batch, limit: o.Batch}
	e.sender = sender{url: gatewayURL, options: o.Client, patience: patience, service: o.Service}
	return e, nil
}

func (o *Options) setDefaults() error {
	setDefault(&o.Interval, DefaultInterval)
	setDefault(&o.Batch, DefaultBatch)
	setDefault(&o.BatchBytes, DefaultBatchBytes)
	setDefault(&o.LeaseFor, max(MinLeaseFor, min(o.Interval, MaxLeaseFor)))
	setDefault(&o.CleanupInterval, DefaultCleanupInterval)
	setDefault(&o.Grace, DefaultGrace)
	if o.Identity == nil {
		o.Identity = func() Identity { return Identity{} }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Holder == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown host"
		}
		o.Holder = fmt.Sprintf("%s, process %d, %s", host, os.Getpid(), uuid.NewString())
	}
	switch {
	case o.Interval < 0 || o.Interval > MaxInterval:
		return fmt.Errorf("export interval is %s: it must be at most %s", o.Interval, MaxInterval)
	case o.Batch < MinBatch:
		return fmt.Errorf("export batch is %d events: it must be at least %d", o.Batch, MinBatch)
	case o.BatchBytes < 0:
		return errors.New("export batch has a negative number of bytes")
	case o.LeaseFor < MinLeaseFor || o.LeaseFor > queue.MaxLease:
		return fmt.Errorf("lease is for %s: it must be for %s to %s", o.LeaseFor, MinLeaseFor, queue.MaxLease)
	case o.CleanupInterval < 0 || o.Grace < 0:
		return errors.New("cleanup interval and grace must not be negative")
	}
	return nil
}

func setDefault[T int | time.Duration](value *T, def T) {
	if *value == 0 {
		*value = def
	}
}
