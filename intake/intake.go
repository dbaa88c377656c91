// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package intake is the door through which an instance's clients, such as web
// apps and browser extensions, hand in their events. It speaks the GraphQL that
// they speak already: see schema.graphql.
//
// What holds:
//   - An event that the answer has no error for is durable in the recorder's
//     stores. An error names each event that is invalid; any other error means
//     that no event is known to be recorded, and says nothing of why.
//   - Who acted comes from the request's context (telemetry.WithActor), never
//     from what a client sends.
//   - Web pages of other origins send nothing unless their origin is listed,
//     whatever content type they use.
//   - What a request costs is bounded by its size; nothing of it is logged.
package intake

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/graph-gophers/graphql-go"
	"golang.org/x/sync/semaphore"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/eventlog"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/queue"
)

// Options say what a door is for. The zero value takes events from programs and
// from pages of its own origin, and shows nothing to anyone.
type Options struct {
	// Queue and Log are what administrators can look into. Nil is none.
	Queue *queue.Queue
	Log   *eventlog.Log
	// Admin reports whether a request is an administrator's. Nil means that
	// none is.
	Admin func(*http.Request) bool
	// AllowedOrigins are the origins whose pages may send events, with their
	// users' cookies: scheme://host or scheme://host:port, such as
	// "https://example.com" or "chrome-extension://ID". See CheckOrigin.
	AllowedOrigins []string
	// MaxBody is the largest request in bytes, and MaxEvents the most events in
	// one. 0 means 1 MiB and 500.
	MaxBody   int
	MaxEvents int
	// Logger gets one line when a store fails. Nil means slog.Default().
	Logger *slog.Logger
	// OnRequest is told what became of each POST request. It may be called by
	// several goroutines at once.
	OnRequest func(context.Context, Request)
}

// Request is what became of one request.
type Request struct {
	// Status is that of the HTTP response. It is 200 also when events are
	// invalid or a store failed.
	Status   int
	Bytes    int
	Duration time.Duration
	// Recorded is how many events are durable, Invalid how many are not for a
	// reason, and Failed how many a store failed to take.
	Recorded, Failed int
	Invalid          map[string]int
}

//go:embed schema.graphql
var schema string

// GraphQL returns a handler that records what clients send with r. It is made
// for the path /.api/graphql, which clients know, takes POST requests and
// answers browsers' preflight requests.
//
// The handler asks nobody to sign in. Put it behind what the application does
// to know its users, which puts an Actor into the request's context. It panics
// if an origin does not pass CheckOrigin.
func GraphQL(r *telemetry.Recorder, o Options) http.Handler {
	if o.MaxBody <= 0 {
		o.MaxBody = limits.IntakeBodyBytes
	}
	if o.MaxEvents <= 0 {
		o.MaxEvents = limits.IntakeEvents
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	h := &handler{
		options: o,
		origins: origins{},
		working: semaphore.NewWeighted(max(limits.IntakeWorkingBytes, int64(o.MaxBody))),
	}
	for _, origin := range o.AllowedOrigins {
		if err := CheckOrigin(origin); err != nil {
			panic(fmt.Sprintf("intake: %v", err))
		}
		h.origins[origin] = true
	}
	h.schema = graphql.MustParseSchema(schema, &root{recorder: r, options: &h.options},
		graphql.UseStringDescriptions(),
		graphql.UseFieldResolvers(),
		graphql.DisableFieldSelections(),
		graphql.MaxQueryLength(limits.IntakeQueryBytes),
		graphql.MaxDepth(limits.IntakeDepth),
		graphql.MaxSelections(limits.IntakeSelections),
		graphql.OverlapValidationLimit(limits.IntakeSelections),
		graphql.RestrictIntrospection(func(ctx context.Context) bool { return callFrom(ctx).admin() }),
		graphql.Logger(h),
		graphql.PanicHandler(h),
	)
	return h
}

// root gives GraphQL its two entrances.
type root struct {
	recorder *telemetry.Recorder
	options  *Options
}

func (r *root) Query() any    { return &query{r.options} }
func (r *root) Mutation() any { return &mutation{r.recorder, r.options} }
