// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"github.com/telemetrygateway/telemetry/internal/balance"
	"github.com/telemetrygateway/telemetry/internal/command"
)

const balanceHelp = `[-since TIME] [-format table|json] [flags]

Checks that every event that a gateway accepted is accounted for. It compares the
topics with the warehouse and prints a line for each sender and each day on which
events were received, in UTC:

  accepted + replayed = landed + duplicates + rejected + in flight

Accepted are events that a gateway acknowledged, those that it made dead letters
included; replayed are dead letters that were published after all; duplicates
were sent more than once; in flight is what the pipeline has yet to acknowledge and
the warehouse does not have. It works while everything runs, but a lost event could
then be taken for one in flight: where none is, none is lost.

It exits with 1 if a line does not add up, and that line says by how many. Days of
which a topic has removed messages, as its retention says, cannot be compared, and
Pub/Sub keeps none that were acknowledged.

  telemetry-pipeline balance
  telemetry-pipeline balance -since 48h
  telemetry-pipeline balance -since 2026-01-02 -format json
`

// balanceConfig is what the flags of telemetry-pipeline balance say.
type balanceConfig struct {
	topic, deadLetters string
	subscription       string
	warehouse          string
	format             string
	since              time.Time
}

func parseBalance(args []string, stdout, stderr io.Writer) (*balanceConfig, error) {
	c := new(balanceConfig)
	f := command.NewFlags("telemetry-pipeline balance", balanceHelp)
	f.StringVar(&c.topic, "topic", defaultTopic, "`URL` of the topic, as the pipeline has it")
	f.StringVar(&c.deadLetters, "deadletter", defaultDeadLetters, "`URL` of the topic of dead letters, as the pipeline has it")
	f.StringVar(&c.subscription, "subscription", "pipeline", "`NAME` of the pipeline's subscription in SQLite topics")
	f.StringVar(&c.warehouse, "warehouse", defaultWarehouse, "`URL` of the warehouse: duckdb://PATH or bigquery://PROJECT/DATASET")
	f.StringVar(&c.format, "format", "table", "`table|json`")
	f.Func("since", "leave out days before this `TIME`: so long ago, such as 48h, or a day, such as 2026-01-02", func(s string) (err error) {
		c.since, err = parseSince(s, time.Now())
		return err
	})
	if err := f.Parse(args, stdout, stderr); err != nil {
		return nil, err
	}
	if c.format != "table" && c.format != "json" {
		return nil, command.BadConfig("-format is %q: it must be table or json", c.format)
	}
	return c, nil
}

func parseSince(s string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	day, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return day, errors.New("it must be so long ago, such as 48h, or a day, such as 2026-01-02")
	}
	return day, nil
}

func runBalance(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseBalance(args, stdout, stderr)
	if err != nil {
		return err
	}
	report, err := c.take(ctx, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if ctx.Err() != nil {
		return errors.New("interrupted")
	} else if err != nil {
		return err
	}
	write := report.WriteTable
	if c.format == "json" {
		write = report.WriteJSON
	}
	if err := write(stdout); err != nil {
		return err
	}
	if !report.Balanced() {
		return errors.New("it does not add up: see the lines that say by how many")
	}
	return nil
}

func (c *balanceConfig) take(ctx context.Context, log *slog.Logger) (_ *balance.Report, err error) {
	r, err := openReader(ctx, c.warehouse, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	report, err := balance.Take(ctx, balance.Options{
		Topic: c.topic, DeadLetters: c.deadLetters, Subscription: c.subscription,
		Query: r.Query, Since: c.since, Log: log,
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, command.BadConfig("%w; a gateway and a pipeline make it: give -topic and -deadletter the URLs that they have", err)
	}
	return report, err
}
