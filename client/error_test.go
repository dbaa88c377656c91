// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// peer is something at the other end of a connection: h over the given
// versions of HTTP, with TLS or without. It returns the URL and the roots that
// trust it.
func peer(t *testing.T, h http.Handler, withTLS bool, versions func(*http.Protocols)) (string, *tls.Config) {
	t.Helper()
	ts := httptest.NewUnstartedServer(h)
	return start(t, ts, withTLS, versions)
}

func start(t *testing.T, ts *httptest.Server, withTLS bool, versions func(*http.Protocols)) (string, *tls.Config) {
	t.Helper()
	ts.Config.Protocols = new(http.Protocols)
	versions(ts.Config.Protocols)
	ts.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(ts.Close)
	if !withTLS {
		ts.Start()
		return ts.URL, nil
	}
	ts.EnableHTTP2 = ts.Config.Protocols.HTTP2()
	ts.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(ts.Certificate())
	return ts.URL, &tls.Config{RootCAs: roots}
}

func http1(p *http.Protocols) { p.SetHTTP1(true) }
func http2(p *http.Protocols) { p.SetHTTP2(true) }
func both(p *http.Protocols)  { p.SetHTTP1(true); p.SetHTTP2(true); p.SetUnencryptedHTTP2(true) }

func refusing(err error) http.Handler {
	s := &server{answer: func(int, []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
		return nil, err
	}}
	return s.handler()
}

func detailed(code connect.Code, text string, delay time.Duration) error {
	err := connect.NewError(code, errors.New(text))
	d, detailErr := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
	if detailErr != nil {
		return detailErr
	}
	err.AddDetail(d)
	return err
}

func TestErrors(t *testing.T) {
	good := new(server).handler()
	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) })
	}
	moved := http.RedirectHandler("https://elsewhere.example.com/", http.StatusTemporaryRedirect)
	retryHeader := connect.NewError(connect.CodeResourceExhausted, errors.New("come back"))
	retryHeader.Meta().Set("Retry-After", "7")
	closed := "http://" + closedPort(t)

	for _, tt := range []struct {
		name string
		dial func(*testing.T) (string, *tls.Config)
		kind client.Kind
		text string // in the error
		wait time.Duration
	}{
		{"nothing listens", func(*testing.T) (string, *tls.Config) { return closed, nil }, client.Unreachable, "is it running", 0},
		{"no such host", func(*testing.T) (string, *tls.Config) { return "http://gateway.invalid:6080", nil }, client.Unreachable, "cannot find the gateway", 0},
		{"unknown authority", func(t *testing.T) (string, *tls.Config) {
			url, _ := peer(t, good, true, http2)
			return url, nil
		}, client.Insecure, "authority that is not trusted here", 0},
		{"another name", func(t *testing.T) (string, *tls.Config) {
			url, roots := peer(t, good, true, http2)
			roots.ServerName = "other.example.org"
			return url, roots
		}, client.Insecure, "for another name", 0},
		{"expired certificate", func(t *testing.T) (string, *tls.Config) {
			url, roots := peer(t, good, true, http2)
			roots.Time = func() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }
			return url, roots
		}, client.Insecure, "not valid", 0},
		{"TLS too old", func(t *testing.T) (string, *tls.Config) {
			ts := httptest.NewUnstartedServer(good)
			ts.TLS = &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}}
			ts.Config.ErrorLog = log.New(io.Discard, "", 0)
			ts.StartTLS()
			t.Cleanup(ts.Close)
			return ts.URL, &tls.Config{MaxVersion: tls.VersionTLS12}
		}, client.Insecure, "ended the TLS handshake", 0},
		{"TLS to a cleartext port", func(t *testing.T) (string, *tls.Config) {
			url, _ := peer(t, good, false, both)
			return strings.Replace(url, "http:", "https:", 1), nil
		}, client.Insecure, "does not speak TLS", 0},
		{"cleartext to a TLS port", func(t *testing.T) (string, *tls.Config) {
			url, _ := peer(t, good, true, http2)
			return strings.Replace(url, "https:", "http:", 1), nil
		}, client.Unreachable, "whether it is http or https", 0},
		{"HTTP/1.1 only", func(t *testing.T) (string, *tls.Config) { return peer(t, good, false, http1) }, client.Unreachable, "whether it is http or https", 0},
		{"HTTP/1.1 only, TLS", func(t *testing.T) (string, *tls.Config) { return peer(t, good, true, http1) }, client.NotGateway, "HTTP/2", 0},
		{"not HTTP", func(t *testing.T) (string, *tls.Config) { return "http://" + greeter(t), nil }, client.Unreachable, "whether it is http or https", 0},
		{"another web server", func(t *testing.T) (string, *tls.Config) { return peer(t, page(http.StatusOK), false, both) }, client.NotGateway, "not a gateway", 0},
		{"another path", func(t *testing.T) (string, *tls.Config) { return peer(t, http.NotFoundHandler(), false, both) }, client.NotGateway, "404", 0},
		{"redirect", func(t *testing.T) (string, *tls.Config) { return peer(t, moved, false, both) }, client.NotGateway, "307", 0},
		{"proxy without a gateway behind it", func(t *testing.T) (string, *tls.Config) { return peer(t, status(503), false, both) }, client.Broken, "503", 0},
		{"unimplemented", func(t *testing.T) (string, *tls.Config) {
			return peer(t, refusing(connect.NewError(connect.CodeUnimplemented, errors.New("no such sender"))), false, both)
		}, client.Unsupported, "cannot do this: no such sender", 0},
		{"licence refused", func(t *testing.T) (string, *tls.Config) {
			return peer(t, refusing(connect.NewError(connect.CodeInvalidArgument, errors.New("licence is not signed by a known key"))), false, both)
		}, client.Refused, "refused: licence is not signed", 0},
		{"unauthenticated", func(t *testing.T) (string, *tls.Config) {
			return peer(t, refusing(connect.NewError(connect.CodeUnauthenticated, errors.New("who are you"))), false, both)
		}, client.Refused, "who are you", 0},
		{"rate limited, as gRPC says it", func(t *testing.T) (string, *tls.Config) {
			return peer(t, refusing(detailed(connect.CodeResourceExhausted, "too many events", 1500*time.Millisecond)), false, both)
		}, client.Busy, "too many events", 1500 * time.Millisecond},
		{"rate limited, as HTTP says it", func(t *testing.T) (string, *tls.Config) { return peer(t, refusing(retryHeader), false, both) }, client.Busy, "come back", 7 * time.Second},
		{"stopping", func(t *testing.T) (string, *tls.Config) {
			return peer(t, refusing(detailed(connect.CodeUnavailable, "stopping", time.Second)), false, both)
		}, client.Broken, "stopping", time.Second},
		{"the key comes back", func(t *testing.T) (string, *tls.Config) {
			return peer(t, refusing(connect.NewError(connect.CodeInvalidArgument, errors.New("bad key "+licenseKey))), false, both)
		}, client.Refused, "bad key [licence key]", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, roots := tt.dial(t)
			// As people paste keys: with a line break in it.
			id := client.Licensed(licenseKey[:7]+"\n"+licenseKey[7:]+"\n", "site-1", "")
			c := newClient(t, url, id, client.Options{TLS: roots})
			r, err := c.Send(t.Context(), numbered(2, 0)...)
			var e *client.Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want a *client.Error", err)
			}
			t.Log(e)
			if e.Kind != tt.kind || !strings.Contains(e.Error(), tt.text) {
				t.Errorf("kind %s: %v\nwant %s, with %q", e.Kind, e, tt.kind, tt.text)
			}
			if e.RetryAfter != tt.wait || r.RetryAfter != tt.wait {
				t.Errorf("retry after %s and %s, want %s", e.RetryAfter, r.RetryAfter, tt.wait)
			}
			if e.RequestID == "" || e.RequestID != r.RequestID {
				t.Errorf("request ID %q in the error, %q in the result", e.RequestID, r.RequestID)
			}
			if r.Count(client.Failed) != 2 {
				t.Errorf("outcomes %v, want all failed", outcomes(r))
			}
			for wrapped := err; wrapped != nil; wrapped = errors.Unwrap(wrapped) {
				if text := fmt.Sprintf("%v %+v %#v", wrapped, wrapped, wrapped); strings.Contains(text, licenseKey) || strings.Contains(text, licenseKey[7:]) {
					t.Errorf("the licence key is in the error: %s", text)
				}
			}
		})
	}
}

// closedPort returns an address at which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// greeter returns an address at which something talks that is not HTTP.
func greeter(t *testing.T) string { return mailServer(t, false) }

// mailServer serves what is not HTTP. A patient one hears a request to its end:
// what net/http makes of the other depends on which of the two is faster.
func mailServer(t *testing.T, patient bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close() // only then, lest what was said be lost
				if patient {
					if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
						_, _ = io.Copy(io.Discard, r.Body)
					}
				}
				fmt.Fprint(conn, "220 mail.example.com ESMTP\r\n")
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		url     string
		id      client.Identity
		options client.Options
		text    string
	}{
		{"no scheme", "gateway.example.com:6080", site, client.Options{}, "gateway URL"},
		{"no host", "https://", site, client.Options{}, "gateway URL"},
		{"other scheme", "grpc://gateway.example.com", site, client.Options{}, "gateway URL"},
		{"query", "https://gateway.example.com?x=1", site, client.Options{}, "gateway URL"},
		{"password", "https://me:pw@gateway.example.com", site, client.Options{}, "must not hold"},
		{"unparsable", "https://me:pw@gateway.example.com:%", site, client.Options{}, "cannot be parsed"},
		{"no identity", "https://gateway.example.com", client.Identity{}, client.Options{}, "no identity"},
		{"no key", "https://gateway.example.com", client.Licensed(" \n", "a", "b"), client.Options{}, "licence key is empty"},
		{"no site ID", "https://gateway.example.com", client.Unlicensed("", "b"), client.Options{}, "site ID is empty"},
		{"no service ID", "https://gateway.example.com", client.Service("", "", fixedToken("x")), client.Options{}, "service's ID is empty"},
		{"no source", "https://gateway.example.com", client.Service("pings", "", nil), client.Options{}, "source of tokens"},
		{"environment not text", "https://gateway.example.com", client.Service("pings", "\xff", fixedToken("x")), client.Options{}, "UTF-8"},
		{"token over cleartext", "http://gateway.example.com", client.Service("pings", "", fixedToken("x")), client.Options{}, "AllowCleartextToken"},
		{"token over a cleartext proxy", "http://127.0.0.1", client.Service("pings", "", fixedToken("x")), client.Options{
			Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.example.com"}),
		}, "AllowCleartextToken"},
		{"not text", "https://gateway.example.com", client.Unlicensed("\xff", "b"), client.Options{}, "UTF-8"},
		{"protocol", "https://gateway.example.com", site, client.Options{Protocol: 7}, "Protocol"},
		{"old name without stream", "https://gateway.example.com", site, client.Options{Protocol: client.Connect, OldServiceName: true}, "OldServiceName"},
		{"negative", "https://gateway.example.com", site, client.Options{MessageBytes: -1}, "MessageBytes"},
		{"too many", "https://gateway.example.com", site, client.Options{MessageEvents: 20_001}, "MessageEvents"},
	} {
		if _, err := client.New(tt.url, tt.id, tt.options); err == nil || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.text)
		}
	}
}

func TestIdentityHidesTheKey(t *testing.T) {
	id := client.Licensed(licenseKey, "site-1", "")
	text := fmt.Sprintf("%v %+v %#v %s", id, id, id, &id)
	if strings.Contains(text, licenseKey) || !strings.Contains(text, "site-1") {
		t.Error(text)
	}
}

// Over TLS, HTTP/2 and HTTP/1.1 are negotiated: a gateway that has both is
// reached with either protocol.
func TestTLS(t *testing.T) {
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect} {
		url, roots := peer(t, new(server).handler(), true, both)
		r, err := newClient(t, url, site, client.Options{Protocol: protocol, TLS: roots}).Send(t.Context(), numbered(3, 0)...)
		if err != nil || r.Count(client.Accepted) != 3 {
			t.Errorf("protocol %d: %v, %v", protocol, outcomes(r), err)
		}
	}
	url, roots := peer(t, new(server).handler(), true, http1)
	r, err := newClient(t, url, site, client.Options{Protocol: client.Connect, TLS: roots}).Send(t.Context(), numbered(3, 0)...)
	if err != nil || r.Count(client.Accepted) != 3 {
		t.Errorf("HTTP/1.1 over TLS: %v, %v", outcomes(r), err)
	}
}

// Over Connect a refusal comes as an HTTP status, and what is not a gateway
// answers with one as well.
func TestErrorsOverConnect(t *testing.T) {
	elsewhere := new(server)
	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) })
	}
	for _, tt := range []struct {
		name    string
		handler http.Handler
		kind    client.Kind
		text    string
		wait    time.Duration
	}{
		{"another path", http.NotFoundHandler(), client.NotGateway, "404", 0},
		{"another web server", status(http.StatusOK), client.NotGateway, "not a gateway", 0},
		{"forbidden by a proxy", status(http.StatusForbidden), client.NotGateway, "403", 0},
		{"proxy without a gateway behind it", status(http.StatusServiceUnavailable), client.Broken, "503", 0},
		{"redirect", http.RedirectHandler(elsewhere.serve(t), http.StatusTemporaryRedirect), client.NotGateway, "307", 0},
		{"refused", refusing(connect.NewError(connect.CodeInvalidArgument, errors.New("no key fits"))), client.Refused, "refused: no key fits", 0},
		{"unimplemented", refusing(connect.NewError(connect.CodeUnimplemented, errors.New("no such sender"))), client.Unsupported, "no such sender", 0},
		{"rate limited", refusing(detailed(connect.CodeResourceExhausted, "too many", 2*time.Second)), client.Busy, "too many", 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, _ := peer(t, tt.handler, false, http1)
			r, err := newClient(t, url, site, client.Options{Protocol: client.Connect}).Send(t.Context(), numbered(2, 0)...)
			var e *client.Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want a *client.Error", err)
			}
			if e.Kind != tt.kind || !strings.Contains(e.Error(), tt.text) || e.RetryAfter != tt.wait {
				t.Errorf("kind %s, retry after %s: %v\nwant %s, %s, with %q", e.Kind, e.RetryAfter, e, tt.kind, tt.wait, tt.text)
			}
			if r.Count(client.Failed) != 2 {
				t.Errorf("outcomes %v, want all failed", outcomes(r))
			}
		})
	}
	if len(elsewhere.http) != 0 {
		t.Error("a redirect was followed, and took the sender's identity along")
	}
}
