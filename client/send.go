// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// call is one call to Send under way.
type call struct {
	client   *Client
	events   source
	metadata *telemetrygatewayv1.RecordEventsRequestMetadata
	packer   packer
	result   Result
	answers  int // to messages of events
	next     int // the event after the last one that was answered
	start    int // the event that sending starts with
	// Of a service: the last tokens that this call had, the present one last, and
	// how many answers there were when it was last given a new one for being refused.
	tokens  []string
	renewed int

	mu sync.Mutex
	// unanswered are the messages sent so far that no response has come for.
	// A message is in here from before it is sent.
	unanswered []span
}

type stream = connect.BidiStreamForClient[message, telemetrygatewayv1.RecordEventsResponse]

// span is the events [from, to), n of which are in a message; the others are
// unsendable.
type span struct{ from, to, n int }

// response is what both calls answer to a message.
type response interface {
	GetSucceededEvents() []string
	GetVerdicts() []*telemetrygatewayv1.EventVerdict
	GetRetryAfter() *durationpb.Duration
}

func (c *Client) send(ctx context.Context, events source) (Result, error) {
	s := &call{
		client:   c,
		events:   events,
		metadata: &telemetrygatewayv1.RecordEventsRequestMetadata{RequestId: newRequestID(), Identifier: c.identity.proto},
		renewed:  -1,
	}
	s.result = Result{RequestID: s.metadata.RequestId, Verdicts: make([]Verdict, events.len())}
	for i := range s.result.Verdicts {
		s.result.Verdicts[i].Reason = ReasonNotSent
	}
	s.packer = packer{
		events:    events,
		verdicts:  s.result.Verdicts,
		maxEvents: c.options.MessageEvents,
		full:      c.options.MessageBytes,
		most:      c.options.MaxMessageBytes,
	}
	if events.len() == 0 {
		return s.result, nil
	}
	err := s.run(ctx)
	for s.renew(ctx, err) {
		err = s.run(ctx)
	}
	c.idle.Reset(idleTimeout)
	s.unheard()
	if err == nil {
		return s.result, nil
	}
	e := s.classify(ctx, err)
	s.result.RetryAfter = max(s.result.RetryAfter, e.RetryAfter)
	return s.result, e
}

// runStream sends all messages over one stream while it reads the responses.
func (s *call) runStream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := s.client.grpc.stream.CallBidiStream(ctx)
	if err := s.authorize(ctx, stream.RequestHeader()); err != nil {
		return err
	}
	s.packer.batch, s.packer.prefix = false, nil
	sent := make(chan error, 1)
	go func() {
		err := s.sendMessages(stream)
		// Half-closed even after an error, so that what the gateway still
		// acknowledges is heard.
		if closeErr := stream.CloseRequest(); err == nil {
			err = closeErr
		}
		sent <- err
	}()
	err := s.receiveResponses(stream)
	// If the gateway ended the call early, the sender is still at it.
	cancel()
	sendErr := <-sent
	_ = stream.CloseResponse() // only frees what is left of the call
	switch {
	case err != nil:
		return err
	case len(s.unanswered) > 0:
		return errNoAnswer
	case errors.Is(sendErr, io.EOF):
		return errNoAnswer
	default:
		return sendErr
	}
}

func (s *call) sendMessages(stream *stream) error {
	if err := s.introduce(stream); err != nil {
		return err
	}
	for from := s.start; ; {
		m, n, to := s.packer.next(from)
		if n == 0 {
			return nil
		}
		s.sending(span{from, to, n})
		if err := stream.Send(m); err != nil {
			return err
		}
		from = to
	}
}

// introduce says who sends.
func (s *call) introduce(stream *stream) error {
	metadata, err := proto.Marshal(&telemetrygatewayv1.RecordEventsRequest{
		Payload: &telemetrygatewayv1.RecordEventsRequest_Metadata{Metadata: s.metadata},
	})
	if err != nil {
		return err
	}
	return stream.Send(&message{metadata})
}

func (s *call) receiveResponses(stream *stream) error {
	for {
		r, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.answered(r); err != nil {
			return err
		}
	}
}

// runBatches sends one message after the other, each in a request of its own.
func (s *call) runBatches(ctx context.Context) error {
	if err := s.packUnary(); err != nil {
		return err
	}
	for from := s.start; ; {
		m, n, to := s.packer.next(from)
		if n == 0 {
			return nil
		}
		request := connect.NewRequest(m)
		if err := s.authorize(ctx, request.Header()); err != nil {
			return err
		}
		s.sending(span{from, to, n})
		r, err := s.client.connect.batch.CallUnary(ctx, request)
		if err != nil {
			return err
		}
		if err := s.answered(r.Msg); err != nil {
			return err
		}
		from = to
	}
}

// packUnary makes messages that say who sends, which is the same for both unary
// calls.
func (s *call) packUnary() error {
	metadata, err := proto.Marshal(&telemetrygatewayv1.RecordEventBatchRequest{Metadata: s.metadata})
	s.packer.batch, s.packer.prefix = true, metadata
	return err
}

func (s *call) sending(m span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unanswered = append(s.unanswered, m)
}

// unheard takes down which events were sent and not answered, when no answer can
// come any more.
func (s *call) unheard() {
	for _, m := range s.unanswered {
		for i := m.from; i < m.to; i++ {
			if s.result.Verdicts[i].Outcome != Unsendable {
				s.result.Verdicts[i].Reason = ReasonUnanswered
			}
		}
	}
	s.unanswered = nil
}

// answered takes the response to the oldest message that has none.
func (s *call) answered(r response) error {
	s.mu.Lock()
	if len(s.unanswered) == 0 {
		s.mu.Unlock()
		return errTooManyAnswers
	}
	m := s.unanswered[0]
	if n := len(r.GetVerdicts()); n > 0 && n != m.n {
		s.mu.Unlock()
		return errWrongAnswer
	}
	s.unanswered = s.unanswered[1:]
	s.mu.Unlock()

	s.answers++
	s.next = m.to
	if d := r.GetRetryAfter(); d.IsValid() {
		s.result.RetryAfter = max(s.result.RetryAfter, d.AsDuration())
	}
	if len(r.GetVerdicts()) > 0 {
		s.judge(m, r.GetVerdicts())
	} else {
		s.acknowledge(m, r.GetSucceededEvents())
	}
	if s.client.options.OnVerdicts != nil {
		s.client.options.OnVerdicts(m.from, s.result.Verdicts[m.from:m.to])
	}
	return nil
}

func (s *call) judge(m span, verdicts []*telemetrygatewayv1.EventVerdict) {
	next := 0
	for i := m.from; i < m.to; i++ {
		if v := &s.result.Verdicts[i]; v.Outcome != Unsendable {
			*v = s.verdict(verdicts[next])
			next++
		}
	}
}

// acknowledge takes the answer of a gateway that gives no verdicts, only the
// IDs not to send again. Of several events with one ID, all must be
// acknowledged for any to count: there is no telling which was meant.
func (s *call) acknowledge(m span, ids []string) {
	missing := make(map[string]int, m.n)
	for i := m.from; i < m.to; i++ {
		if s.result.Verdicts[i].Outcome != Unsendable {
			missing[s.events.id(i)]++
		}
	}
	for _, id := range ids {
		missing[id]--
	}
	for i := m.from; i < m.to; i++ {
		switch v := &s.result.Verdicts[i]; {
		case v.Outcome == Unsendable:
		case missing[s.events.id(i)] > 0:
			*v = Verdict{Outcome: Failed, Reason: ReasonUnacknowledged}
		default:
			*v = Verdict{Outcome: Accepted}
		}
	}
}

// newRequestID returns a random UUID.
func newRequestID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
