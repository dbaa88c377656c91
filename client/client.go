// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package client sends events to a telemetry gateway: it is the protocol
// telemetrygateway.v1 as a sender sees it.
//
// Say where the gateway is and who sends, then send:
//
//	c, err := client.New("https://telemetry.example.com",
//		client.Licensed(key, siteID, externalURL), client.Options{})
//	...
//	defer c.Close()
//	result, err := c.Send(ctx, events...)
//	for i, v := range result.Verdicts {
//		if v.Outcome == client.Failed {
//			again = append(again, events[i])
//		}
//	}
//
// The result says what became of each event, and it is right even when err is
// not nil: a call that broke in the middle has delivered what was acknowledged
// before. Accepted and DeadLettered events are durable at the gateway, and so
// is the acknowledgement's promise; Failed ones are to be sent again, with the
// same ID, which is always safe because the gateway's readers tell events apart
// by sender and ID.
//
// # Services
//
// A service proves who it is with access tokens from an OAuth 2.0 provider:
//
//	tokens, err := client.ClientCredentials{
//		TokenURL: "https://accounts.example.com/oauth/token", ClientID: id, ClientSecret: secret,
//	}.TokenSource()
//	...
//	c, err := client.New("https://telemetry.example.com", client.Service("pings", "prod", tokens), client.Options{})
//
// Tokens are kept, renewed ahead of their end, and replaced when the gateway
// does not take one any more; Send knows no more of it than an error when there
// is no token to be had.
//
// What a service records can go three ways. All of them are stores of a
// recorder, so that one is exchanged for another in one line:
//
//   - this Client itself, when whoever records is to wait until the gateway has
//     the event, and is to hear of it when it does not;
//   - package buffer, when nobody is to wait, and a crash may cost the events of
//     a moment;
//   - package queue, which is a database, with package exporter, when nobody is
//     to wait and nothing may be lost.
//
// # What holds
//
//   - An event is reported as Accepted or DeadLettered only when the gateway
//     said so. What is not known is Failed.
//   - One call is one attempt. When to try again, and what to do meanwhile, is
//     the business of whoever keeps the events; Result.RetryAfter and
//     Error.RetryAfter are what the gateway asks for. Only what a gateway has
//     turned down for the token, or has answered to a single event in a way that
//     old gateways do and that leaves open what it means, is sent again in the
//     same call.
//   - Memory does not grow with the number of events, beyond 56 bytes of result
//     for each: events are encoded as they are sent, a message at a time.
//   - Licence keys, client secrets and tokens are in no error, no verdict and no
//     formatted value of this package. Tokens and client secrets do not leave
//     this machine over http unless an option says so.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
)

// Defaults and bounds of Options.
const (
	// DefaultMessageBytes is the size at which a message is sent off.
	DefaultMessageBytes = 1 << 20
	// DefaultMaxMessageBytes is the largest message that a gateway takes unless
	// its operator set another limit.
	DefaultMaxMessageBytes = 4 << 20
	// MaxMessageEvents is how many events a gateway takes in one message.
	MaxMessageEvents = 20_000

	// maxResponseBytes bounds the answer to one message. A verdict with all its
	// fields filled takes about 600 bytes.
	maxResponseBytes = 32 << 20

	// idleTimeout is how long connections are kept unused, which cost the gateway
	// something as well.
	idleTimeout = time.Minute
)

// Protocol is how a client talks to the gateway.
type Protocol int

const (
	// GRPC streams messages over one gRPC call. It needs HTTP/2 all the way to
	// the gateway.
	GRPC Protocol = iota
	// Connect sends each message in a request of its own, which passes any
	// proxy. It does HTTP/1.1, and HTTP/2 where TLS negotiates it.
	Connect
	// Auto is GRPC where that gets through, and else Connect over HTTP/1.1. It
	// asks before it sends: with a call of gRPC that holds no event, so that none
	// is ever sent both ways. Where gRPC does not get through it asks again
	// after an hour.
	Auto
)

// Compression is when messages are compressed, with gzip. Small messages never
// are.
type Compression int

const (
	// CompressRemote compresses unless the gateway is on this machine, where
	// bytes cost less than compressing them, or has the old service name, where
	// it may not know gzip.
	CompressRemote Compression = iota
	// CompressAlways compresses.
	CompressAlways
	// CompressNever does not.
	CompressNever
)

// Options change how a Client sends. The zero value is right for most.
type Options struct {
	// Protocol is GRPC unless set.
	Protocol Protocol
	// OldServiceName calls the service under the misspelt name that gateways
	// had at first, for gateways that know no other. It needs GRPC.
	OldServiceName bool
	// TLS is for https gateways: extra roots, client certificates. Nil means
	// the system's roots.
	TLS *tls.Config
	// Proxy returns the proxy for a request, or nil for none:
	// http.ProxyFromEnvironment if unset, which goes by HTTPS_PROXY, HTTP_PROXY
	// and NO_PROXY. A proxy carries an https gateway's calls unseen; an http
	// gateway's only over Connect.
	Proxy func(*http.Request) (*url.URL, error)
	// Compression is CompressRemote unless set.
	Compression Compression
	// MessageBytes is the size in bytes that a message with more than one event
	// stays within: DefaultMessageBytes if 0.
	MessageBytes int
	// MessageEvents is the most events in one message: MaxMessageEvents if 0.
	MessageEvents int
	// MaxMessageBytes is the largest message that the gateway takes, in bytes:
	// DefaultMaxMessageBytes if 0. An event that cannot fit is not sent and is
	// reported as Unsendable.
	MaxMessageBytes int
	// AllowCleartextToken lets a service's access token travel over http to other
	// machines, where whoever carries it can read and use it. Without it New
	// refuses such a gateway.
	AllowCleartextToken bool
	// OnVerdicts, if set, is called as soon as the gateway has answered a
	// message, with the verdicts on the events from index first on. Within one
	// call to Send it is never called twice at once, and Send does not return
	// while it runs. It must not keep the slice.
	OnVerdicts func(first int, verdicts []Verdict)
}

// Client sends events to one gateway as one sender. It may be used by several
// goroutines at once, and shares one connection between them where it can.
type Client struct {
	url      string
	identity Identity
	options  Options
	proxied  bool // by a proxy that sees the requests themselves
	road     road
	grpc     struct { // unset with the protocol Connect
		stream *connect.Client[message, telemetrygatewayv1.RecordEventsResponse]
		event  *connect.Client[message, telemetrygatewayv1.RecordEventResponse]
	}
	connect struct { // unset with the protocol GRPC
		batch *connect.Client[message, telemetrygatewayv1.RecordEventBatchResponse]
		event *connect.Client[message, telemetrygatewayv1.RecordEventResponse]
	}
	noEvent atomic.Bool               // the gateway has no RecordEvent
	denied  atomic.Pointer[time.Time] // when a token was last forgotten for being denied permission
	http    []*http.Client
	idle    *time.Timer // closes connections that have not been used for a while
}

// New returns a client for the gateway at an http or https URL. It does not
// connect: the first Send does. Over http nothing is encrypted, the licence key
// included; a service's token is only sent that way within this machine, unless
// Options.AllowCleartextToken is set.
func New(gatewayURL string, id Identity, o Options) (*Client, error) {
	u, err := parseURL(gatewayURL)
	if err != nil {
		return nil, err
	}
	if err := id.check(); err != nil {
		return nil, err
	}
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	proxy, err := o.Proxy(&http.Request{URL: u})
	if err != nil {
		// The error quotes the proxy's URL, which may hold a password.
		return nil, errors.New("the proxy for the gateway cannot be parsed: check HTTPS_PROXY and HTTP_PROXY")
	}
	if id.tokens != nil && exposed(u, proxy) && !o.AllowCleartextToken {
		return nil, errors.New("the gateway URL is http, over which anyone on the way can read the service's access token: use https, or where the network is trusted set AllowCleartextToken")
	}
	c := &Client{
		url:      strings.TrimRight(u.String(), "/"),
		identity: id,
		options:  o,
		proxied:  proxy != nil && u.Scheme == "http",
	}
	rpc := connect.WithClientOptions(connect.WithCodec(wireCodec{}), connect.WithReadMaxBytes(maxResponseBytes))
	if o.compresses(u) {
		rpc = connect.WithClientOptions(rpc, withGzip())
	}
	if o.Protocol != Connect {
		stream, event := telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventsProcedure, telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventProcedure
		if o.OldServiceName {
			stream, event = telemetrygatewayv1connect.TelemeteryGatewayServiceRecordEventsProcedure, telemetrygatewayv1connect.TelemeteryGatewayServiceRecordEventProcedure
		}
		h := c.over(false, true)
		c.grpc.stream = connect.NewClient[message, telemetrygatewayv1.RecordEventsResponse](h, c.url+stream, rpc, connect.WithGRPC())
		c.grpc.event = connect.NewClient[message, telemetrygatewayv1.RecordEventResponse](h, c.url+event, rpc, connect.WithGRPC())
	}
	if o.Protocol != GRPC {
		// Auto uses it where something in between has trouble with HTTP/2.
		h := c.over(true, o.Protocol == Connect)
		c.connect.batch = connect.NewClient[message, telemetrygatewayv1.RecordEventBatchResponse](
			h, c.url+telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventBatchProcedure, rpc)
		c.connect.event = connect.NewClient[message, telemetrygatewayv1.RecordEventResponse](
			h, c.url+telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventProcedure, rpc)
	}
	c.idle = time.AfterFunc(idleTimeout, c.closeIdle)
	return c, nil
}

// Send sends events in one call and returns what became of each, in the order
// given. It blocks until the gateway has answered or ctx ends; without a
// deadline in ctx, a gateway that stays connected and silent is waited for.
//
// The error, always an *Error, says why the call as a whole ended early. That
// single events were not accepted is no error: see Result.
func (c *Client) Send(ctx context.Context, events ...*telemetrygatewayv1.Event) (Result, error) {
	return c.send(ctx, decoded(events))
}

// SendEncoded is Send for events in the wire format of protobuf, as queues keep
// them. Only what the gateway says is reported: bytes that are no event become
// a dead letter there.
func (c *Client) SendEncoded(ctx context.Context, events ...[]byte) (Result, error) {
	return c.send(ctx, encoded(events))
}

// Close closes idle connections. It does not end calls that are under way.
func (c *Client) Close() {
	c.idle.Stop()
	c.closeIdle()
}

func (c *Client) closeIdle() {
	for _, h := range c.http {
		h.CloseIdleConnections()
	}
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		// The error of url.Parse quotes the URL, which may hold a password.
		return nil, errors.New("gateway URL cannot be parsed: give one such as https://telemetry.example.com")
	case u.User != nil:
		return nil, errors.New("gateway URL must not hold a user or password")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("gateway URL %q: give one such as https://telemetry.example.com or http://127.0.0.1:6080", s)
	}
	return u, nil
}

func (o *Options) setDefaults() error {
	for _, d := range []struct {
		name  string
		value *int
		def   int
	}{
		{"MessageBytes", &o.MessageBytes, DefaultMessageBytes},
		{"MessageEvents", &o.MessageEvents, MaxMessageEvents},
		{"MaxMessageBytes", &o.MaxMessageBytes, DefaultMaxMessageBytes},
	} {
		if *d.value < 0 {
			return fmt.Errorf("client option %s is negative", d.name)
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if o.MessageEvents > MaxMessageEvents {
		return fmt.Errorf("client option MessageEvents is %d: a gateway takes at most %d events in a message", o.MessageEvents, MaxMessageEvents)
	}
	o.MessageBytes = min(o.MessageBytes, o.MaxMessageBytes)
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	switch {
	case o.Protocol < GRPC || o.Protocol > Auto:
		return fmt.Errorf("client option Protocol is %d: give GRPC, Connect or Auto", o.Protocol)
	case o.Compression < CompressRemote || o.Compression > CompressNever:
		return fmt.Errorf("client option Compression is %d: give CompressRemote, CompressAlways or CompressNever", o.Compression)
	case o.Protocol != GRPC && o.OldServiceName:
		return errors.New("client option OldServiceName needs the protocol GRPC: gateways of that time have no call for batches")
	}
	return nil
}

// over returns an HTTP client, closed by Close, for the versions of HTTP that a
// protocol needs and no others, so that a peer that cannot is found out at once.
func (c *Client) over(http1, http2 bool) *http.Client {
	versions := new(http.Protocols)
	versions.SetHTTP1(http1)
	versions.SetHTTP2(http2)
	// Without TLS nothing tells which of the two the peer speaks.
	versions.SetUnencryptedHTTP2(http2 && !http1)
	t := &http.Transport{
		Protocols:              versions,
		Proxy:                  c.options.Proxy,
		OnProxyConnectResponse: tunnelAnswered,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		// No IdleConnTimeout: of an HTTP/2 connection net/http counts it from when
		// the connection was made, and then dials although that is in use.
		MaxIdleConnsPerHost:   8,
		ExpectContinueTimeout: time.Second,
		// A connection that a firewall dropped without a word is noticed by its
		// silence: half a minute, then the call fails and can be made again.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 20 * time.Second, PingTimeout: 10 * time.Second},
	}
	if c.options.TLS != nil {
		t.TLSClientConfig = c.options.TLS.Clone()
	}
	h := &http.Client{
		Transport: t,
		// Following a redirect would hand the licence key, or the token, to someone
		// else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.http = append(c.http, h)
	return h
}
