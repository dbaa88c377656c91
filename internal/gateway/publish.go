// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// retryAfter is how long senders are asked to wait when a topic does not take
// their events.
const retryAfter = 10 * time.Second

// A session encodes so many events, or until it has made so many bytes, before
// others have their turn.
const (
	turnEvents = 64
	turnBytes  = 64 << 10
)

// unprovenRest is how many times as long as a turn took its encoder then
// rests, if the sender has not proven who it is. However many such senders
// there are, this leaves most of the processors to the others.
const unprovenRest = 3

// usualExpansion is how many bytes of payloads are made of a byte of usual events.
const usualExpansion = 2.5

// expansion is how many bytes of payloads are made of a byte received.
type expansion struct{ bits atomic.Uint64 }

func (e *expansion) get() float64 {
	if bits := e.bits.Load(); bits != 0 {
		return math.Float64frombits(bits)
	}
	return usualExpansion
}

// saw moves what is expected towards what was seen, up at once and down slowly.
// That another call does so at the same moment does no harm.
func (e *expansion) saw(seen float64) {
	e.bits.Store(math.Float64bits(max(seen, 0.9*e.get()+0.1*seen)))
}

// A session is one sender during one call. Its calls of each follow one another,
// and so do those of publish and conclude; all others are made by the goroutine
// that receives.
type session struct {
	g      *Gateway
	sender *identity.Sender
	meters *kindMeters
	log    *slog.Logger
	total  int // events received

	encoding sync.Mutex // held while encoder is used
	encoder  *payload.Encoder
}

// record makes each event of a message durable, in the topic or among the dead
// letters, or says why it is in neither.
func (s *session) record(ctx context.Context, m *message) {
	s.admit(m)
	s.each(ctx, m, func(c *chunk) {
		s.publish(ctx, c)
		s.g.memory.giveChunk(c)
	})
	s.conclude(ctx, m)
}

// admit counts a message's events, and lets go of them if they are more than the
// sender may send, which it reports.
func (s *session) admit(m *message) (limited bool) {
	m.began = s.g.o.Now()
	n := len(m.request.events)
	s.total += n
	s.meters.messageSize(float64(len(m.wire)))
	s.meters.received(float64(n))
	m.answer.expect(n)
	err := s.sender.Admit(n)
	if err != nil {
		m.answer.failAll(limits.ReasonRateLimited, err)
		m.request.events = nil
	}
	return err != nil
}

// each encodes a message, and calls f with one chunk after the other, the last one
// even if there is nothing in it. f gives them back.
func (s *session) each(ctx context.Context, m *message, f func(*chunk)) {
	events := m.request.events
	made := 0
	for done, more := 0, true; more; more = done < len(events) {
		c := s.g.memory.takeChunk(m)
		var err error
		if done, err = s.encode(ctx, events, done, c); err != nil {
			c.canceled, done = len(events)-done, len(events)
		}
		made += len(c.arena)
		if c.last = done == len(events); c.last && made > 0 {
			s.g.expansion.saw(min(float64(made)/float64(len(m.wire)), limits.TinyFactor))
		}
		f(c)
	}
}

// room is how many bytes the payloads of a message's next chunk may need.
func (s *session) room(wire []byte) int {
	const margin = 1.1
	return int(min(margin*s.g.expansion.get()*float64(len(wire)), limits.ChunkBytes+turnBytes))
}

// conclude measures and reports what became of a message.
func (s *session) conclude(ctx context.Context, m *message) {
	reasons := s.measure(&m.answer)
	if len(reasons) > 0 {
		s.log.Log(ctx, levelOf(m.answer.refusal), "events not accepted", "events", len(m.answer.verdicts), "reasons", reasons)
	}
	s.meters.ackDuration(s.g.o.Now().Sub(m.began).Seconds())
}

// encode encodes events from the first on until there is a chunk of them, and
// returns how far it came. Its error is that ctx ended.
func (s *session) encode(ctx context.Context, events [][]byte, first int, c *chunk) (int, error) {
	events = events[:min(len(events), first+limits.RequestMessages)]
	i := first
	for i < len(events) && len(c.arena) < limits.ChunkBytes {
		var err error
		if i, err = s.encodeTurn(ctx, events, i, c); err != nil {
			return i, err
		}
	}
	return i, nil
}

// encodeTurn waits for its turn and encodes as many events, from the first on,
// as one turn takes.
func (s *session) encodeTurn(ctx context.Context, events [][]byte, first int, c *chunk) (int, error) {
	rests := classOf(s.sender) != proven
	var worked time.Duration
	if rests {
		if err := s.g.unprovenEncoders.Acquire(ctx, 1); err != nil {
			return first, err
		}
		defer func() {
			pause(ctx, unprovenRest*worked)
			s.g.unprovenEncoders.Release(1)
		}()
	}
	if err := s.g.encoders.Acquire(ctx, 1); err != nil {
		return first, err
	}
	if rests {
		began := time.Now()
		defer func() { worked = time.Since(began) }()
	}
	defer s.g.encoders.Release(1)
	if c.arena == nil {
		// Those who wait for their turn need none yet.
		c.arena = s.g.memory.buffers.take(s.room(c.message.wire))
	}
	s.encoding.Lock()
	defer s.encoding.Unlock()
	s.encoder.Use(&c.labels)
	i, end := first, min(len(events), first+turnEvents)
	for full := len(c.arena) + turnBytes; i < end && len(c.arena) < full; i++ {
		out, labels, violation := s.encoder.Append(c.arena, events[i], c.message.began)
		v := &c.message.answer.verdicts[i]
		v.id = labels.EventID
		if violation != nil {
			s.bury(c, i, violation)
			continue
		}
		c.add(&c.events, i, out, labels)
	}
	return i, nil
}

// bury makes a dead letter of an event. The caller holds encoding.
func (s *session) bury(c *chunk, i int, violation *limits.Violation) {
	v := &c.message.answer.verdicts[i]
	v.reason, v.field, v.message = violation.Reason, violation.Field, violation.Message
	out, labels := s.encoder.AppendDeadLetter(c.arena, c.message.request.events[i], c.message.began, violation)
	c.add(&c.dead, i, out, labels)
}

// add takes the end of arena as a message. When arena has been moved to grow,
// earlier messages go on referring to where it was, which is as good.
func (c *chunk) add(b *batch, i int, arena []byte, labels payload.Labels) {
	data := arena[len(c.arena):len(arena):len(arena)]
	c.arena = arena
	b.messages = append(b.messages, topic.Message{Key: labels.Key, Data: data, Attributes: labels.Attributes})
	b.indexes = append(b.indexes, i)
}

// publish makes a chunk durable and fills in the verdicts. It may be called while
// the next chunk is encoded.
func (s *session) publish(ctx context.Context, c *chunk) {
	a := &c.message.answer
	s.deliver(ctx, &s.g.events, &c.events, func(i int, err error) {
		v := &a.verdicts[i]
		switch {
		case err == nil:
			v.outcome = accepted
		case errors.Is(err, topic.ErrRejected):
			s.encoding.Lock()
			defer s.encoding.Unlock()
			s.encoder.Use(&c.labels)
			s.bury(c, i, &limits.Violation{
				Reason: limits.ReasonTopicRejected, Message: "the topic will never take this event",
			})
		case ctx.Err() != nil:
			a.cancel(i)
		default:
			a.fail(i, limits.ReasonTopicUnavailable, "the topic did not confirm that it has the event; send it again")
		}
	})
	s.deliver(ctx, &s.g.deadLetters, &c.dead, func(i int, err error) {
		switch {
		case err == nil:
			a.verdicts[i].outcome = deadLettered
		case ctx.Err() != nil:
			a.cancel(i)
		default:
			a.fail(i, limits.ReasonDeadLetterUnavailable, "this event can never be published ("+a.verdicts[i].reason+") and could not be kept as a dead letter yet; send it again")
		}
	})
	for i := len(a.verdicts) - c.canceled; i < len(a.verdicts); i++ {
		a.cancel(i)
	}
}

var errNoOutcome = errors.New("the topic did not say what became of the message")

// deliver publishes a batch and calls f with what became of each event.
func (s *session) deliver(ctx context.Context, o *outlet, b *batch, f func(i int, err error)) {
	if len(b.messages) == 0 {
		return
	}
	errs := o.publish(ctx, b.messages, s.g.o.Now)
	var first error
	bad := 0
	for k, i := range b.indexes {
		var err error
		switch {
		case k < len(errs):
			err = errs[k]
		case errs != nil:
			err = errNoOutcome
		}
		if err != nil {
			bad++
			if first == nil {
				first = err
			}
		}
		f(i, err)
	}
	if first != nil && ctx.Err() == nil {
		s.log.Error("publish failed", "topic", o.name, "messages", len(b.messages), "failed", bad, "error", first)
	}
}

// fail says that an event is to be sent again.
func (a *answer) fail(i int, reason, message string) {
	v := &a.verdicts[i]
	v.outcome, v.reason, v.field, v.message = failed, reason, "", message
	a.retryAfter = max(a.retryAfter, retryAfter)
}

// cancel fails an event because the call has ended. That the topic's error is
// one of a context does not tell: topics have time limits of their own.
func (a *answer) cancel(i int) {
	a.fail(i, limits.ReasonCanceled, "the call ended before the event was known to be durable; send it again")
}

// failAll says that all events are to be sent again because of a refusal.
func (a *answer) failAll(reason string, err error) {
	for i := range a.verdicts {
		a.verdicts[i] = verdict{outcome: failed, reason: reason}
	}
	if len(a.verdicts) > 0 {
		a.verdicts[0].message = err.Error()
	}
	a.retryAfter, a.refusal = retryAfter, err
	var r *identity.Refusal
	if errors.As(err, &r) && r.RetryAfter > 0 {
		a.retryAfter = r.RetryAfter
	}
}
