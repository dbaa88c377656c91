// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Server is a backend for the tests of the web client: the real intake, with a
// store that prints each event the first time it gets it, as a line of JSON. The
// first line is the address it listens at. POST /store/off and /store/on switch
// the store. The server ends with its standard input, and so with the tests.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/intake"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	printed := &store{known: map[string]bool{}}
	recorder := telemetry.New(telemetry.Options{ServerVersion: "1.2.3"}, printed)
	path, door := intake.Connect(recorder, intake.Options{Logger: slog.New(slog.DiscardHandler)})
	mux := http.NewServeMux()
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		visitor := telemetry.Actor{AnonymousUserID: "a-visitor"}
		door.ServeHTTP(w, r.WithContext(telemetry.WithActor(r.Context(), visitor)))
	})
	mux.HandleFunc("POST /store/{state}", func(_ http.ResponseWriter, r *http.Request) {
		printed.switchOff(r.PathValue("state") == "off")
	})
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = listener.Close() // which ends Serve
	}()
	if err := http.Serve(listener, mux); !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// store prints what it is given.
type store struct {
	mu    sync.Mutex
	known map[string]bool
	off   bool
}

func (s *store) switchOff(off bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = off
}

// Add takes each event once, like any store.
func (s *store) Add(_ context.Context, events ...*telemetrygatewayv1.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		return errors.New("switched off")
	}
	for _, event := range events {
		if s.known[event.GetId()] {
			continue
		}
		line, err := protojson.Marshal(event)
		if err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
		s.known[event.GetId()] = true
		fmt.Printf("%s\n", line)
	}
	return nil
}
