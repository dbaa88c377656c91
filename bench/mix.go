// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// A mix makes events up. The same seed makes the same events.
type mix struct {
	random *rand.Rand
	clock  time.Time
	event  func(*mix) *pb.Event
}

// newMix returns the test mix.
func newMix(seed uint64) *mix { return newMixOf(seed, (*mix).usual) }

// newMixOf returns a mix of events that a method of mix makes.
func newMixOf(seed uint64, event func(*mix) *pb.Event) *mix {
	return &mix{rand.New(rand.NewPCG(seed, 0)), time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), event}
}

// A kind is one kind of events.
type kind struct {
	suffix string // of the names of its cells; empty for the test mix
	event  func(*mix) *pb.Event
}

func kinds() []kind {
	return []kind{
		{"", (*mix).usual},
		{"-small", (*mix).small},
		{"-large", (*mix).large},
		{"-private", (*mix).private},
	}
}

// usual makes an event of about 400 bytes on the wire, as instances really send
// them.
func (m *mix) usual() *pb.Event {
	m.clock = m.clock.Add(time.Duration(m.random.IntN(2_000_000)))
	e := &pb.Event{
		Id:        m.uuid(),
		Timestamp: timestamppb.New(m.clock),
		Feature:   m.one("search.results", "codeIntel.hover", "batchChanges.page", "completion.suggestion", "notebooks.editor"),
		Action:    m.one("viewed", "clicked", "executed", "submitted", "accepted", "dismissed"),
		Source: &pb.EventSource{
			Server: &pb.EventSource_Server{Version: m.one("6.4.1203", "6.5.0", "6.5.1")},
		},
		Parameters: &pb.EventParameters{
			Version: int32(m.random.IntN(3)),
			Metadata: map[string]float64{
				"durationMs":    float64(m.random.IntN(20_000)),
				"resultCount":   float64(m.random.IntN(500)),
				"position":      float64(m.random.IntN(50)),
				"queryLength":   float64(m.random.IntN(200)),
				"acceptedRatio": m.random.Float64(),
			},
		},
		User: &pb.EventUser{AnonymousUserId: proto.String(m.uuid())},
		FeatureFlags: &pb.EventFeatureFlags{Flags: map[string]string{
			"search-ranking-v2": m.one("true", "false"),
			"new-navigation":    m.one("true", "false"),
			"context-panel":     m.one("true", "false"),
		}},
		Interaction: &pb.EventInteraction{
			TraceId: proto.String(fmt.Sprintf("%016x%016x", m.random.Uint64(), m.random.Uint64())),
		},
	}
	if m.random.IntN(3) > 0 { // signed in
		e.User.UserId = proto.Int64(1 + m.random.Int64N(5000))
	}
	if m.random.IntN(2) == 0 { // recorded in a client
		e.Source.Client = &pb.EventSource_Client{Name: m.one("web", "vscode", "jetbrains"), Version: proto.String("1.82.4")}
		e.Interaction.InteractionId = proto.String(m.uuid())
	}
	if m.random.IntN(10) == 0 {
		e.Parameters.BillingMetadata = &pb.EventBillingMetadata{Product: "search", Category: "core"}
	}
	return e
}

// small makes an event of little more than every event must have.
func (m *mix) small() *pb.Event {
	e := m.usual()
	return &pb.Event{Id: e.Id, Timestamp: e.Timestamp, Feature: e.Feature, Action: e.Action, Source: &pb.EventSource{Server: e.Source.Server}}
}

// large makes an event with many numbers and flags, and long texts.
func (m *mix) large() *pb.Event {
	e := m.usual()
	for i := range 80 {
		e.Parameters.Metadata[fmt.Sprintf("stage%02d.durationMs", i)] = m.random.Float64() * 1000
		e.FeatureFlags.Flags[fmt.Sprintf("experiment-%02d", i)] = m.one("true", "false")
	}
	url := "https://code.example.com/search?q=" + strings.Repeat("repo%3Aexample+", 20) + m.uuid()
	e.MarketingTracking = &pb.EventMarketingTracking{
		Url: &url, FirstSourceUrl: &url, LastSourceUrl: &url, SessionFirstUrl: &url, Referrer: &url, DeviceSessionId: proto.String(m.uuid()),
	}
	return e
}

// private makes an event most of which is private metadata: texts of people and
// of programs, nested.
func (m *mix) private() *pb.Event {
	e := m.usual()
	var hits []any
	for i := range 8 {
		hits = append(hits, map[string]any{
			"path": fmt.Sprintf("src/%s/handler_%02d.go", m.uuid()[:8], i), "line": m.random.IntN(2000), "score": m.random.Float64(), "open": i%2 == 0,
			"text": "\tif err != nil {\n\t\treturn fmt.Errorf(\"load %q: %w\", name, err)\n\t}",
		})
	}
	fields, err := structpb.NewStruct(map[string]any{
		"query":  "lang:go “Fehler beim Öffnen” 読み込みエラー patterntype:literal",
		"answer": strings.Repeat("The handler returns an error that is not wrapped; see the lines below. ", 8),
		"hits":   hits, "user": map[string]any{"name": "Zoë Müller", "team": nil, "roles": []any{"admin", "owner"}},
	})
	if err != nil {
		panic(err) // of what stands above
	}
	e.Parameters.PrivateMetadata = fields
	return e
}

// events returns n events in wire format. Map entries are in order, so that
// the bytes too are the same each time.
func (m *mix) events(n int) ([][]byte, error) {
	events := make([][]byte, n)
	for i := range events {
		var err error
		if events[i], err = (proto.MarshalOptions{Deterministic: true}).Marshal(m.event(m)); err != nil {
			return nil, fmt.Errorf("make up an event: %w", err)
		}
	}
	return events, nil
}

func (m *mix) one(of ...string) string { return of[m.random.IntN(len(of))] }

// uuid returns a UUIDv7 of the made-up time.
func (m *mix) uuid() string {
	ms := uint64(m.clock.UnixMilli())
	a, b := m.random.Uint64(), m.random.Uint64()
	return fmt.Sprintf("%08x-%04x-7%03x-%04x-%012x", ms>>16, ms&0xffff, a&0xfff, 0x8000|b>>50&0x3fff, b&(1<<48-1))
}

// A message is a RecordEventsRequest in wire format.
type message struct {
	wire   []byte
	events int
}

// messages makes a message of so many events for each of sizes.
func (m *mix) messages(sizes ...int) ([]message, error) {
	var made []message
	for _, n := range sizes {
		events, err := m.events(n)
		if err != nil {
			return nil, err
		}
		var body []byte
		for _, e := range events {
			body = protowire.AppendBytes(protowire.AppendTag(body, 1, protowire.BytesType), e)
		}
		wire := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), body)
		made = append(made, message{wire, n})
	}
	return made, nil
}

// licensedMetadata is how a licensed instance introduces itself.
func licensedMetadata(key string) *pb.RecordEventsRequestMetadata {
	return &pb.RecordEventsRequestMetadata{RequestId: "bench", Identifier: &pb.Identifier{Identifier: &pb.Identifier_LicensedInstance{
		LicensedInstance: &pb.Identifier_LicensedInstanceIdentifier{
			LicenseKey: key, InstanceId: "bench-site", ExternalUrl: "https://bench.example.com",
		},
	}}}
}

// unlicensedMetadata is how an unlicensed instance introduces itself.
func unlicensedMetadata(id string) *pb.RecordEventsRequestMetadata {
	return &pb.RecordEventsRequestMetadata{RequestId: "bench", Identifier: &pb.Identifier{Identifier: &pb.Identifier_UnlicensedInstance{
		UnlicensedInstance: &pb.Identifier_UnlicensedInstanceIdentifier{InstanceId: id},
	}}}
}

// licensedSender is what the payload shows of a licensed instance.
func licensedSender() payload.Sender {
	return payload.Sender{
		Source: "licensed_instance", ID: "bench-site", Identity: "license/0198a8b0-7c52-7ad1-9d5c-0242ac120002", Trust: "licensed",
		License: &payload.License{
			ID: "0198a8b0-7c52-7ad1-9d5c-0242ac120002", KeyID: "bench", Version: 4, Tags: []string{"plan:bench"}, Users: 1000,
			CreatedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), ExpiresAt: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
			Status: "valid", Fingerprint: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		},
	}
}
