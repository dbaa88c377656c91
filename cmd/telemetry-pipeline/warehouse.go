// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
	"github.com/telemetrygateway/telemetry/internal/warehouse/door"
)

const (
	defaultTopic       = "sqlite://data/topic.db"
	defaultDeadLetters = "sqlite://data/deadletter.db"
	defaultWarehouse   = "duckdb://data/warehouse.duckdb"

	// doorPatience is how long a reader waits for a process that has just
	// started: it has the warehouse's file a moment before its door is open.
	doorPatience = 3 * time.Second
	doorPause    = 50 * time.Millisecond
)

// doorOf returns where a process that has a warehouse's file open says how to
// get in.
func doorOf(file string) string { return file + ".door" }

// openReader opens a warehouse for reading: through the process that has it
// open, or by itself.
func openReader(ctx context.Context, url string, log *slog.Logger) (warehouse.Reader, error) {
	if file, ok := warehouse.Path(url); ok {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, command.BadConfig("-warehouse: there is no %s; telemetry-pipeline run makes it: give -warehouse the URL that it has", file)
		}
	}
	if err := warehouse.Check(url); err != nil {
		return nil, command.BadConfig("-warehouse: %w", err)
	}
	patient, cancel := context.WithTimeout(ctx, doorPatience)
	defer cancel()
	for {
		r, err := tryReader(ctx, url, log)
		if !errors.Is(err, warehouse.ErrLocked) {
			return r, err
		}
		select {
		case <-patient.Done():
			return nil, err
		case <-time.After(doorPause):
		}
	}
}

func tryReader(ctx context.Context, url string, log *slog.Logger) (warehouse.Reader, error) {
	if file, ok := warehouse.Path(url); ok {
		c, err := door.Dial(ctx, doorOf(file))
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("%w; run this as the user that telemetry-pipeline run has", err)
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, door.ErrStale):
			return nil, err
		}
	}
	return warehouse.OpenReader(ctx, url, warehouse.Options{Log: log})
}
