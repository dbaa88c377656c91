// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
)

// server is a gateway reduced to the protocol: it keeps to the order of
// messages and answers each, with whatever answer the test wants. What a real
// gateway answers is tested with the real one, in cmd/telemetry.
type server struct {
	// answer returns the response to message n, counted from 0; if nil, every
	// event is accepted. An error ends the call.
	answer func(n int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error)
	// event, if set, answers RecordEvent.
	event func(*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventResponse, error)
	// admit, if set, says whether a call with an authorization header is let in.
	admit func(authorization string) error
	// afterHalfClose is called when the sender has ended its stream.
	afterHalfClose func(stream) error

	// disconnect breaks all connections; set by serve.
	disconnect func()

	mu       sync.Mutex
	calls    []string   // procedures, in the order called
	headers  [][]string // authorization of each call
	http     []string   // versions of HTTP, likewise
	metadata []*telemetrygatewayv1.RecordEventsRequestMetadata
	messages [][]*telemetrygatewayv1.Event
	sizes    []int // wire size of each message in bytes
}

// What an answer may be besides an error of the protocol.
var (
	errEnd        = errors.New("end the call as if all were well")
	errReset      = errors.New("reset the stream")
	errDisconnect = errors.New("break the connection")
)

type stream = *connect.BidiStream[telemetrygatewayv1.RecordEventsRequest, telemetrygatewayv1.RecordEventsResponse]

func acceptAll(_ int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
	r := new(telemetrygatewayv1.RecordEventsResponse)
	for _, e := range events {
		r.SucceededEvents = append(r.SucceededEvents, e.GetId())
		r.Verdicts = append(r.Verdicts, &telemetrygatewayv1.EventVerdict{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_ACCEPTED})
	}
	return r, nil
}

func (s *server) RecordEvents(_ context.Context, st stream) error {
	if err := s.began(st.Spec().Procedure, st.RequestHeader()); err != nil {
		return err
	}
	for known := false; ; {
		m, err := st.Receive()
		if errors.Is(err, io.EOF) {
			if s.afterHalfClose != nil {
				return s.afterHalfClose(st)
			}
			return nil
		}
		if err != nil {
			return err
		}
		switch p := m.GetPayload().(type) {
		case *telemetrygatewayv1.RecordEventsRequest_Metadata:
			if known {
				return connect.NewError(connect.CodeInvalidArgument, errors.New("metadata twice"))
			}
			known = true
			s.identified(p.Metadata)
		case *telemetrygatewayv1.RecordEventsRequest_Events:
			if !known {
				return connect.NewError(connect.CodeInvalidArgument, errors.New("events before metadata"))
			}
			r, err := s.received(p.Events.GetEvents(), m)
			if errors.Is(err, errEnd) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := st.Send(r); err != nil {
				return err
			}
		default:
			return connect.NewError(connect.CodeInvalidArgument, errors.New("no payload"))
		}
	}
}

func (s *server) RecordEvent(_ context.Context, req *connect.Request[telemetrygatewayv1.RecordEventRequest]) (*connect.Response[telemetrygatewayv1.RecordEventResponse], error) {
	if err := s.began(req.Spec().Procedure, req.Header()); err != nil {
		return nil, err
	}
	if s.event == nil {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("not known yet"))
	}
	s.identified(req.Msg.GetMetadata())
	r, err := s.event(req.Msg.GetEvent())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, []*telemetrygatewayv1.Event{req.Msg.GetEvent()})
	return connect.NewResponse(r), nil
}

func (s *server) RecordEventBatch(_ context.Context, req *connect.Request[telemetrygatewayv1.RecordEventBatchRequest]) (*connect.Response[telemetrygatewayv1.RecordEventBatchResponse], error) {
	if err := s.began(req.Spec().Procedure, req.Header()); err != nil {
		return nil, err
	}
	s.identified(req.Msg.GetMetadata())
	r, err := s.received(req.Msg.GetEvents(), req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&telemetrygatewayv1.RecordEventBatchResponse{
		SucceededEvents: r.GetSucceededEvents(), Verdicts: r.GetVerdicts(), RetryAfter: r.GetRetryAfter(),
	}), nil
}

func (s *server) began(procedure string, h http.Header) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, procedure)
	s.headers = append(s.headers, h.Values("Authorization"))
	if s.admit == nil {
		return nil
	}
	return s.admit(h.Get("Authorization"))
}

func (s *server) identified(m *telemetrygatewayv1.RecordEventsRequestMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metadata = append(s.metadata, m)
}

func (s *server) received(events []*telemetrygatewayv1.Event, m proto.Message) (*telemetrygatewayv1.RecordEventsResponse, error) {
	s.mu.Lock()
	n := len(s.messages)
	s.messages = append(s.messages, events)
	s.sizes = append(s.sizes, proto.Size(m))
	s.mu.Unlock()
	if s.answer == nil {
		return acceptAll(n, events)
	}
	r, err := s.answer(n, events)
	switch {
	case errors.Is(err, errReset):
		panic(http.ErrAbortHandler)
	case errors.Is(err, errDisconnect):
		s.disconnect()
	}
	return r, err
}

// events are all events received, in order.
func (s *server) events() []*telemetrygatewayv1.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*telemetrygatewayv1.Event
	for _, m := range s.messages {
		all = append(all, m...)
	}
	return all
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(telemetrygatewayv1connect.NewTelemetryGatewayServiceHandler(s))
	mux.Handle(telemetrygatewayv1connect.NewTelemeteryGatewayServiceHandler(s))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.http = append(s.http, r.Proto)
		s.mu.Unlock()
		mux.ServeHTTP(w, r)
	})
}

// serve serves s over cleartext HTTP/1.1 and HTTP/2 until the test ends.
func (s *server) serve(t testing.TB) string {
	t.Helper()
	ts := httptest.NewUnstartedServer(s.handler())
	ts.Config.Protocols = new(http.Protocols)
	ts.Config.Protocols.SetHTTP1(true)
	ts.Config.Protocols.SetUnencryptedHTTP2(true)
	ts.Config.ErrorLog = log.New(io.Discard, "", 0)
	ts.Start()
	t.Cleanup(ts.Close)
	s.disconnect = ts.CloseClientConnections
	return ts.URL
}
