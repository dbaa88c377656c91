// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake_test

import (
	"net/http"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/intake"
	"github.com/telemetrygateway/telemetry/queue"
)

// An application takes its clients' events on its own port, and says who they
// are.
func ExampleGraphQL() {
	var (
		exports  *queue.Queue // from queue.Open
		recorder = telemetry.New(telemetry.Options{ServerVersion: "1.2.3"}, exports)
		userOf   func(*http.Request) (id int64, isAdmin bool) // the application's own
	)
	door := intake.GraphQL(recorder, intake.Options{
		Queue: exports,
		Admin: func(r *http.Request) bool {
			_, isAdmin := userOf(r)
			return isAdmin
		},
		AllowedOrigins: []string{"https://www.example.com", "chrome-extension://dgjhfomjieaadpoljlnidmbgkdffpack"},
	})
	http.Handle("/.api/graphql", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := userOf(r)
		door.ServeHTTP(w, r.WithContext(telemetry.WithActor(r.Context(), telemetry.Actor{UserID: id})))
	}))
}

// The backend of a web app takes what its pages record. Where the events go from
// there is the recorder's affair.
func ExampleConnect() {
	var (
		events   telemetry.Store // such as a buffer, or a queue
		recorder = telemetry.New(telemetry.Options{ServerVersion: "1.2.3"}, events)
		userOf   func(*http.Request) telemetry.Actor // the application's own
	)
	path, door := intake.Connect(recorder, intake.Options{})
	http.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		door.ServeHTTP(w, r.WithContext(telemetry.WithActor(r.Context(), userOf(r))))
	}))
}
