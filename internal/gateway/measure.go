// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"strconv"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// outcomes are the values of the label outcome.
var outcomes = map[telemetrygatewayv1.EventVerdict_Outcome]string{accepted: "accepted", deadLettered: "dead_lettered", failed: "failed"}

// kindMeters are the series that each message of one kind of sender adds to.
type kindMeters struct {
	messageSize                func(bytes float64)
	received, accepted         func(events float64)
	ackDuration                func(seconds float64)
	success, partial, complete resultMeters
}

// resultMeters are those of messages that ended alike.
type resultMeters struct {
	succeeded, failed func(events float64)
	length            func(events float64)
}

func newKindMeters(m *observe.Metrics) map[identity.Kind]*kindMeters {
	all := map[identity.Kind]*kindMeters{}
	for _, kind := range []identity.Kind{identity.LicensedInstance, identity.UnlicensedInstance, identity.ManagedService} {
		source := string(kind)
		result := func(result string) resultMeters {
			return resultMeters{
				m.ProcessedEvents.With("true", result, source), m.ProcessedEvents.With("false", result, source),
				m.PayloadLength.With(result, source),
			}
		}
		all[kind] = &kindMeters{
			messageSize: m.ReceivedMessageSize.With(source),
			received:    m.EventsReceived.With(source),
			accepted:    m.Events.With(source, outcomes[accepted], ""),
			ackDuration: m.AckDuration.With(source),
			success:     result("success"),
			partial:     result("partial_failure"),
			complete:    result("complete_failure"),
		}
	}
	return all
}

// measure counts what became of a message's events, and returns how many were
// not accepted, by reason.
func (s *session) measure(a *answer) map[string]int {
	type key struct{ outcome, reason string }
	var counts map[key]int
	good, ok := 0, 0
	for i := range a.verdicts {
		v := &a.verdicts[i]
		switch v.outcome {
		case accepted:
			good++
			continue
		case deadLettered:
			ok++
		}
		if counts == nil {
			counts = map[key]int{}
		}
		counts[key{outcomes[v.outcome], v.reason}]++
	}
	ok += good
	s.meters.accepted(float64(good))
	var reasons map[string]int
	for k, n := range counts {
		s.g.o.Metrics.Events.Add(float64(n), string(s.sender.Kind), k.outcome, k.reason)
		if k.reason != "" {
			if reasons == nil {
				reasons = map[string]int{}
			}
			reasons[k.reason] += n
		}
	}
	bad := len(a.verdicts) - ok
	result := &s.meters.success
	switch {
	case bad > 0 && ok == 0:
		result = &s.meters.complete
	case bad > 0:
		result = &s.meters.partial
	}
	result.succeeded(float64(ok))
	result.failed(float64(bad))
	result.length(float64(len(a.verdicts)))
	return reasons
}

// An outlet is a topic and the series of what is published to it.
type outlet struct {
	topic    topic.Topic
	name     string
	duration func(seconds float64)
	batch    func(messages float64)
	size     func(bytes float64) // of a message
}

func newOutlet(t topic.Topic, name string, m *observe.Metrics, size func(bytes float64)) outlet {
	return outlet{t, name, m.PublishDuration.With(name), m.PublishBatch.With(name), size}
}

func (o *outlet) publish(ctx context.Context, ms []topic.Message, now func() time.Time) []error {
	began := now()
	errs := o.topic.Publish(ctx, ms)
	o.duration(now().Sub(began).Seconds())
	o.batch(float64(len(ms)))
	for i := range ms {
		o.size(float64(len(ms[i].Data)))
	}
	return errs
}

// streamOpened counts a stream until the function it returns is called. Its
// error is that there are too many of its kind.
func (g *Gateway) streamOpened(kind identity.Kind) (closed func(), err error) {
	release := func() {}
	if kind == identity.UnlicensedInstance {
		if !g.unlicensedStreams.TryAcquire(1) {
			return nil, tooManyCalls("streams of unlicensed instances")
		}
		release = func() { g.unlicensedStreams.Release(1) }
	}
	g.o.Metrics.Streams.Add(1, string(kind))
	return func() {
		g.o.Metrics.Streams.Add(-1, string(kind))
		release()
	}, nil
}

// streamEnded logs a stream that ended and counts what it carried.
func (g *Gateway) streamEnded(s *session, err error) {
	source, total, log := "invalid", 0, g.o.Log
	if s != nil {
		source, total, log = string(s.sender.Kind), s.total, s.log
	}
	g.o.Metrics.TotalLength.Observe(float64(total), strconv.FormatBool(err != nil), source)
	switch {
	case err == nil:
		log.Info("stream ended", "events", total)
	case s == nil:
		// Who was refused has been logged, and others have sent nothing.
		log.Debug("stream ended", "code", connect.CodeOf(err), "error", err)
	default:
		log.Warn("stream ended", "events", total, "code", connect.CodeOf(err), "error", err)
	}
}

// levelOf is how much attention a refusal needs. A flood of those who come too
// often must not fill the log, nor must everybody who comes while a provider is
// away, which is logged where it is noticed.
func levelOf(err error) slog.Level {
	var r *identity.Refusal
	if errors.As(err, &r) && (r.Reason == identity.RateLimited || r.Reason == identity.Unavailable) {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// refusalLines is how many refusals are logged at once; after that it is one a
// second.
const refusalLines = 20

// A refusalLog has a line for each sender that is refused, until they are so
// many that they would fill the disk: then only some of them at a level that
// operators see. All are counted as metrics.
type refusalLog struct {
	to  *slog.Logger
	now func() time.Time

	lines *rate.Limiter
	left  atomic.Int64 // not logged since the last one that was
}

func newRefusalLog(to *slog.Logger, now func() time.Time) *refusalLog {
	return &refusalLog{to: to, now: now, lines: rate.NewLimiter(1, refusalLines)}
}

func (l *refusalLog) log(ctx context.Context, err error, about ...any) {
	level := levelOf(err)
	if level > slog.LevelDebug {
		if l.lines.AllowN(l.now(), 1) {
			if n := l.left.Swap(0); n > 0 {
				about = append(about, "others_not_logged", n)
			}
		} else {
			l.left.Add(1)
			level = slog.LevelDebug
		}
	}
	l.to.Log(ctx, level, "sender refused", about...)
}

// refused counts a refusal and makes an error of it.
func (g *Gateway) refused(err error) error {
	var r *identity.Refusal
	if errors.As(err, &r) {
		if r.Reason == identity.Unavailable && g.serving.Err() != nil {
			return errStopping // which is why nobody waited for the proof
		}
		g.o.Metrics.IdentificationFailures.Add(1, string(r.Reason))
	}
	return refused(err)
}

// counting counts calls by how they end.
func (g *Gateway) counting() connect.Interceptor { return counting{g} }

type counting struct{ g *Gateway }

func (c counting) count(spec connect.Spec, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	c.g.o.Metrics.Calls.Add(1, path.Base(spec.Procedure), code)
}

func (c counting) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		w, err := next(ctx, r)
		c.count(r.Spec(), err)
		return w, err
	}
}

func (c counting) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		err := next(ctx, conn)
		c.count(conn.Spec(), err)
		return err
	}
}

func (counting) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}
