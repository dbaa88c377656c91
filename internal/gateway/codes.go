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
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// All RPC codes are chosen in this file, save those of the transport, which
// are in call.go, frame.go and stream.go.

// codeOf is the answer to a sender that is not let in.
var codeOf = map[identity.Reason]connect.Code{
	identity.Malformed:    connect.CodeInvalidArgument,
	identity.BadSignature: connect.CodeInvalidArgument, // as clients in the field know it
	identity.Expired:      connect.CodePermissionDenied,
	identity.Revoked:      connect.CodePermissionDenied,
	identity.NotAllowed:   connect.CodePermissionDenied,
	identity.RateLimited:  connect.CodeResourceExhausted,
	identity.Unsupported:  connect.CodeUnimplemented,
}

func refused(err error) error {
	var r *identity.Refusal
	if !errors.As(err, &r) {
		return connect.NewError(connect.CodeInternal, errors.New("the gateway could not tell who sends"))
	}
	e := connect.NewError(codeOf[r.Reason], r)
	if r.RetryAfter > 0 {
		addRetryAfter(e, r.RetryAfter)
	}
	return e
}

// addRetryAfter tells both gRPC and plain HTTP clients when to come back.
func addRetryAfter(e *connect.Error, d time.Duration) {
	e.Meta().Set("Retry-After", strconv.Itoa(int(math.Ceil(d.Seconds()))))
	if detail, err := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)}); err == nil {
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
// clients in the field know it: they could not do better next time.
func (v *verdict) unaryError(wait time.Duration) error {
	var code connect.Code
	switch {
	case v.outcome == accepted, v.reason == limits.ReasonTooLarge, v.reason == limits.ReasonTopicRejected:
		return nil
	case v.outcome == deadLettered:
		field := "event"
		if v.field != "" {
			field += "." + v.field
		}
		return invalid("%s: %s %s", v.reason, field, v.message)
	case v.reason == limits.ReasonCanceled:
		code = connect.CodeCanceled
	case v.reason == limits.ReasonRateLimited:
		code = connect.CodeResourceExhausted
	default:
		code = connect.CodeUnavailable
	}
	e := connect.NewError(code, fmt.Errorf("%s: %s", v.reason, v.message))
	addRetryAfter(e, wait)
	return e
}
