// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/command"
)

// lineBytes is the longest line of a file of events.
const lineBytes = 64 << 20

// eventFile reads events from a file, one a line.
type eventFile struct {
	name  string
	file  *os.File
	lines *bufio.Scanner
	line  int
}

// openEvents opens a file of events, "-" for standard input. A file that can be
// read twice is checked to its end first, so that a bad line is found before
// anything is sent.
func openEvents(name string) (*eventFile, error) {
	f := &eventFile{name: name, file: os.Stdin}
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, command.BadConfig("open events: %w", err)
		}
		f.file = file
	}
	f.rewind()
	if info, err := f.file.Stat(); err != nil || !info.Mode().IsRegular() {
		return f, nil
	}
	start, err := f.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return f, nil
	}
	for err == nil {
		_, err = f.next()
	}
	if errors.Is(err, io.EOF) {
		_, err = f.file.Seek(start, io.SeekStart)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	f.rewind()
	return f, nil
}

func (f *eventFile) rewind() {
	f.line = 0
	f.lines = bufio.NewScanner(f.file)
	f.lines.Buffer(make([]byte, 64<<10), lineBytes)
}

func (f *eventFile) close() { f.file.Close() }

// next returns the next event, or io.EOF. A line that is no event is an error
// that names it; blank lines are skipped.
func (f *eventFile) next() (event, error) {
	for f.lines.Scan() {
		f.line++
		text := bytes.TrimSpace(f.lines.Bytes())
		if len(text) == 0 {
			continue
		}
		var e telemetrygatewayv1.Event
		if err := protojson.Unmarshal(text, &e); err != nil {
			return event{}, command.BadConfig("%s, line %d is not an event: %s", f.name, f.line, columnOf(err))
		}
		wire, err := proto.Marshal(&e)
		if err != nil {
			return event{}, command.BadConfig("%s, line %d: %w", f.name, f.line, err)
		}
		return event{e.GetId(), fmt.Sprintf("line %d", f.line), wire}, nil
	}
	switch err := f.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return event{}, command.BadConfig("%s, line %d is longer than %d bytes", f.name, f.line+1, lineBytes)
	case err != nil:
		return event{}, fmt.Errorf("read events: %w", err)
	}
	return event{}, io.EOF
}

// columnOf turns an error of protojson, which counts the one line it was given
// as line 1, into one that only names the column.
func columnOf(err error) string {
	if _, place, ok := strings.Cut(err.Error(), "(line 1:"); ok {
		if column, what, ok := strings.Cut(place, "): "); ok {
			return "column " + column + ": " + what
		}
	}
	return err.Error()
}

// generated makes up events like those that instances send: about 400 bytes
// each on the wire.
type generated struct {
	random *rand.Rand
	clock  time.Time
	made   int
	count  int
}

// newGenerated makes count events up. The same seed makes the same events; 0
// makes new ones, dated now.
func newGenerated(count int, seed uint64) *generated {
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if seed == 0 {
		seed, clock = rand.Uint64(), time.Now()
	}
	return &generated{random: rand.New(rand.NewPCG(seed, 0)), clock: clock, count: count}
}

func (g *generated) next() (event, error) {
	if g.made == g.count {
		return event{}, io.EOF
	}
	g.made++
	g.clock = g.clock.Add(time.Duration(g.random.IntN(2000)) * time.Microsecond)
	e := g.event()
	wire, err := proto.Marshal(e)
	if err != nil {
		return event{}, fmt.Errorf("make up an event: %w", err)
	}
	return event{e.GetId(), fmt.Sprintf("event %d", g.made), wire}, nil
}

func (g *generated) event() *telemetrygatewayv1.Event {
	e := &telemetrygatewayv1.Event{
		Id:        g.uuid(),
		Timestamp: timestamppb.New(g.clock),
		Feature:   g.pick("search.results", "codeIntel.hover", "batchChanges.page", "completion.suggestion", "repository.blob", "notebooks.editor"),
		Action:    g.pick("viewed", "clicked", "executed", "submitted", "accepted", "dismissed"),
		Source: &telemetrygatewayv1.EventSource{
			Server: &telemetrygatewayv1.EventSource_Server{Version: g.pick("6.4.1203", "6.5.0", "6.5.1")},
		},
		Parameters: &telemetrygatewayv1.EventParameters{
			Version: int32(g.random.IntN(3)),
			Metadata: map[string]float64{
				"durationMs":    float64(g.random.IntN(20_000)),
				"resultCount":   float64(g.random.IntN(500)),
				"position":      float64(g.random.IntN(50)),
				"queryLength":   float64(g.random.IntN(200)),
				"acceptedRatio": g.random.Float64(),
			},
		},
		User: &telemetrygatewayv1.EventUser{
			UserId:          proto.Int64(1 + g.random.Int64N(5000)),
			AnonymousUserId: proto.String(g.uuid()),
		},
		FeatureFlags: &telemetrygatewayv1.EventFeatureFlags{Flags: map[string]string{
			"search-ranking-v2": g.pick("true", "false"),
			"new-navigation":    g.pick("true", "false"),
			"context-panel":     g.pick("true", "false"),
		}},
		Interaction: &telemetrygatewayv1.EventInteraction{
			TraceId: proto.String(fmt.Sprintf("%016x%016x", g.random.Uint64(), g.random.Uint64())),
		},
	}
	// Half of the events are recorded in a client, a third by someone who is
	// not signed in, and a few are billed.
	if g.random.IntN(2) == 0 {
		e.Source.Client = &telemetrygatewayv1.EventSource_Client{Name: g.pick("web", "vscode", "jetbrains"), Version: proto.String("1.82.4")}
		e.Interaction.InteractionId = proto.String(g.uuid())
	}
	if g.random.IntN(3) == 0 {
		e.User = &telemetrygatewayv1.EventUser{AnonymousUserId: proto.String(g.uuid())}
	}
	if g.random.IntN(10) == 0 {
		e.Parameters.BillingMetadata = &telemetrygatewayv1.EventBillingMetadata{Product: "search", Category: "core"}
	}
	return e
}

func (g *generated) pick(words ...string) string { return words[g.random.IntN(len(words))] }

// uuid returns a UUIDv7 of the made-up time.
func (g *generated) uuid() string {
	ms := uint64(g.clock.UnixMilli())
	a, b := g.random.Uint64(), g.random.Uint64()
	return fmt.Sprintf("%08x-%04x-7%03x-%04x-%012x", ms>>16, ms&0xffff, a&0xfff, 0x8000|b>>50&0x3fff, b&(1<<48-1))
}
