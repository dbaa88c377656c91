// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/semaphore"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// door is what GraphQL and Connect have in common: who may come in, and what
// all requests may cost.
type door struct {
	recorder *telemetry.Recorder
	options  Options
	origins  origins
	// largest is the most bytes that a request's body may have.
	largest int
	// working bounds the bytes of requests being worked on, which take many
	// times their size in memory.
	working *semaphore.Weighted
	// post answers a POST request, and refuse one that is not executed at all,
	// each in the words of its protocol.
	post   func(http.ResponseWriter, *http.Request)
	refuse func(http.ResponseWriter, *http.Request, *refusal)
}

func newDoor(r *telemetry.Recorder, o Options) *door {
	if o.MaxBody <= 0 {
		o.MaxBody = limits.IntakeBodyBytes
	}
	if o.MaxEvents <= 0 {
		o.MaxEvents = limits.IntakeEvents
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	d := &door{
		recorder: r,
		options:  o,
		origins:  origins{},
		largest:  o.MaxBody,
		working:  semaphore.NewWeighted(max(limits.IntakeWorkingBytes, int64(o.MaxBody))),
	}
	for _, origin := range o.AllowedOrigins {
		if err := CheckOrigin(origin); err != nil {
			panic(fmt.Sprintf("intake: %v", err))
		}
		d.origins[origin] = true
	}
	return d
}

// call is what a request's context holds of it.
type call struct {
	// admin reports whether the request is an administrator's.
	admin func() bool
	// key is the idempotency key of the header, or "".
	key string
	// recorded says that recordEvents was called. Aliases of GraphQL could call
	// it as often as a request has room for, with the same events each time.
	recorded atomic.Bool
	// result is written by whoever records the events alone.
	result Request
}

type callKey struct{}

func callFrom(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	d.origins.allow(w, r)
	switch r.Method {
	case http.MethodPost:
		d.serve(w, r)
	case http.MethodOptions:
		if !d.origins[r.Header.Get("Origin")] {
			d.refuse(w, r, foreign)
			return
		}
		preflight(w)
	default:
		// Browsers let any page make a GET request, so it must do nothing.
		w.Header().Set("Allow", "OPTIONS, POST")
		http.Error(w, "this takes telemetry: send a POST request", http.StatusMethodNotAllowed)
	}
}

func (d *door) serve(w http.ResponseWriter, r *http.Request) {
	c := &call{
		admin: sync.OnceValue(func() bool { return d.options.Admin != nil && d.options.Admin(r) }),
		key:   r.Header.Get("Idempotency-Key"),
	}
	began := time.Now()
	answer := &response{ResponseWriter: w, status: http.StatusOK}
	if why := d.check(r, c); why != nil {
		d.refuse(answer, r, why)
	} else {
		ctx := interaction(context.WithValue(r.Context(), callKey{}, c), r)
		in := r.WithContext(ctx)
		in.Body = &body{http.MaxBytesReader(w, r.Body, int64(d.largest)), &c.result.Bytes}
		d.post(answer, in)
	}
	if d.options.OnRequest != nil {
		c.result.Status, c.result.Duration = answer.status, time.Since(began)
		d.options.OnRequest(r.Context(), c.result)
	}
}

// response remembers its status.
type response struct {
	http.ResponseWriter
	status int
}

func (r *response) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// body counts what is read of it.
type body struct {
	io.ReadCloser
	read *int
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	*b.read += n
	return n, err
}

// refusal is why a request is not executed at all.
type refusal struct {
	status  int
	message string
}

// check refuses what cannot be right, before any of the body is read.
func (d *door) check(r *http.Request, c *call) *refusal {
	switch {
	case !d.origins.takes(r):
		return foreign
	case r.ContentLength > int64(d.largest):
		return d.tooLarge()
	case len(c.key) > limits.IdempotencyKeyBytes:
		return &refusal{http.StatusBadRequest, keyTooLong}
	}
	return nil
}

var keyTooLong = fmt.Sprintf("the idempotency key is longer than %d bytes", limits.IdempotencyKeyBytes)

func (d *door) tooLarge() *refusal {
	return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is larger than %d bytes", d.options.MaxBody)}
}

func (d *door) tooMany(events int) string {
	return fmt.Sprintf("%d events are more than the %d that one call may have", events, d.options.MaxEvents)
}

// interaction returns ctx with the interaction that the client says it is in.
func interaction(ctx context.Context, r *http.Request) context.Context {
	id := r.Header.Get("X-Sourcegraph-Interaction-ID")
	if id == "" || len(id) > limits.InteractionIDBytes || !utf8.ValidString(id) {
		return ctx // it must not spoil every event
	}
	i := telemetry.InteractionFrom(ctx)
	i.ID = id
	return telemetry.WithInteraction(ctx, i)
}
