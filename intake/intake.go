// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package intake has the doors through which clients, such as web apps and
// browser extensions, hand in their events: GraphQL for those of instances, who
// speak it already (see schema.graphql), and Connect for the pages of a service
// (see proto/telemetryintake). Both record the same.
//
// What holds:
//   - An event that the answer has no error for is where the recorder's stores
//     promise to keep it. Each event that is invalid is named; an error of the
//     call as a whole means that no event is known to be recorded, and says
//     nothing of why.
//   - Who acted comes from the request's context (telemetry.WithActor), never
//     from what a client sends.
//   - Web pages of other origins send nothing unless their origin is listed,
//     whatever content type they use.
//   - What a request costs is bounded by its size; nothing of it is logged.
package intake

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/telemetrygateway/telemetry/eventlog"
	"github.com/telemetrygateway/telemetry/queue"
)

// Options say what a door is for. The zero value takes events from programs and
// from pages of its own origin, and shows nothing to anyone.
type Options struct {
	// Queue and Log are what administrators can look into by GraphQL. Nil is
	// none.
	Queue *queue.Queue
	Log   *eventlog.Log
	// Admin reports whether a request is an administrator's. Nil means that
	// none is.
	Admin func(*http.Request) bool
	// AllowedOrigins are the origins whose pages may send events, with their
	// users' cookies: scheme://host or scheme://host:port, such as
	// "https://example.com" or "chrome-extension://ID". See CheckOrigin.
	AllowedOrigins []string
	// MaxBody is the largest request in bytes, decompressed, and MaxEvents the
	// most events in one. 0 means 1 MiB and 500.
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
	// invalid, and in GraphQL and gRPC when a store failed.
	Status int
	// Bytes is how many of the body were read, before decompression.
	Bytes    int
	Duration time.Duration
	// Recorded is how many events are durable, Invalid how many are not for a
	// reason, and Failed how many a store failed to take.
	Recorded, Failed int
	Invalid          map[string]int
}
