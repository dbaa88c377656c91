// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/eventlog"
	"github.com/telemetrygateway/telemetry/exporter"
	"github.com/telemetrygateway/telemetry/intake"
	"github.com/telemetrygateway/telemetry/queue"
)

// A whole application: it records what it does itself, takes the events of its
// web pages, exports them, and stops in the order in which events flow.
func Example_application() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	gateway, stopGateway := startGateway(dir)
	defer stopGateway()

	// In a program the context is from signal.NotifyContext.
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- serve(ctx, dir, listener, gateway) }()

	url := "http://" + listener.Addr().String()
	fmt.Println(post(url+"/search", ""))
	fmt.Println(post(url+"/.api/graphql", `{
		"query": "mutation ($events: [TelemetryEventInput!]!) { telemetry { recordEvents(events: $events) { alwaysNil } } }",
		"variables": {"events": [{"feature": "search", "action": "resultClicked", "source": {"client": "web"}, "parameters": {"version": 0}}]}}`))
	stop()
	fmt.Println(<-ended)
	// Output:
	// here is what you searched for
	// {"data":{"telemetry":{"recordEvents":{"alwaysNil":null}}}}
	// recorded: 2
	// <nil>
}

// serve runs the application until ctx ends.
func serve(ctx context.Context, dir string, listener net.Listener, gateway string) error {
	queueDB, err := openFile(filepath.Join(dir, "queue.db"))
	if err != nil {
		return err
	}
	defer queueDB.Close()
	q, err := queue.Open(ctx, queueDB, queue.Options{})
	if err != nil {
		return err
	}
	logDB, err := openFile(filepath.Join(dir, "events.db"))
	if err != nil {
		return err
	}
	defer logDB.Close()
	events, err := eventlog.Open(ctx, logDB, eventlog.Options{})
	if err != nil {
		return err
	}
	recorder := telemetry.New(telemetry.Options{ServerVersion: "1.2.3"}, events, q)
	export, err := exporter.New(q, gateway, exporter.Options{})
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.Handle("/.api/graphql", signedIn(intake.GraphQL(recorder, intake.Options{
		Queue: q, Log: events, Admin: func(r *http.Request) bool { return r.Header.Get("X-Admin") == "yes" },
		AllowedOrigins: []string{"https://www.example.com"},
	})))
	mux.Handle("/search", signedIn(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder.TryRecord(r.Context(), "search", "executed", telemetry.Params{})
		fmt.Fprint(w, "here is what you searched for")
	})))
	server := &http.Server{Handler: mux}

	// Both go on until requests have ended.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer stopBackground()
	running.Go(func() { _ = export.Run(background) }) // it logs its errors and tries again
	running.Go(func() { tidy(background, events) })

	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		bound, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		stopped <- server.Shutdown(bound)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	err = <-stopped
	stats, statsErr := q.Stats(background)
	fmt.Println("recorded:", stats.Recorded)
	return errors.Join(err, statsErr)
}

// signedIn stands for what an application has to know its users. What it puts
// into the context, all that is recorded there has.
func signedIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(r.Header.Get("X-User"), 10, 64)
		if err != nil {
			http.Error(w, "sign in first", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(telemetry.WithActor(r.Context(), telemetry.Actor{UserID: id})))
	})
}

// tidy deletes from the log what is too old. The exporter does that for the
// queue.
func tidy(ctx context.Context, events *eventlog.Log) {
	for {
		if _, err := events.Prune(ctx); err != nil && ctx.Err() == nil {
			log.Print(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Hour):
		}
	}
}

func openFile(path string) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
}

func post(url, body string) string {
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("X-User", "7")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(answer)
}
