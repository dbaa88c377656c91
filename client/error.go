// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Kind says why a call ended early, in a few stable words that suit a metric.
type Kind string

const (
	// Canceled: the caller's context ended.
	Canceled Kind = "canceled"
	// Unreachable: there is no connection that can be used, or it broke.
	Unreachable Kind = "unreachable"
	// Insecure: there is no TLS connection that can be trusted.
	Insecure Kind = "insecure"
	// NotGateway: the peer does not speak the protocol.
	NotGateway Kind = "not_gateway"
	// Unsupported: the gateway does not know the call, or this kind of sender.
	Unsupported Kind = "unsupported"
	// Refused: the gateway does not take events from this sender, or did not
	// like the request. The same request will be refused again.
	Refused Kind = "refused"
	// Busy: a limit of the gateway is reached.
	Busy Kind = "busy"
	// Broken: the gateway failed, or is stopping.
	Broken Kind = "broken"
)

// Error is why a call ended early. Events without a verdict from the gateway
// are Failed in the Result.
type Error struct {
	// Kind is the class of error.
	Kind Kind
	// RequestID names the call in the gateway's logs.
	RequestID string
	// RetryAfter is how long the gateway asks to wait; 0 if it did not say.
	RetryAfter time.Duration

	gateway string
	text    string
	cause   error
}

// Error says what went wrong and, where it can, what to do about it. It holds
// neither event content nor the licence key.
func (e *Error) Error() string {
	return fmt.Sprintf("send to %s: %s (request ID %s)", e.gateway, e.text, e.RequestID)
}

// Unwrap returns the error of the RPC stack, or of the context.
func (e *Error) Unwrap() error { return e.cause }

var (
	errNoAnswer       = errors.New("it ended the call before it had answered every message")
	errTooManyAnswers = errors.New("it answered more messages than were sent")
	errWrongAnswer    = errors.New("it gave a number of verdicts that is not the number of events")
)

// classify turns whatever ended a call into an Error. Unwrapping the result
// must not bring back what was taken out of its text.
func (c *Client) classify(ctx context.Context, err error) *Error {
	e := &Error{gateway: c.url, cause: err}
	var rpc *connect.Error
	errors.As(err, &rpc)
	switch {
	case ctx.Err() != nil:
		e.Kind, e.cause = Canceled, context.Cause(ctx)
		e.text = "stopped before the gateway had answered: " + e.cause.Error()
	case errors.Is(err, errNoAnswer), errors.Is(err, errTooManyAnswers), errors.Is(err, errWrongAnswer):
		e.Kind, e.text = NotGateway, "the peer does not keep to the protocol: "+err.Error()
	case rpc != nil && connect.IsWireError(rpc):
		e.Kind, e.text = answer(rpc)
		e.RetryAfter = retryAfter(rpc)
	default:
		e.Kind, e.text = transportError(err)
	}
	if clean := c.identity.redact(e.text); clean != e.text || c.identity.redact(err.Error()) != err.Error() {
		e.text = clean
		e.cause = connect.NewError(connect.CodeOf(err), errors.New(clean))
	}
	return e
}

// answer is what an error that the gateway itself sent means.
func answer(err *connect.Error) (Kind, string) {
	switch err.Code() {
	case connect.CodeUnimplemented:
		return Unsupported, "the gateway cannot do this: " + err.Message()
	case connect.CodeInvalidArgument, connect.CodeUnauthenticated, connect.CodePermissionDenied,
		connect.CodeFailedPrecondition, connect.CodeOutOfRange, connect.CodeNotFound, connect.CodeAlreadyExists:
		return Refused, "the gateway refused: " + err.Message()
	case connect.CodeResourceExhausted:
		return Busy, "the gateway is at a limit: " + err.Message()
	default:
		return Broken, fmt.Sprintf("the gateway failed (%s): %s", err.Code(), err.Message())
	}
}

// transportError is what an error below the protocol means. Where neither
// net/http nor connect has a type for an error, its text must do; a test holds
// each of them.
func transportError(err error) (Kind, string) {
	text := err.Error()
	if rpc := (*connect.Error)(nil); errors.As(err, &rpc) {
		text = rpc.Message() // without the code, which says nothing here
	}
	if post := (*url.Error)(nil); errors.As(err, &post) {
		text = post.Err.Error() // without the URL, which Error has anyway
	}
	has := func(s string) bool { return strings.Contains(text, s) }
	status := httpStatus(text)
	var (
		unknownCA  x509.UnknownAuthorityError
		wrongName  x509.HostnameError
		badCert    x509.CertificateInvalidError
		verify     *tls.CertificateVerificationError
		notTLS     tls.RecordHeaderError
		op         *net.OpError
		dns        *net.DNSError
		needsHTTP2 = "; if a proxy in between only does HTTP/1.1, use the protocol Connect"
	)
	switch {
	case errors.As(err, &unknownCA):
		return Insecure, "the gateway's certificate is signed by an authority that is not trusted here: add that authority's certificate to the trusted roots"
	case errors.As(err, &wrongName):
		return Insecure, "the gateway's certificate is for another name: " + wrongName.Error()
	case errors.As(err, &badCert):
		return Insecure, "the gateway's certificate is not valid: " + badCert.Error()
	case errors.As(err, &verify):
		return Insecure, "the gateway's certificate cannot be verified: " + verify.Err.Error()
	case errors.As(err, &notTLS), has("server gave HTTP response to HTTPS client"):
		return Insecure, "the peer does not speak TLS on this port: use http:// if that is what you want, or the right port"
	case has("no application protocol"):
		return NotGateway, "the peer does not speak HTTP/2" + needsHTTP2
	case errors.As(err, &op) && op.Op == "remote error":
		return Insecure, "the gateway ended the TLS handshake: " + op.Err.Error()
	case has("bidi streams require at least HTTP/2"):
		return NotGateway, "the peer speaks HTTP/1.1, not HTTP/2" + needsHTTP2
	case has("looked like an HTTP/1.1 header"), has("client conn could not be established"), has("frame too large"):
		// net/http has these texts for one and the same peer, as it comes.
		return Unreachable, "the peer does not speak HTTP/2: check the port, and whether it is http or https" + needsHTTP2
	case errors.As(err, &dns):
		return Unreachable, "cannot find the gateway: " + dns.Error()
	case errors.As(err, &op) && op.Op == "dial":
		return Unreachable, "cannot reach the gateway: " + op.Error() + ": is it running, and is the address right?"
	case has("stream error: "), has("http2: server sent GOAWAY"):
		return Broken, "the gateway, or a proxy before it, broke off the call: " + text
	case status >= 500, status == http.StatusTooManyRequests:
		return Broken, "a proxy before the gateway, or something else on its port, answered: " + text
	case status > 0, has("content-type"):
		return NotGateway, "what answers is not a gateway: " + text + ": check the address and its path"
	default:
		return Unreachable, "the connection broke: " + text + ": if it never worked, check the port, and whether it is http or https"
	}
}

// httpStatus reads the status of a response that is no answer to a call, which
// is all of the error's text: "404 Not Found" over Connect, and with a few words
// in front over gRPC. It returns 0 for any other error.
func httpStatus(text string) int {
	number, name, _ := strings.Cut(strings.TrimPrefix(text, "HTTP status "), " ")
	status, err := strconv.Atoi(number)
	if err != nil || name != http.StatusText(status) {
		return 0
	}
	return status
}

// retryAfter reads what a refusal says about when to come back: a RetryInfo
// detail, as gRPC has it, or the header that HTTP has.
func retryAfter(err *connect.Error) time.Duration {
	for _, d := range err.Details() {
		if d.Type() != "google.rpc.RetryInfo" {
			continue
		}
		// RetryInfo has one field: retry_delay, a Duration, number 1.
		num, typ, n := protowire.ConsumeTag(d.Bytes())
		if n < 0 || num != 1 || typ != protowire.BytesType {
			continue
		}
		b, m := protowire.ConsumeBytes(d.Bytes()[n:])
		var delay durationpb.Duration
		if m < 0 || proto.Unmarshal(b, &delay) != nil || !delay.IsValid() {
			continue
		}
		return max(0, delay.AsDuration())
	}
	if s, convErr := strconv.ParseUint(err.Meta().Get("Retry-After"), 10, 31); convErr == nil {
		return time.Duration(s) * time.Second
	}
	return 0
}
