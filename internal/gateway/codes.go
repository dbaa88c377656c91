// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// All RPC codes are chosen in this file, save those of the transport, which
// are in call.go, frame.go and stream.go.

// codeOf is the answer to a sender that is not let in.
var codeOf = map[identity.Reason]connect.Code{
	identity.Malformed:       connect.CodeInvalidArgument,
	identity.BadSignature:    connect.CodeInvalidArgument, // as clients in the field know it
	identity.Expired:         connect.CodePermissionDenied,
	identity.Revoked:         connect.CodePermissionDenied,
	identity.NotAllowed:      connect.CodePermissionDenied,
	identity.RateLimited:     connect.CodeResourceExhausted,
	identity.Unsupported:     connect.CodeUnimplemented,
	identity.Unauthenticated: connect.CodeUnauthenticated,
	identity.Unavailable:     connect.CodeUnavailable,
}

func refused(err error) error {
	var r *identity.Refusal
	if !errors.As(err, &r) {
		return connect.NewError(connect.CodeInternal, errors.New("the gateway could not tell who sends"))
	}
	e := connect.NewError(codeOf[r.Reason], r)
	if e.Code() == connect.CodeUnauthenticated {
		// HTTP asks for it beside status 401, which is how Connect says this.
		e.Meta().Set("WWW-Authenticate", "Bearer")
	}
	if r.RetryAfter > 0 {
		addRetryAfter(e, r.RetryAfter)
	}
	return e
}

// addRetryAfter tells both gRPC and plain HTTP clients when to come back.
func addRetryAfter(e *connect.Error, d time.Duration) {
	e.Meta().Set("Retry-After", strconv.Itoa(int(math.Ceil(d.Seconds()))))
	addDetail(e, &errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
}

func addDetail(e *connect.Error, m proto.Message) {
	if detail, err := connect.NewErrorDetail(m); err == nil {
		e.AddDetail(detail)
	}
}

func tooManyCalls(what string) error {
	e := connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("too many %s are open; come back later", what))
	addRetryAfter(e, retryAfter)
	return e
}

func invalid(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}

func unimplemented(format string, args ...any) error {
	return connect.NewError(connect.CodeUnimplemented, fmt.Errorf(format, args...))
}

func internal(format string, args ...any) error {
	return connect.NewError(connect.CodeInternal, fmt.Errorf(format, args...))
}

// unaryError is the answer to a single event that was not published, or nil.
// An event that is too large, or that the topic refuses, is no error, as
// clients in the field know it: they could not do better next time. The verdict
// goes with the error, so that no client has to read it from the text, or to
// tell an event that is kept as a dead letter from a call that failed.
func (v *verdict) unaryError(wait time.Duration) error {
	var e *connect.Error
	switch {
	case v.outcome == accepted, v.reason == limits.ReasonTooLarge, v.reason == limits.ReasonTopicRejected:
		return nil
	case v.outcome == deadLettered:
		field := "event"
		if v.field != "" {
			field += "." + v.field
		}
		e = connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s: %s %s", v.reason, field, v.message))
	default:
		code := connect.CodeUnavailable
		switch v.reason {
		case limits.ReasonCanceled:
			code = connect.CodeCanceled
		case limits.ReasonRateLimited:
			code = connect.CodeResourceExhausted
		}
		e = connect.NewError(code, fmt.Errorf("%s: %s", v.reason, v.message))
		addRetryAfter(e, wait)
	}
	addDetail(e, v.proto())
	return e
}
