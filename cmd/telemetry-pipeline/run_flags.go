// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"regexp"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/pipeline"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

const runHelp = `[flags]

Takes events from a topic and lands each once in the table events of a warehouse.
A message is acknowledged when its event is committed there, and never before:
whatever ends this process, what was not acknowledged comes again, and what is in
the warehouse is known by its sender and ID, however often it comes.

Without flags it reads what telemetry gateway has put into ./data, or will, and
lands it in a DuckDB file beside that.

  telemetry-pipeline run
  telemetry-pipeline run -warehouse duckdb:///var/lib/telemetry/warehouse.duckdb
  telemetry-pipeline run -topic gcppubsub://projects/P/subscriptions/events \
      -deadletter gcppubsub://projects/P/subscriptions/events-dead \
      -warehouse bigquery://P/telemetry

Dead letters of the gateway land in the table events_rejected. What was published
and can yet not land, such as an ID with other content than before, is made a
dead letter too: telemetry deadletter lists and replays them. It never delays
others.

While the warehouse is away, locked or full, events wait in the topic; /readyz and
the log say why, and it goes on by itself. A DuckDB file belongs to one pipeline at
a time; a second one waits to take over. For Pub/Sub and BigQuery any number may
share a subscription. telemetry-pipeline query asks the file through this process
while it runs.

A DuckDB URL may say how much memory DuckDB takes for data and how many threads
work; the defaults are duckdb://PATH?memory_limit=128MB&threads=1. More threads
make queries faster, and landing slower.

It serves /livez, /readyz, /version, metrics and profiles on the admin address.
SIGTERM ends it once batches in hand have been committed.
`

// runConfig is what the flags of telemetry-pipeline run say.
type runConfig struct {
	topic, deadLetters  string
	subscription        string
	warehouse           string
	batch               int
	admin               string
	logFormat, logLevel string
}

func parseRun(args []string, stdout, stderr io.Writer) (*runConfig, error) {
	c := new(runConfig)
	f := command.NewFlags("telemetry-pipeline run", runHelp)
	f.StringVar(&c.topic, "topic", defaultTopic, "`URL` of the topic: sqlite://PATH or gcppubsub://projects/P/subscriptions/S")
	f.StringVar(&c.deadLetters, "deadletter", defaultDeadLetters, "`URL` of the topic of dead letters: sqlite://PATH or gcppubsub://projects/P/subscriptions/S")
	f.StringVar(&c.subscription, "subscription", "pipeline", "`NAME` of the subscription in SQLite topics, made if there is none; a new one begins with the oldest message")
	f.StringVar(&c.warehouse, "warehouse", defaultWarehouse, "`URL` of the warehouse: duckdb://PATH or bigquery://PROJECT/DATASET")
	f.IntVar(&c.batch, "batch", pipeline.DefaultBatch, "`NUMBER` of events that are inserted together at most")
	f.StringVar(&c.admin, "admin", "127.0.0.1:6082", "`ADDRESS` for metrics, profiles and health, or off")
	f.StringVar(&c.logFormat, "log-format", "text", "`text|json`")
	f.StringVar(&c.logLevel, "log-level", "info", "`debug|info|warn|error`")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return nil, err
	}
	return c, c.check()
}

var subscriptionName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,100}$`)

// maxBatch keeps what is decoded but not yet inserted small beside the messages.
const maxBatch = 100_000

// check finds what is wrong with the flags alone.
func (c *runConfig) check() error {
	if c.batch < 1 || c.batch > maxBatch {
		return command.BadConfig("-batch is out of range: it must be from 1 to %d", maxBatch)
	}
	if !subscriptionName.MatchString(c.subscription) {
		return command.BadConfig("-subscription is %q: it must be 1 to 100 letters, digits, dots, hyphens and underscores", c.subscription)
	}
	if err := warehouse.Check(c.warehouse); err != nil {
		return command.BadConfig("-warehouse: %w", err)
	}
	return nil
}
