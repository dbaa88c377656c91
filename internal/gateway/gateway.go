// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package gateway serves telemetrygateway/v1: it takes events from senders it
// can identify and makes each durable before it acknowledges it.
//
// These hold whatever arrives. An event is acknowledged only when it is in the
// topic or among the dead letters. What one event holds never changes what
// becomes of another. Memory is bounded. Nothing ends in a panic.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// Options of New. Topic, DeadLetters, Identities and Metrics must be set.
type Options struct {
	Topic, DeadLetters topic.Topic
	Identities         *identity.Identities
	Metrics            *observe.Metrics
	// KeyForm is what of a licence key the payload shows.
	KeyForm payload.KeyForm
	// MaxMessageBytes is the largest message received; zero means
	// limits.ReceiveBytes.
	MaxMessageBytes int64
	// InFlightBytes bounds the memory of all messages in flight; zero means
	// limits.InFlightBytes.
	InFlightBytes int64
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Interceptors are run around each call, outermost first.
	Interceptors []connect.Interceptor
	Log          *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Gateway serves both spellings of the service.
type Gateway struct {
	o                   Options
	events, deadLetters outlet
	budget              *budget
	// encoders bounds how many sessions encode at once. More than there are
	// processors would only take more memory: decoded private metadata can be
	// many times as large as its bytes. Those who have not proven who they are
	// first need one of unprovenEncoders, which are half as many, so that
	// others never wait for more than one turn of theirs.
	encoders, unprovenEncoders *semaphore.Weighted
	// limited is the rate, in bytes, at which messages are received that are
	// more than their senders may send.
	limited *rate.Limiter
	// newcomers bounds how many of the calls may not have said who they are.
	newcomers perNetwork
	// unlicensedStreams bounds how many of the calls are theirs.
	unlicensedStreams *semaphore.Weighted
	memory            memory
	expansion         expansion
	meters            map[identity.Kind]*kindMeters
	// refusals are logged here.
	refusals *refusalLog

	// serving ends with Stop, and atOnce has ended already: who waits for it
	// takes only what is at hand.
	serving, atOnce context.Context
	ended           context.CancelFunc

	mu       sync.Mutex
	calls    map[*call]struct{}
	stopping bool
}

// New returns a gateway that uses, and does not close, what is in o.
func New(o Options) *Gateway {
	if o.MaxMessageBytes == 0 {
		o.MaxMessageBytes = limits.ReceiveBytes
	}
	if o.InFlightBytes == 0 {
		o.InFlightBytes = limits.InFlightBytes
	}
	if o.KeyForm == "" {
		o.KeyForm = payload.KeyFingerprint
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	inFlight := o.Metrics.InFlightBytes.With()
	used := func(delta int64) { inFlight(float64(delta)) }
	procs := int64(runtime.GOMAXPROCS(0))
	serving, ended := context.WithCancel(context.Background())
	atOnce, cancel := context.WithCancel(serving)
	cancel()
	return &Gateway{
		o:           o,
		events:      newOutlet(o.Topic, "events", o.Metrics, o.Metrics.PublishedMessageSize.With()),
		deadLetters: newOutlet(o.DeadLetters, "deadletter", o.Metrics, func(float64) {}),
		budget:      newBudget(o.InFlightBytes, used), calls: make(map[*call]struct{}), serving: serving, atOnce: atOnce, ended: ended,
		newcomers:         perNetwork{max: limits.NewcomersPerNetwork},
		unlicensedStreams: semaphore.NewWeighted(limits.Calls / limits.UnlicensedShare),
		encoders:          semaphore.NewWeighted(procs),
		unprovenEncoders:  semaphore.NewWeighted(max(1, procs/2)),
		meters:            newKindMeters(o.Metrics),
		refusals:          newRefusalLog(o.Log, o.Now),
		limited:           rate.NewLimiter(limits.LimitedBytesPerSecond, limits.LimitedBurstBytes),
	}
}

// Handle registers both spellings of the service on mux.
func (g *Gateway) Handle(mux *http.ServeMux) {
	options := []connect.HandlerOption{
		codecs(g.o.MaxMessageBytes),
		boundedCompression(g.o.MaxMessageBytes),
		// Responses are small, and mostly IDs, which hardly compress: to try
		// would cost as much as all else that is done to take an event.
		connect.WithCompressMinBytes(math.MaxInt),
		connect.WithReadMaxBytes(int(g.o.MaxMessageBytes)),
		connect.WithInterceptors(append([]connect.Interceptor{g.counting()}, g.o.Interceptors...)...),
		connect.WithRecover(g.recovered),
	}
	for _, rpc := range []struct {
		paths   []string
		stream  bool
		handler func(path string) http.Handler
	}{
		{
			[]string{
				telemetrygatewayv1connect.TelemeteryGatewayServiceRecordEventsProcedure,
				telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventsProcedure,
			},
			true,
			func(path string) http.Handler {
				return connect.NewBidiStreamHandler(path, g.recordEvents, options...)
			},
		},
		{
			[]string{
				telemetrygatewayv1connect.TelemeteryGatewayServiceRecordEventProcedure,
				telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventProcedure,
			},
			false,
			func(path string) http.Handler { return connect.NewUnaryHandler(path, g.recordEvent, options...) },
		},
		{
			[]string{telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventBatchProcedure},
			false,
			func(path string) http.Handler { return connect.NewUnaryHandler(path, g.recordEventBatch, options...) },
		},
	} {
		for _, path := range rpc.paths {
			mux.Handle(path, g.track(rpc.handler(path), rpc.stream))
		}
	}
}

type callKey struct{}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// track puts a call between a request's body and its handler.
func (g *Gateway) track(next http.Handler, stream bool) http.Handler {
	refusals := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := newCall(w, r, g.budget, g.o.MaxMessageBytes)
		if stream {
			c.introduction = true
			c.introduceBy = time.Now().Add(limits.StallTimeout)
		}
		if !g.begin(c) {
			_ = refusals.Write(w, r, tooManyCalls("calls"))
			return
		}
		defer g.end(c)
		c.start()
		var ok bool
		if c.known, ok = g.newcomers.enter(g.address(r.RemoteAddr, r.Header)); !ok {
			c.known = func() {}
			_ = refusals.Write(w, r, tooManyCalls("calls from this address that have not said who they are"))
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
		r.Body = c
		next.ServeHTTP(w, r)
	})
}

// begin says whether there is room for one more call.
func (g *Gateway) begin(c *call) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.calls) >= limits.Calls {
		return false
	}
	g.calls[c] = struct{}{}
	if g.stopping {
		c.stop()
	}
	return true
}

func (g *Gateway) end(c *call) {
	c.end()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.calls, c)
}

// Stop ends each call as soon as the message it is busy with has been
// answered, and new ones at once. It does not wait.
func (g *Gateway) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopping = true
	g.ended()
	for c := range g.calls {
		c.stop()
	}
}

// recovered is the last resort. That it is never needed is tested; should it
// be, the sender keeps its events and the stack is in the log.
func (g *Gateway) recovered(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
	g.o.Log.Error("panic", "rpc", spec.Procedure, "panic", p, "stack", string(debug.Stack()))
	return internal("the gateway has a fault; its log says more")
}

// newSession identifies a sender from its metadata.
func (g *Gateway) newSession(ctx context.Context, metadata []byte, remote string, header http.Header) (*session, error) {
	md, err := decodeMetadata(metadata)
	if err != nil {
		return nil, err
	}
	if len(md.GetRequestId()) > limits.RequestIDBytes {
		return nil, invalid("metadata.request_id has %d bytes; at most %d are allowed", len(md.GetRequestId()), limits.RequestIDBytes)
	}
	address := g.address(remote, header)
	peer := identity.Peer{Address: address, Authorization: header.Values("Authorization")}
	sender, err := g.identify(ctx, md.GetIdentifier(), peer)
	if err != nil {
		g.refusals.log(ctx, err, "request_id", md.GetRequestId(), "address", address, "error", err)
		return nil, g.refused(err)
	}
	if err := callOf(ctx).charge.resume(ctx, unproven); err != nil {
		return nil, endedWaiting(err)
	}
	encoder, err := payload.NewEncoder(md, payloadSender(sender), g.o.KeyForm)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return &session{
		g: g, sender: sender, meters: g.meters[sender.Kind], encoder: encoder,
		log: g.o.Log.With("request_id", md.GetRequestId(), "source", sender.Kind, "sender", sender.ID),
	}, nil
}

// identify establishes who sends. A unary call, which has its events already,
// does not keep the memory for processing them while it waits for the proof.
func (g *Gateway) identify(ctx context.Context, id *telemetrygatewayv1.Identifier, peer identity.Peer) (*identity.Sender, error) {
	if c := callOf(ctx); c.busy() {
		sender, err := g.o.Identities.Identify(g.atOnce, id, peer)
		var r *identity.Refusal
		if !errors.As(err, &r) || r.Reason != identity.Unavailable || !c.charge.park() {
			return sender, err
		}
	}
	proving, cancel := g.whileServing(ctx)
	defer cancel()
	return g.o.Identities.Identify(proving, id, peer)
}

// recheck says whether what the sender proved still holds. See whileServing.
func (s *session) recheck(proving context.Context) error {
	if err := s.sender.Recheck(proving); err != nil {
		return s.g.refused(err)
	}
	return nil
}

// whileServing returns a context that ends with ctx, or once the gateway has
// been told to stop. To prove who sends can mean to wait for somebody else's
// server, and a gateway that stops waits for nobody but its topics.
func (g *Gateway) whileServing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(g.serving, cancel)
	return ctx, func() { forget(); cancel() }
}

func decodeMetadata(wire []byte) (*telemetrygatewayv1.RecordEventsRequestMetadata, error) {
	if wire == nil {
		return nil, invalid("the request has no metadata")
	}
	var md telemetrygatewayv1.RecordEventsRequestMetadata
	if err := proto.Unmarshal(wire, &md); err != nil {
		// The library's error says no more than that it is one.
		return nil, invalid("metadata cannot be decoded: it is not a whole message, or a text in it is not valid UTF-8")
	}
	if md.GetIdentifier() == nil {
		return nil, invalid("metadata has no identifier")
	}
	return &md, nil
}

// payloadSender is a sender as the payload shows it.
func payloadSender(s *identity.Sender) payload.Sender {
	p := payload.Sender{Source: string(s.Kind), ID: s.ID, Identity: s.Scope, Trust: "unlicensed"}
	switch s.Kind {
	case identity.LicensedInstance:
		p.Trust = "licensed"
		l := s.License
		p.License = &payload.License{
			ID: l.ID, KeyID: l.KeyID, Fingerprint: l.Fingerprint(), Status: s.LicenseStatus, Version: l.Version,
			Tags: l.Tags, Users: uint(l.Users), CreatedAt: l.CreatedAt, ExpiresAt: l.ExpiresAt,
			SalesforceSubscriptionID: l.SalesforceSubscriptionID, SalesforceOpportunityID: l.SalesforceOpportunityID,
		}
	case identity.ManagedService:
		p.Source, p.Trust = s.ID, "service"
	}
	return p
}

func classOf(s *identity.Sender) class {
	if s.Kind == identity.UnlicensedInstance {
		return unlicensed
	}
	return proven
}
