// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/graph-gophers/graphql-go"
	gqlerrors "github.com/graph-gophers/graphql-go/errors"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

//go:embed schema.graphql
var schema string

// GraphQL returns a handler that records what clients send with r. It is made
// for the path /.api/graphql, which clients know, takes POST requests and
// answers browsers' preflight requests.
//
// The handler asks nobody to sign in. Put it behind what the application does
// to know its users, which puts an Actor into the request's context. It panics
// if an origin does not pass CheckOrigin.
func GraphQL(r *telemetry.Recorder, o Options) http.Handler {
	h := &graphQL{door: newDoor(r, o)}
	h.post, h.refuse = h.answer, h.refused
	h.schema = graphql.MustParseSchema(schema, &root{h},
		graphql.UseStringDescriptions(),
		graphql.UseFieldResolvers(),
		graphql.DisableFieldSelections(),
		graphql.MaxQueryLength(limits.IntakeQueryBytes),
		graphql.MaxDepth(limits.IntakeDepth),
		graphql.MaxSelections(limits.IntakeSelections),
		graphql.OverlapValidationLimit(limits.IntakeSelections),
		graphql.RestrictIntrospection(func(ctx context.Context) bool { return callFrom(ctx).admin() }),
		graphql.Logger(h),
		graphql.PanicHandler(h),
	)
	return h
}

type graphQL struct {
	*door
	schema *graphql.Schema
}

// answer answers a POST request.
func (h *graphQL) answer(w http.ResponseWriter, r *http.Request) {
	response, why := h.response(r)
	if why != nil {
		h.refused(w, r, why)
		return
	}
	write(w, http.StatusOK, response)
}

func (h *graphQL) refused(w http.ResponseWriter, _ *http.Request, why *refusal) {
	write(w, why.status, &graphql.Response{Errors: []*gqlerrors.QueryError{{
		Message: why.message, Extensions: (&fault{code: codeBadRequest}).Extensions(),
	}}})
}

func write(w http.ResponseWriter, status int, response *graphql.Response) {
	encoded, err := json.Marshal(response)
	if err != nil {
		encoded = []byte(`{"errors":[{"message":"the response cannot be encoded"}]}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(encoded) // the client is gone if this fails
}

// response does what r asks for.
func (h *graphQL) response(r *http.Request) (*graphql.Response, *refusal) {
	if why := checkForm(r); why != nil {
		return nil, why
	}
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, h.tooLarge()
	case err != nil:
		return nil, &refusal{http.StatusBadRequest, "the request ended early"}
	}
	if err := h.working.Acquire(r.Context(), int64(len(body))); err != nil {
		return nil, &refusal{http.StatusServiceUnavailable, "the request was given up"}
	}
	defer h.working.Release(int64(len(body)))
	op, why := parse(body)
	if why != nil {
		return nil, why
	}
	return h.execute(r.Context(), op), nil
}

// checkForm refuses what is not GraphQL by its headers.
func checkForm(r *http.Request) *refusal {
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
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return &refusal{http.StatusUnsupportedMediaType, "requests are not taken compressed"}
	}
	return nil
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

// execute runs op and returns what the client is to see of it.
func (h *graphQL) execute(ctx context.Context, op *operation) (response *graphql.Response) {
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
func (h *graphQL) LogPanic(ctx context.Context, value any) {
	h.options.Logger.ErrorContext(ctx, "request panicked", "type", fmt.Sprintf("%T", value))
}

func (h *graphQL) MakePanicError(context.Context, any) *gqlerrors.QueryError {
	return &gqlerrors.QueryError{Message: "the request cannot be executed", Extensions: (&fault{code: codeBadRequest}).Extensions()}
}
