// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/graph-gophers/graphql-go"
	gqlerrors "github.com/graph-gophers/graphql-go/errors"
	"golang.org/x/sync/semaphore"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

type handler struct {
	options Options
	origins origins
	schema  *graphql.Schema
	// working bounds the bytes of requests being worked on, which take many
	// times their size in memory.
	working *semaphore.Weighted
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	h.origins.allow(w, r)
	switch r.Method {
	case http.MethodPost:
		h.post(w, r)
	case http.MethodOptions:
		h.origins.preflight(w, r)
	default:
		// Browsers let any page make a GET request, so it must do nothing.
		w.Header().Set("Allow", "OPTIONS, POST")
		http.Error(w, "this is a GraphQL endpoint for telemetry: send a POST request", http.StatusMethodNotAllowed)
	}
}

func (h *handler) post(w http.ResponseWriter, r *http.Request) {
	c := &call{
		admin: sync.OnceValue(func() bool { return h.options.Admin != nil && h.options.Admin(r) }),
		key:   r.Header.Get("Idempotency-Key"),
	}
	began := time.Now()
	status, response := h.answer(w, r, c)
	write(w, status, response)
	if h.options.OnRequest != nil {
		c.result.Status, c.result.Duration = status, time.Since(began)
		h.options.OnRequest(r.Context(), c.result)
	}
}

func write(w http.ResponseWriter, status int, response []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(response) // the client is gone if this fails
}

// refusal is why a request is not executed at all.
type refusal struct {
	status  int
	message string
}

// answer is the status and the body of the response.
func (r *refusal) answer() (status int, response []byte) {
	return r.status, encode(&graphql.Response{Errors: []*gqlerrors.QueryError{{
		Message: r.message, Extensions: (&fault{code: codeBadRequest}).Extensions(),
	}}})
}

// answer does what r asks for, and returns the status and the body of the
// response.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, c *call) (status int, response []byte) {
	if why := h.check(r, c); why != nil {
		return why.answer()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(h.options.MaxBody)))
	c.result.Bytes = len(body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return h.tooLarge().answer()
	case err != nil:
		return (&refusal{http.StatusBadRequest, "the request ended early"}).answer()
	}
	ctx := interaction(context.WithValue(r.Context(), callKey{}, c), r)
	if err := h.working.Acquire(ctx, int64(len(body))); err != nil {
		return (&refusal{http.StatusServiceUnavailable, "the request was given up"}).answer()
	}
	defer h.working.Release(int64(len(body)))
	op, why := parse(body)
	if why != nil {
		return why.answer()
	}
	return http.StatusOK, encode(h.execute(ctx, op))
}

// check refuses what cannot be right, before any of the body is read.
func (h *handler) check(r *http.Request, c *call) *refusal {
	if !h.origins.takes(r) {
		return foreign
	}
	// Pages can send text/plain, and some clients do, as they set no type. It
	// is as safe as JSON, because all pages are told by their origin.
	media := r.Header.Get("Content-Type")
	if media != "" {
		var err error
		if media, _, err = mime.ParseMediaType(media); err != nil {
			media = "unreadable"
		}
	}
	switch media {
	case "", "application/json", "text/plain":
	default:
		return &refusal{http.StatusUnsupportedMediaType, "the content type must be application/json"}
	}
	switch encoding := r.Header.Get("Content-Encoding"); {
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return &refusal{http.StatusUnsupportedMediaType, "requests are not taken compressed"}
	case r.ContentLength > int64(h.options.MaxBody):
		return h.tooLarge()
	case len(c.key) > limits.IdempotencyKeyBytes:
		return &refusal{http.StatusBadRequest, fmt.Sprintf("Idempotency-Key is longer than %d bytes", limits.IdempotencyKeyBytes)}
	}
	return nil
}

func (h *handler) tooLarge() *refusal {
	return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is larger than %d bytes", h.options.MaxBody)}
}

// operation is the body of a request.
type operation struct {
	Query         string
	OperationName string
	Variables     any
}

// parse reads the body of a request. Why it refuses one quotes none of it.
func parse(body []byte) (*operation, *refusal) {
	bad := func(message string) *refusal { return &refusal{http.StatusBadRequest, message} }
	switch {
	case !utf8.Valid(body):
		return nil, bad("the request is not valid UTF-8")
	case bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")):
		return nil, bad("requests are not taken in batches: send one operation, with all its events")
	case !json.Valid(body):
		return nil, bad("the request is not JSON")
	}
	var op operation
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&op); err != nil {
		return nil, bad(`the request is not an object with "query", "variables" and perhaps "operationName"`)
	}
	left := limits.IntakeValues
	op.Variables = readVariables(op.Variables, &left)
	switch _, isObject := op.Variables.(map[string]any); {
	case op.Query == "":
		return nil, bad("the request has no query")
	case op.Variables != nil && !isObject:
		return nil, bad("the variables are not an object")
	case left < 0:
		return nil, bad(fmt.Sprintf("the variables have more than %d values", limits.IntakeValues))
	}
	return &op, nil
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

// execute runs op and returns what the client is to see of it.
func (h *handler) execute(ctx context.Context, op *operation) (response *graphql.Response) {
	defer func() {
		// The library panics on some literals that it has not validated yet.
		if value := recover(); value != nil {
			h.LogPanic(ctx, value)
			response = &graphql.Response{Errors: []*gqlerrors.QueryError{h.MakePanicError(ctx, value)}}
		}
	}()
	variables, _ := op.Variables.(map[string]any)
	response = h.schema.Exec(ctx, op.Query, op.OperationName, variables)
	var errs []*gqlerrors.QueryError
	for _, e := range response.Errors {
		if invalid, ok := e.ResolverError.(invalidEvents); ok {
			for _, v := range invalid {
				errs = append(errs, invalidEvent(v, e))
			}
			continue
		}
		if len(errs) < limits.IntakeErrors {
			errs = append(errs, discreet(e))
		}
	}
	response.Errors = errs
	return response
}

// invalidEvent is the error for v, where e stands for all invalid events.
func invalidEvent(v telemetry.InvalidEvent, e *gqlerrors.QueryError) *gqlerrors.QueryError {
	extensions := map[string]any{"code": codeInvalid, "index": v.Index, "reason": v.Reason}
	if v.Field != "" {
		extensions["field"] = v.Field
	}
	return &gqlerrors.QueryError{Message: v.String(), Path: e.Path, Locations: e.Locations, Extensions: extensions}
}

// discreet returns e without the values of variables and literals, which the
// library quotes: clients log errors.
func discreet(e *gqlerrors.QueryError) *gqlerrors.QueryError {
	switch {
	case e.ResolverError != nil:
		return e
	case e.Rule == "VariablesOfCorrectType":
		e.Message, _, _ = strings.Cut(e.Message, ", found ")
	case strings.HasPrefix(e.Message, "could not unmarshal "), strings.Contains(e.Rule, "ValuesOfCorrectType"):
		e.Message = "a value does not have the type that the schema says"
	case strings.HasPrefix(e.Message, `syntax error: unexpected "\"`):
		e.Message = "syntax error: unexpected text"
	}
	if e.Extensions == nil {
		e.Extensions = (&fault{code: codeBadRequest}).Extensions()
	}
	const longest = 500
	if len(e.Message) > longest {
		e.Message = strings.ToValidUTF8(e.Message[:longest], "") + "…"
	}
	return e
}

// LogPanic and MakePanicError keep what a panic says from logs and clients: it
// may quote what was sent.
func (h *handler) LogPanic(ctx context.Context, value any) {
	h.options.Logger.ErrorContext(ctx, "request panicked", "type", fmt.Sprintf("%T", value))
}

func (h *handler) MakePanicError(context.Context, any) *gqlerrors.QueryError {
	return &gqlerrors.QueryError{Message: "the request cannot be executed", Extensions: (&fault{code: codeBadRequest}).Extensions()}
}

func encode(response *graphql.Response) []byte {
	encoded, err := json.Marshal(response)
	if err != nil {
		return []byte(`{"errors":[{"message":"the response cannot be encoded"}]}`)
	}
	return encoded
}
