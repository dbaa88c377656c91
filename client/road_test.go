// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// relay is a proxy to a gateway that speaks HTTP/2 to it, or else HTTP/1.1.
func relay(t *testing.T, gateway string, overHTTP2 bool) *httputil.ReverseProxy {
	t.Helper()
	to, err := url.Parse(gateway)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!overHTTP2)
	tr.Protocols.SetUnencryptedHTTP2(overHTTP2)
	t.Cleanup(tr.CloseIdleConnections)
	return &httputil.ReverseProxy{
		Transport:     tr,
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
}

func isGRPC(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// exceptGRPC passes everything on but gRPC, which it answers itself.
func exceptGRPC(pass, answer http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isGRPC(r) {
			answer.ServeHTTP(w, r)
			return
		}
		pass.ServeHTTP(w, r)
	})
}

func page(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		fmt.Fprint(w, "<html>no</html>")
	})
}

var aborts = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })

// unavailable is how proxies that know gRPC say that they could not pass it on.
var unavailable = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", "14")
	w.Header().Set("Grpc-Message", "upstream connect error")
})

// noTrailers hands on responses without their trailers.
type noTrailers struct{ http.RoundTripper }

func (n noTrailers) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := n.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	without := *response // the original's trailers are filled in later
	without.Trailer = nil
	return &without, nil
}

// The protocol Auto reaches the gateway through whatever lets Connect pass, and
// over gRPC where that does, with each event sent once.
func TestAuto(t *testing.T) {
	for _, tt := range []struct {
		name     string
		between  func(t *testing.T, gateway string) http.Handler
		tls      bool
		versions func(*http.Protocols)
		fallback bool
	}{
		{"gRPC passes", func(t *testing.T, g string) http.Handler { return relay(t, g, true) }, false, both, false},
		{"gRPC passes over TLS", func(t *testing.T, g string) http.Handler { return relay(t, g, true) }, true, both, false},
		{"HTTP/1.1-only proxy", func(t *testing.T, g string) http.Handler { return relay(t, g, false) }, false, http1, true},
		{"TLS without HTTP/2", func(t *testing.T, g string) http.Handler { return relay(t, g, true) }, true, http1, true},
		{"HTTP/1.1 behind the proxy", func(t *testing.T, g string) http.Handler { return relay(t, g, false) }, true, both, true},
		{"no trailers", func(t *testing.T, g string) http.Handler {
			p := relay(t, g, true)
			p.Transport = noTrailers{p.Transport}
			return p
		}, true, both, true},
		{"gRPC breaks off", func(t *testing.T, g string) http.Handler { return exceptGRPC(relay(t, g, true), aborts) }, true, both, true},
		{"a proxy that knows gRPC", func(t *testing.T, g string) http.Handler {
			return exceptGRPC(relay(t, g, true), unavailable)
		}, true, both, true},
		{"400", func(t *testing.T, g string) http.Handler { return exceptGRPC(relay(t, g, true), page(400)) }, true, both, true},
		{"403", func(t *testing.T, g string) http.Handler { return exceptGRPC(relay(t, g, true), page(403)) }, true, both, true},
		{"404", func(t *testing.T, g string) http.Handler { return exceptGRPC(relay(t, g, true), page(404)) }, true, both, true},
		{"415", func(t *testing.T, g string) http.Handler { return exceptGRPC(relay(t, g, true), page(415)) }, true, both, true},
		{"464", func(t *testing.T, g string) http.Handler { return exceptGRPC(relay(t, g, true), page(464)) }, true, both, true},
		{"502", func(t *testing.T, g string) http.Handler { return exceptGRPC(relay(t, g, true), page(502)) }, true, both, true},
		{"505", func(t *testing.T, g string) http.Handler { return exceptGRPC(relay(t, g, true), page(505)) }, false, both, true},
		{"200 and a page", func(t *testing.T, g string) http.Handler { return exceptGRPC(relay(t, g, true), page(200)) }, true, both, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := new(server)
			var conns atomic.Int64
			url, roots := counted(t, tt.between(t, s.serve(t)), tt.tls, tt.versions, &conns)
			c := newClient(t, url, site, client.Options{Protocol: client.Auto, TLS: roots, MessageEvents: 2})
			var sent, got []string
			var first int64
			for i := range 20 {
				events := numbered(5, 0)
				for _, e := range events {
					e.Id = fmt.Sprint(i, "-", e.Id)
					sent = append(sent, e.Id)
				}
				r, err := c.Send(t.Context(), events...)
				if err != nil || r.Count(client.Accepted) != 5 {
					t.Fatalf("call %d: %v, %v", i, outcomes(r), err)
				}
				if i == 0 {
					first = conns.Load()
				}
			}
			if n := conns.Load(); n != first {
				t.Errorf("%d connections for the first call, %d for all: want one to be kept", first, n)
			}
			for _, e := range s.events() {
				got = append(got, e.GetId())
			}
			if !slices.Equal(sent, got) {
				t.Errorf("events received are not those sent, each once in order: %d, want %d", len(got), len(sent))
			}
			streams := slices.DeleteFunc(slices.Clone(s.calls), func(p string) bool { return strings.HasSuffix(p, "Batch") })
			if fellBack := len(streams) < 20; fellBack != tt.fallback {
				t.Errorf("%d calls of gRPC for 20 calls to Send, want the other way", len(streams))
			}
		})
	}
}

// counted is peer for a proxy whose connections are counted.
func counted(t *testing.T, h http.Handler, withTLS bool, versions func(*http.Protocols), conns *atomic.Int64) (string, *tls.Config) {
	t.Helper()
	ts := httptest.NewUnstartedServer(h)
	ts.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	return start(t, ts, withTLS, versions)
}

// When neither protocol gets through, the error says what each met. What has
// nothing to do with the protocol is said once.
func TestAutoErrors(t *testing.T) {
	for _, tt := range []struct {
		name  string
		dial  func(*testing.T) (string, *tls.Config)
		kind  client.Kind
		texts []string
		once  bool // only gRPC is tried, or both meet the same
	}{
		{"nothing listens", func(t *testing.T) (string, *tls.Config) { return "http://" + closedPort(t), nil }, client.Unreachable, []string{"is it running"}, true},
		{"no such host", func(*testing.T) (string, *tls.Config) { return "https://gateway.invalid", nil }, client.Unreachable, []string{"cannot find the gateway"}, true},
		{"wrong CA", func(t *testing.T) (string, *tls.Config) {
			url, _ := peer(t, new(server).handler(), true, both)
			return url, nil
		}, client.Insecure, []string{"authority that is not trusted here"}, true},
		{"https to a cleartext port", func(t *testing.T) (string, *tls.Config) {
			url, _ := peer(t, new(server).handler(), false, both)
			return strings.Replace(url, "http:", "https:", 1), nil
		}, client.Insecure, []string{"does not speak TLS on this port"}, true},
		{"http to a TLS port", func(t *testing.T) (string, *tls.Config) {
			url, _ := peer(t, new(server).handler(), true, both)
			return strings.Replace(url, "https:", "http:", 1), nil
		}, client.NotGateway, []string{"Connect over HTTP/1.1: what answers is not a gateway: 400", "whether it is http or https"}, false},
		{"not HTTP", func(t *testing.T) (string, *tls.Config) { return "http://" + mailServer(t, true), nil }, client.NotGateway, []string{"does not speak HTTP: check the port"}, false},
		{"another web server", func(t *testing.T) (string, *tls.Config) { return peer(t, page(200), false, both) }, client.NotGateway, []string{"gRPC: what answers is not a gateway", "Connect over HTTP/1.1: what answers is not a gateway"}, false},
		{"another path", func(t *testing.T) (string, *tls.Config) { return peer(t, http.NotFoundHandler(), true, both) }, client.NotGateway, []string{"404", "address, its port and its path"}, false},
		{"proxy without a gateway behind it", func(t *testing.T) (string, *tls.Config) { return peer(t, page(502), true, both) }, client.Broken, []string{"a proxy before the gateway", "502"}, false},
		{"all is blocked, each in its way", func(t *testing.T) (string, *tls.Config) {
			return peer(t, exceptGRPC(page(403), page(464)), true, both)
		}, client.NotGateway, []string{"gRPC: a proxy before the gateway, or something else on its port, answered: HTTP status 464", "Connect over HTTP/1.1: what answers is not a gateway: 403 Forbidden"}, false},
		{"refused over Connect", func(t *testing.T) (string, *tls.Config) {
			return peer(t, exceptGRPC(refusing(connect.NewError(connect.CodePermissionDenied, errors.New("the licence has expired"))), page(415)), true, both)
		}, client.Refused, []string{"the gateway refused: the licence has expired"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, roots := tt.dial(t)
			c := newClient(t, url, client.Licensed(licenseKey, "site-1", ""), client.Options{Protocol: client.Auto, TLS: roots})
			for range 2 { // the second time as the first: nothing wrong is learnt
				r, err := c.Send(t.Context(), numbered(2, 0)...)
				var e *client.Error
				if !errors.As(err, &e) {
					t.Fatalf("error %v, want a *client.Error", err)
				}
				t.Log(e)
				for _, text := range tt.texts {
					if e.Kind != tt.kind || !strings.Contains(e.Error(), text) {
						t.Errorf("kind %s: %v\nwant %s, with %q", e.Kind, e, tt.kind, text)
					}
				}
				if strings.Contains(e.Error(), "neither gRPC nor Connect") == tt.once {
					t.Errorf("%v: said of both protocols, or of one, wrongly", e)
				}
				if strings.Contains(e.Error(), "use the protocol") {
					t.Errorf("%v: says to do what was done", e)
				}
				if r.Count(client.Failed) != 2 {
					t.Errorf("outcomes %v, want all failed", outcomes(r))
				}
			}
		})
	}
}

// A way that no longer carries gRPC costs the call that finds out, which is not
// made again behind the caller's back; the next one takes the other way.
func TestAutoNoticesAChange(t *testing.T) {
	s := new(server)
	gateway := s.serve(t)
	var blocked atomic.Bool
	open, closed := relay(t, gateway, true), exceptGRPC(relay(t, gateway, true), page(502))
	url, roots := peer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if blocked.Load() {
			closed.ServeHTTP(w, r)
		} else {
			open.ServeHTTP(w, r)
		}
	}), true, both)
	c := newClient(t, url, site, client.Options{Protocol: client.Auto, TLS: roots})
	send := func() (int, error) {
		r, err := c.Send(t.Context(), numbered(3, 0)...)
		return r.Count(client.Accepted), err
	}
	if n, err := send(); n != 3 || err != nil {
		t.Fatalf("before: %d accepted, %v", n, err)
	}
	blocked.Store(true)
	if n, err := send(); n != 0 || err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("when it changes: %d accepted, %v; want an error that says 502", n, err)
	}
	if n, err := send(); n != 3 || err != nil {
		t.Errorf("after: %d accepted, %v", n, err)
	}
	if n := len(s.events()); n != 6 {
		t.Errorf("%d events received, want 6", n)
	}
}

// Whether another identity may do is known from whether events were taken.
func TestSenderRefused(t *testing.T) {
	expired := connect.NewError(connect.CodePermissionDenied, errors.New("the licence has expired"))
	for _, tt := range []struct {
		after int // messages
		err   error
		want  bool
	}{
		{0, expired, true},
		{1, expired, false},
		{0, connect.NewError(connect.CodeUnimplemented, errors.New("licences cannot be checked here")), true},
		{0, connect.NewError(connect.CodeResourceExhausted, errors.New("too many calls")), false},
	} {
		for _, protocol := range []client.Protocol{client.GRPC, client.Connect, client.Auto} {
			answered := make(chan bool, 1)
			s := &server{answer: func(n int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
				if n < tt.after {
					return acceptAll(n, events)
				}
				if n > 0 {
					<-answered
				}
				return nil, tt.err
			}}
			c := newClient(t, s.serve(t), site, client.Options{Protocol: protocol, MessageEvents: 1, OnVerdicts: func(int, []client.Verdict) { answered <- true }})
			_, err := c.Send(t.Context(), numbered(2, 0)...)
			if e := (*client.Error)(nil); !errors.As(err, &e) || e.SenderRefused() != tt.want {
				t.Errorf("protocol %d, %v after %d messages: sender refused is not %v", protocol, err, tt.after, tt.want)
			}
		}
	}
}
