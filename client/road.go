// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"
)

const (
	// askAgain is how long Connect is used before gRPC is tried again.
	askAgain = time.Hour
	// askTimeout is how long a call without events may take: there are things
	// in networks that take gRPC for something to look into, and never answer.
	askTimeout = 15 * time.Second
)

// A road is what is known about the way to the gateway, for the protocol Auto.
// Of the zero road nothing is.
type road struct {
	mu           sync.Mutex
	carries      bool      // gRPC
	connectUntil time.Time // until when Connect is used without asking
}

// protocol returns the one to use, or Auto if that is not known.
func (r *road) protocol() Protocol {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.carries:
		return GRPC
	case time.Now().Before(r.connectUntil):
		return Connect
	default:
		return Auto
	}
}

// learn says which protocol has got through, or with Auto that none has.
func (r *road) learn(p Protocol) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.carries, r.connectUntil = p == GRPC, time.Time{}
	if p == Connect {
		r.connectUntil = time.Now().Add(askAgain)
	}
}

// run sends the events with the client's protocol.
func (s *call) run(ctx context.Context) error {
	switch s.client.options.Protocol {
	case GRPC:
		return s.runGRPC(ctx)
	case Connect:
		return s.runConnect(ctx)
	default:
		return s.runAuto(ctx)
	}
}

func (s *call) runGRPC(ctx context.Context) error {
	if s.client.proxied {
		return errProxied
	}
	if s.single() {
		if err := s.runEvent(ctx, s.client.grpc.event); !errors.Is(err, errUndecided) {
			return err
		}
	}
	return s.runStream(ctx)
}

func (s *call) runConnect(ctx context.Context) error {
	if s.single() {
		if err := s.runEvent(ctx, s.client.connect.event); !errors.Is(err, errUndecided) {
			return err
		}
	}
	return s.runBatches(ctx)
}

// runAuto finds out how to send before it sends any event. That the way has
// changed since is found out by a call that fails, as others may.
func (s *call) runAuto(ctx context.Context) error {
	road := &s.client.road
	protocol := road.protocol()
	var blocked error // what gRPC met just now
	if protocol == Auto {
		switch blocked = s.ask(ctx); {
		case blocked == nil:
			protocol = GRPC
			road.learn(GRPC)
		case ctx.Err() != nil || !failureOf(blocked).road:
			return blocked
		}
	}
	if protocol == GRPC {
		err := s.runGRPC(ctx)
		if err != nil && failureOf(err).road && ctx.Err() == nil {
			road.learn(Auto)
		}
		return err
	}
	err := s.runConnect(ctx)
	switch passes := err == nil || answerIn(err) != nil || s.answers > 0; {
	case ctx.Err() != nil:
	case passes && blocked != nil:
		road.learn(Connect)
	case !passes:
		road.learn(Auto)
		if blocked != nil {
			return &bothFailed{blocked, err}
		}
	}
	return err
}

// ask makes a call of gRPC that says who sends and sends no event. The gateway
// ends it without an error if gRPC gets through.
func (s *call) ask(ctx context.Context) error {
	if s.client.proxied {
		return errProxied
	}
	authorization := http.Header{}
	if err := s.authorize(ctx, authorization); err != nil {
		return err // what it takes is not the gateway's time
	}
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, errSilent)
	defer cancel()
	stream := s.client.grpc.stream.CallBidiStream(ctx)
	maps.Copy(stream.RequestHeader(), authorization)
	sendErr := s.introduce(stream)
	if err := stream.CloseRequest(); sendErr == nil {
		sendErr = err
	}
	_, err := stream.Receive()
	_ = stream.CloseResponse() // only frees what is left of the call
	switch {
	case errors.Is(err, io.EOF) && sendErr == nil:
		return nil
	case errors.Is(context.Cause(ctx), errSilent):
		return errSilent
	case errors.Is(err, io.EOF):
		return sendErr
	case err == nil:
		return errTooManyAnswers
	default:
		return err
	}
}

// bothFailed is that the gateway cannot be called with either protocol.
type bothFailed struct{ grpc, connect error }

func (e *bothFailed) Error() string { return fmt.Sprintf("gRPC: %v; Connect: %v", e.grpc, e.connect) }

func (e *bothFailed) Unwrap() error { return e.connect }

func (e *bothFailed) failure() failure {
	first, f := failureOf(e.grpc), failureOf(e.connect)
	if first.text != f.text {
		f.text = fmt.Sprintf("neither gRPC nor Connect gets through. gRPC: %s. Connect over HTTP/1.1: %s", first.text, f.text)
	}
	return f
}
