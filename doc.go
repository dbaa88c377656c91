// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package telemetry records what happens in an application, so that whoever
// makes the application learns how it is used, and nothing about its users that
// is not theirs to learn.
//
// # From zero to the first event
//
// Events are kept in a queue, which is a table in a database that the
// application has anyway, SQLite or PostgreSQL. The application opens it, with a
// driver of its choice; modernc.org/sqlite is one in pure Go:
//
//	db, err := sql.Open("sqlite", "file:telemetry.db?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
//
// For PostgreSQL it can be github.com/jackc/pgx/v5/stdlib:
//
//	db, err := sql.Open("pgx", "postgres://app@db.internal/app")
//
// A recorder writes to the queue. What is missing for an event to survive a power
// cut, such as one of the pragmas above, is an error of Open that says so:
//
//	q, err := queue.Open(ctx, db, queue.Options{})
//	...
//	recorder := telemetry.New(telemetry.Options{ServerVersion: version}, q)
//
// From then on one line records an event:
//
//	err := recorder.Record(ctx, "search", "executed", telemetry.Params{})
//
// When Record returns nil, the event is on disk. It never waits for a gateway:
// an exporter sends what is in the queue to a telemetry gateway, in the same
// process or in another, now or after a week without connection.
//
//	e, err := exporter.New(q, "https://telemetry.example.com", exporter.Options{
//		Identity: func() exporter.Identity {
//			return exporter.Identity{LicenseKey: key, InstanceID: q.InstanceID()}
//		},
//	})
//	...
//	go e.Run(ctx)
//
// The first example below runs all of it, a gateway included. The second is a
// whole application, which stops as gracefully as it runs.
//
// # Features and actions
//
// An event says that an action happened to a feature, such as "executed" to
// "search". Both are 2 to 64 bytes: a small letter first, then letters, dots
// and dashes.
//
// Features, actions and the keys of metadata must be constants. This does not
// compile, so what a user typed never becomes a name:
//
//	recorder.Record(ctx, "search", request.FormValue("action"), telemetry.Params{})
//
// A function of your own that records on behalf of others takes an Entry:
//
//	func (s *Server) note(ctx context.Context, e telemetry.Entry) { … s.recorder.RecordAll(ctx, e) … }
//
//	s.note(ctx, telemetry.Entry{Feature: "search", Action: "executed"})
//
// # What else is known about an event
//
// Metadata are numbers, and nothing else, so that there is nothing private in
// what leaves the application:
//
//	telemetry.Params{Metadata: telemetry.Metadata{
//		"results": telemetry.Number(len(results)),
//		"fuzzy":   telemetry.Bool(fuzzy),
//	}}
//
// All that is not a number is private metadata. It stays in the application's
// own event log, and leaves it only where an administrator has allowed that
// very key of that very event:
//
//	telemetry.Params{PrivateMetadata: telemetry.PrivateMetadata{"query": query}}
//
// What is charged for has billing metadata. When the meaning of an event's
// parameters changes, count up Params.Version.
//
// # Who, where and in what context
//
// Middleware says once who acts, with what, and as part of what. All that is
// recorded with the context has it:
//
//	ctx = telemetry.WithActor(ctx, telemetry.Actor{UserID: user.ID})
//	ctx = telemetry.WithClient(ctx, telemetry.Client{Name: "web", Version: "1.2"})
//	ctx = telemetry.WithInteraction(ctx, telemetry.Interaction{ID: interaction})
//
// Feature flags and the trace come from hooks in Options, because they are
// evaluated for each request. For OpenTelemetry's traces:
//
//	TraceID: func(ctx context.Context) string {
//		return trace.SpanContextFromContext(ctx).TraceID().String()
//	},
//
// # In a transaction
//
// An event about a change should be there if the change is, and only then. With
// a queue in the application's own database:
//
//	tx, err := db.BeginTx(ctx, nil)
//	...
//	err = recorder.To(q.Tx(tx)).Record(ctx, "users", "created", telemetry.Params{})
//	...
//	err = tx.Commit()
//
// With SQLite the DSN above makes transactions wait for each other from their
// beginning, for 10 s at most. Without _txlock and busy_timeout, those that meet
// fail with SQLITE_BUSY.
//
// # When recording fails
//
// Record fails when the database does, and when an event breaks a rule: a name
// that is none, a number that is not finite, a text that is not UTF-8, more
// than 1 MiB. The error then is InvalidEvents and says what is wrong, without
// quoting the event:
//
//	var invalid telemetry.InvalidEvents
//	if errors.As(err, &invalid) {
//		log.Println(invalid[0].Field, invalid[0].Message)
//	}
//
// Of several events given to RecordAll, those that break no rule are recorded.
//
// Where telemetry must not fail what it is about, use TryRecord: what goes wrong
// is told to Options.OnError, or logged. A nil recorder, a nil context or a map that
// contains itself make an error and no panic.
//
// # From browsers and other clients
//
// Web pages and extensions hand in their events at a door in the application's
// own mux. Who acts is for the application's middleware to say, and never for
// what is sent:
//
//	door := intake.GraphQL(recorder, intake.Options{Queue: q, Log: events, Admin: isAdmin})
//	mux.Handle("/.api/graphql", signedIn(door))
//
// # What leaves is not yours to decide
//
// It is the administrator's. A queue has a policy, which is the place for what
// they say, and which may change at any time:
//
//	licensed, why := queue.LicenseMode(key, queue.LicenseOptions{})
//	q.SetPolicy(queue.Policy{Mode: queue.Strictest(licensed, configured), Allow: allowed})
//
// Where the environment variable DO_NOT_TRACK is set, configured should be
// queue.Off; these packages do not look at it.
//
// # Testing
//
// Package telemetrytest shows a test what was recorded:
//
//	recorder, events := telemetrytest.New(t)
//	search(recorder, "needle")
//	events.Want("search/executed")
//
// # An event log beside the queue
//
// A queue holds what may leave, and lets go of it once it has left. The full
// events, with their private metadata, can be kept for the application's own
// administrators. Put the queue last: then nothing leaves that is not in the log.
//
//	events, err := eventlog.Open(ctx, logDB, eventlog.Options{})
//	...
//	recorder := telemetry.New(options, events, q)
//
// With SQLite give the log a file of its own. What is private then never gets
// into the queue's.
package telemetry
