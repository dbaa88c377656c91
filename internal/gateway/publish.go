// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// retryAfter is how long senders are asked to wait when a topic does not take
// their events.
const retryAfter = 10 * time.Second

// keepBytes is how large a buffer a session keeps from one message to the
// next, so that an idle stream does not hold what a burst once needed.
const keepBytes = 256 << 10

// A session encodes so many events, or until it has made so many bytes, before
// others have their turn.
const (
	turnEvents = 16
	turnBytes  = 32 << 10
)

// unprovenRest is how many times as long as a turn took its encoder then
// rests, if the sender has not proven who it is. However many such senders
// there are, this leaves most of the processors to the others.
const unprovenRest = 3

// A session is one sender during one call. It is used by one goroutine.
type session struct {
	g       *Gateway
	sender  *identity.Sender
	encoder *payload.Encoder
	log     *slog.Logger
	total   int // events received

	// What is encoded but not yet published. All memory is reused. Labels also
	// refer to the events themselves, which a message holds until it is answered.
	arena  []byte
	labels payload.Arena
	events batch
	dead   batch
}

// A batch is messages and, for each, the index of its event.
type batch struct {
	messages []topic.Message
	indexes  []int
}

func (b *batch) reset() {
	clear(b.messages)
	b.messages, b.indexes = b.messages[:0], b.indexes[:0]
}

// record makes each event durable, in the topic or among the dead letters, or
// says why it is in neither. The events came in a message of so many bytes.
func (s *session) record(ctx context.Context, events [][]byte, bytes int) *answer {
	source, began := string(s.sender.Kind), s.g.o.Now()
	defer func() { s.g.o.Metrics.AckDuration.Observe(s.g.o.Now().Sub(began).Seconds(), source) }()
	s.g.o.Metrics.ReceivedMessageSize.Observe(float64(bytes), source)
	s.total += len(events)
	s.g.o.Metrics.EventsReceived.Add(float64(len(events)), source)
	a := &answer{verdicts: make([]verdict, len(events))}
	if err := s.sender.Admit(len(events)); err != nil {
		a.failAll(limits.ReasonRateLimited, err)
		a.refusal = err
	} else {
		for done := 0; done < len(events); {
			var err error
			if done, err = s.encode(ctx, events, done, a); err != nil {
				for ; done < len(events); done++ {
					a.cancel(done)
				}
			}
			s.publish(ctx, events, a)
			s.reset()
		}
	}
	s.report(ctx, a)
	return a
}

// encode encodes events from the first on until there is a chunk of them, and
// returns how far it came. Its error is that ctx ended.
func (s *session) encode(ctx context.Context, events [][]byte, first int, a *answer) (int, error) {
	events = events[:min(len(events), first+limits.RequestMessages)]
	s.takeArena(events[first:])
	s.encoder.Use(&s.labels)
	now := s.g.o.Now()
	i := first
	for i < len(events) && len(s.arena) < limits.ChunkBytes {
		var err error
		if i, err = s.encodeTurn(ctx, events, i, a, now); err != nil {
			return i, err
		}
	}
	return i, nil
}

// encodeTurn waits for its turn and encodes as many events, from the first on,
// as one turn takes.
func (s *session) encodeTurn(ctx context.Context, events [][]byte, first int, a *answer, now time.Time) (int, error) {
	var worked time.Duration
	if classOf(s.sender) != proven {
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
	began := time.Now()
	defer func() {
		worked = time.Since(began)
		s.g.encoders.Release(1)
	}()
	i, end := first, min(len(events), first+turnEvents)
	for full := len(s.arena) + turnBytes; i < end && len(s.arena) < full; i++ {
		out, labels, violation := s.encoder.Append(s.arena, events[i], now)
		v := &a.verdicts[i]
		v.id = labels.EventID
		if violation != nil {
			s.bury(i, events[i], violation, v, now)
			continue
		}
		s.add(&s.events, i, out, labels)
	}
	return i, nil
}

// takeArena borrows a large arena for events that will need one. A few small
// ones do not get it, because what they were charged would not account for it.
func (s *session) takeArena(events [][]byte) {
	size := 0
	for _, e := range events {
		size += len(e)
	}
	if s.arena == nil && size >= keepBytes/4 {
		if arena, ok := s.g.arenas.Get().(*[]byte); ok {
			s.arena = *arena
		}
	}
}

// bury makes a dead letter of an event.
func (s *session) bury(i int, event []byte, violation *limits.Violation, v *verdict, now time.Time) {
	v.reason, v.field, v.message = violation.Reason, violation.Field, violation.Message
	out, labels := s.encoder.AppendDeadLetter(s.arena, event, now, violation)
	s.add(&s.dead, i, out, labels)
}

// add takes the end of arena as a message. When arena has been moved to grow,
// earlier messages go on referring to where it was, which is as good.
func (s *session) add(b *batch, i int, arena []byte, labels payload.Labels) {
	data := arena[len(s.arena):len(arena):len(arena)]
	s.arena = arena
	b.messages = append(b.messages, topic.Message{Key: labels.Key, Data: data, Attributes: labels.Attributes})
	b.indexes = append(b.indexes, i)
}

// publish makes what has been encoded durable and fills in the verdicts.
func (s *session) publish(ctx context.Context, events [][]byte, a *answer) {
	now := s.g.o.Now()
	s.each(ctx, s.g.o.Topic, "events", &s.events, func(i int, err error) {
		v := &a.verdicts[i]
		switch {
		case err == nil:
			v.outcome = accepted
		case errors.Is(err, topic.ErrRejected):
			s.bury(i, events[i], &limits.Violation{
				Reason: limits.ReasonTopicRejected, Message: "the topic will never take this event",
			}, v, now)
		case ctx.Err() != nil:
			a.cancel(i)
		default:
			a.fail(i, limits.ReasonTopicUnavailable, "the topic did not confirm that it has the event; send it again")
		}
	})
	s.each(ctx, s.g.o.DeadLetters, "deadletter", &s.dead, func(i int, err error) {
		switch {
		case err == nil:
			a.verdicts[i].outcome = deadLettered
		case ctx.Err() != nil:
			a.cancel(i)
		default:
			a.fail(i, limits.ReasonDeadLetterUnavailable, "this event can never be published ("+a.verdicts[i].reason+") and could not be kept as a dead letter yet; send it again")
		}
	})
}

var errNoOutcome = errors.New("the topic did not say what became of the message")

// each publishes a batch and calls f with what became of each event.
func (s *session) each(ctx context.Context, t topic.Topic, name string, b *batch, f func(i int, err error)) {
	if len(b.messages) == 0 {
		return
	}
	started := s.g.o.Now()
	errs := t.Publish(ctx, b.messages)
	s.g.measurePublish(name, b.messages, s.g.o.Now().Sub(started))
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
		s.log.Error("publish failed", "topic", name, "messages", len(b.messages), "failed", bad, "error", first)
	}
}

func (s *session) reset() {
	s.events.reset()
	s.dead.reset()
	s.labels.Reset()
	s.arena = s.arena[:0]
	if cap(s.arena) > keepBytes {
		if arena := s.arena; cap(arena) <= 2*limits.ChunkBytes {
			s.g.arenas.Put(&arena)
		}
		s.arena = nil
	}
}

// report counts what became of the events, and logs it if it needs a person.
func (s *session) report(ctx context.Context, a *answer) {
	reasons := s.g.measure(s.sender.Kind, a)
	if len(reasons) == 0 {
		return
	}
	s.log.Log(ctx, levelOf(a.refusal), "events not accepted", "events", len(a.verdicts), "reasons", reasons)
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
	a.retryAfter = retryAfter
	var r *identity.Refusal
	if errors.As(err, &r) && r.RetryAfter > 0 {
		a.retryAfter = r.RetryAfter
	}
}
