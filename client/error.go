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
	// like the request; or the provider of a service's tokens does not take its
	// client. The same request will be refused again.
	Refused Kind = "refused"
	// Busy: a limit of the gateway is reached.
	Busy Kind = "busy"
	// Broken: the gateway failed, or is stopping.
	Broken Kind = "broken"
	// NoToken: the service's TokenSource gave no token, and may the next time.
	NoToken Kind = "no_token"
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

	gateway  string
	text     string
	cause    error
	answered bool // the gateway had answered for some events
}

// Error says what went wrong and, where it can, what to do about it. It holds
// neither event content nor the licence key nor a token.
func (e *Error) Error() string {
	return fmt.Sprintf("send to %s: %s (request ID %s)", e.gateway, e.text, e.RequestID)
}

// Unwrap returns the error of the RPC stack, or of the context.
func (e *Error) Unwrap() error { return e.cause }

// SenderRefused reports whether the gateway refused who sends, or does not know
// such senders, before it took any event of the call. With another identity it
// may take the same events.
func (e *Error) SenderRefused() bool {
	return (e.Kind == Refused || e.Kind == Unsupported) && !e.answered
}

var (
	errNoAnswer       = errors.New("it ended the call before it had answered every message")
	errTooManyAnswers = errors.New("it answered more messages than were sent")
	errWrongAnswer    = errors.New("it gave a number of verdicts that is not the number of events")
	errSilent         = fmt.Errorf("something takes a call of gRPC and does not answer it within %s", askTimeout)
	errProxied        = errors.New("a proxy is set for it, and a proxy carries gRPC only to https gateways: use https, or exempt the gateway with NO_PROXY")
)

// failure is what an error means.
type failure struct {
	kind Kind
	text string
	// road is set if the call may get through with another protocol.
	road bool
}

// classify turns whatever ended a call into an Error. Unwrapping the result
// must not bring back what was taken out of its text.
func (s *call) classify(ctx context.Context, err error) *Error {
	e := &Error{RequestID: s.result.RequestID, gateway: s.client.url, cause: err, answered: s.answers > 0}
	f := failureOf(err)
	switch {
	case ctx.Err() != nil:
		e.cause = context.Cause(ctx)
		f = failure{kind: Canceled, text: "stopped before the gateway had answered: " + e.cause.Error()}
	case answerIn(err) != nil:
		e.RetryAfter = retryAfter(answerIn(err))
	case s.client.options.Protocol == GRPC && f.road:
		f.text += "; if something in between does not carry gRPC, use the protocol Auto or Connect"
	}
	e.Kind, e.text = f.kind, f.text
	if clean := s.redact(e.text); clean != e.text || s.redact(err.Error()) != err.Error() {
		e.text = clean
		e.cause = connect.NewError(connect.CodeOf(err), errors.New(clean))
	}
	return e
}

func failureOf(err error) failure {
	var both *bothFailed
	var token *tokenError
	var refusal *tokenRefusal
	switch rpc := answerIn(err); {
	case errors.As(err, &token) && errors.As(err, &refusal):
		return failure{kind: Refused, text: token.Error()}
	case errors.As(err, &token):
		return failure{kind: NoToken, text: token.Error()}
	case errors.As(err, &both):
		return both.failure()
	case errors.Is(err, errNoAnswer), errors.Is(err, errTooManyAnswers), errors.Is(err, errWrongAnswer):
		return failure{NotGateway, "the peer does not keep to the protocol: " + err.Error(), true}
	case errors.Is(err, errSilent):
		return failure{NotGateway, err.Error(), true}
	case errors.Is(err, errProxied):
		return failure{Unreachable, err.Error(), true}
	case rpc != nil:
		return answer(rpc)
	default:
		return transportFailure(err)
	}
}

// answerIn returns the error that the gateway itself sent, if it is one.
func answerIn(err error) *connect.Error {
	var rpc *connect.Error
	if errors.As(err, &rpc) && connect.IsWireError(rpc) {
		return rpc
	}
	return nil
}

// answer is what an error that the gateway itself sent means.
func answer(err *connect.Error) failure {
	switch err.Code() {
	case connect.CodeUnimplemented:
		return failure{kind: Unsupported, text: "the gateway cannot do this: " + err.Message()}
	case connect.CodeInvalidArgument, connect.CodeUnauthenticated, connect.CodePermissionDenied,
		connect.CodeFailedPrecondition, connect.CodeOutOfRange, connect.CodeNotFound, connect.CodeAlreadyExists:
		return failure{kind: Refused, text: "the gateway refused: " + err.Message()}
	case connect.CodeResourceExhausted:
		return failure{kind: Busy, text: "the gateway is at a limit: " + err.Message()}
	default:
		return failure{
			kind: Broken, text: fmt.Sprintf("the gateway failed (%s): %s", err.Code(), err.Message()),
			// So says a proxy too that knows gRPC when it cannot pass it on.
			road: err.Code() == connect.CodeUnavailable,
		}
	}
}

// transportFailure is what an error below the protocol means. Where neither
// net/http nor connect has a type for an error, its text must do; a test holds
// each of them.
func transportFailure(err error) failure {
	text := err.Error()
	if rpc := (*connect.Error)(nil); errors.As(err, &rpc) {
		text = rpc.Message() // without the code, which says nothing here
	}
	if post := (*url.Error)(nil); errors.As(err, &post) {
		text = post.Err.Error() // without the URL, which Error has anyway
	}
	has := func(s string) bool { return strings.Contains(text, s) }
	status := httpStatus(text)
	const noHTTP2 = "what answers does not speak HTTP/2, which gRPC needs"
	var (
		unknownCA x509.UnknownAuthorityError
		wrongName x509.HostnameError
		badCert   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		notTLS    tls.RecordHeaderError
		op        *net.OpError
		dns       *net.DNSError
		tunnel    *tunnelError
	)
	switch {
	case errors.As(err, &tunnel):
		return failure{kind: Unreachable, text: tunnel.Error()}
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return failure{kind: Unreachable, text: "cannot reach the proxy that is set for the gateway: " + op.Err.Error() + ": check HTTPS_PROXY and HTTP_PROXY"}
	case errors.As(err, &unknownCA):
		return failure{kind: Insecure, text: "the gateway's certificate is signed by an authority that is not trusted here: add that authority's certificate to the trusted roots"}
	case errors.As(err, &wrongName):
		return failure{kind: Insecure, text: "the gateway's certificate is for another name: " + wrongName.Error()}
	case errors.As(err, &badCert):
		return failure{kind: Insecure, text: "the gateway's certificate is not valid: " + badCert.Error()}
	case errors.As(err, &verify):
		return failure{kind: Insecure, text: "the gateway's certificate cannot be verified: " + verify.Err.Error()}
	case errors.As(err, &notTLS), has("server gave HTTP response to HTTPS client"):
		return failure{kind: Insecure, text: "the peer does not speak TLS on this port: use http:// if that is what you want, or the right port"}
	case has("TLS handshake timeout"):
		return failure{kind: Unreachable, text: "what answers does not go on with the TLS handshake: check the port, and whether it is http or https"}
	case has("no application protocol"):
		return failure{NotGateway, noHTTP2, true}
	case errors.As(err, &op) && op.Op == "remote error":
		return failure{kind: Insecure, text: "the gateway ended the TLS handshake: " + op.Err.Error()}
	case has("bidi streams require at least HTTP/2"):
		return failure{NotGateway, noHTTP2, true}
	case has("looked like an HTTP/1.1 header"), has("client conn could not be established"), has("frame too large"):
		// net/http has these texts for one and the same peer, as it comes.
		return failure{Unreachable, noHTTP2 + ": check the port, and whether it is http or https", true}
	case has("malformed HTTP"), has("readLoopPeekFailLocked: %!w(<nil>)"): // the latter if it speaks first
		return failure{NotGateway, "what answers does not speak HTTP: check the port, and whether it is http or https", true}
	case errors.As(err, &dns):
		return failure{kind: Unreachable, text: "cannot find the gateway: " + dns.Error()}
	case errors.As(err, &op) && op.Op == "dial":
		return failure{kind: Unreachable, text: "cannot reach the gateway: " + op.Error() + ": is it running, and is the address right?"}
	case has("no Grpc-Status trailer"):
		return failure{NotGateway, "something in between removes the trailers in which gRPC says how a call ended", true}
	case has("stream error: "), has("http2: server sent GOAWAY"):
		return failure{Broken, "the gateway, or a proxy before it, broke off the call: " + text, true}
	case status == http.StatusProxyAuthRequired:
		return failure{kind: Unreachable, text: "the proxy that is set for the gateway wants a user and a password: give them in HTTP_PROXY"}
	case status >= 500, status == http.StatusTooManyRequests, status == 464: // an AWS load balancer's for HTTP it cannot pass on
		return failure{Broken, "a proxy before the gateway, or something else on its port, answered: " + text, true}
	case status > 0, has("content-type"):
		return failure{NotGateway, "what answers is not a gateway: " + text + ": check the address, its port and its path, and whether it is http or https", true}
	default:
		return failure{Unreachable, "the connection broke: " + text + ": if it never worked, check the port, and whether it is http or https", true}
	}
}

// tunnelError is a proxy's answer when it was asked for a way to the gateway
// and gave none.
type tunnelError struct{ proxy, status string }

func (e *tunnelError) Error() string {
	text := fmt.Sprintf("the proxy %s, which is set for the gateway, does not let calls through; it answered: %s", e.proxy, e.status)
	if strings.HasPrefix(e.status, "407 ") {
		text += ": give its user and password in HTTPS_PROXY"
	}
	return text
}

func tunnelAnswered(_ context.Context, proxy *url.URL, _ *http.Request, r *http.Response) error {
	if r.StatusCode == http.StatusOK {
		return nil
	}
	return &tunnelError{proxy.Host, r.Status}
}

// httpStatus reads the status of a response that is no answer to a call, which
// is all of the error's text: "404 Not Found" over Connect, and with a few words
// in front over gRPC. It returns 0 for any other error.
func httpStatus(text string) int {
	number, _, _ := strings.Cut(strings.TrimPrefix(text, "HTTP status "), " ")
	status, err := strconv.Atoi(number)
	if err != nil || len(number) != 3 {
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
