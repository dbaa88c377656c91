// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"crypto/rand"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestProviderMisbehaves stands in front of the provider and answers in its
// place whatever may go wrong between it and a gateway.
func TestProviderMisbehaves(t *testing.T) {
	t.Parallel()
	a := startAuthority(t)
	pings := a.service(t, "pings")
	lets := fmt.Sprintf(`{"active":true,"client_id":"pings","scope":%q,"aud":%q,"exp":%d}`, writeScope, ourAudience, time.Now().Add(time.Hour).Unix())
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	var followed atomic.Int64
	accomplice := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		followed.Add(1)
		answer(http.StatusOK, lets)(w, r)
	}))
	t.Cleanup(accomplice.Close)
	redirect := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, accomplice.URL, status) }
	}
	// flood answers with so much, which begins like an answer that lets in.
	flood := func(body string, bytes int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(body))
			for chunk := []byte(strings.Repeat(" ", 1<<20)); bytes > 0; bytes -= len(chunk) {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}
	}
	f := newFront(t)
	dir := t.TempDir()
	g := startGateway(t, dir, a.introspection(t, f.url)...)
	s := service{id: "pings", address: g.address}
	before := g.status(t, "VmHWM")
	for name, handler := range map[string]http.HandlerFunc{
		"nothing":                           answer(http.StatusOK, ""),
		"text":                              answer(http.StatusOK, "active"),
		"a page":                            answer(http.StatusOK, "<html>"+lets+"</html>"),
		"a list":                            answer(http.StatusOK, "["+lets+"]"),
		"half of an answer":                 answer(http.StatusOK, lets[:len(lets)/2]),
		"an answer and more":                answer(http.StatusOK, lets+lets),
		"an answer that does not say":       answer(http.StatusOK, strings.Replace(lets, `"active":true,`, "", 1)),
		"active as text":                    answer(http.StatusOK, strings.Replace(lets, "true", `"true"`, 1)),
		"active with status 500":            answer(http.StatusInternalServerError, lets),
		"active with status 401":            answer(http.StatusUnauthorized, lets),
		"active with status 203":            answer(http.StatusNonAuthoritativeInfo, lets),
		"a redirect that changes the call":  redirect(http.StatusFound),
		"a redirect that repeats the call":  redirect(http.StatusTemporaryRedirect),
		"a gigabyte":                        flood("", 1<<30),
		"active and a gigabyte":             flood(lets, 1<<30),
		"active in a name of a gigabyte":    flood(lets[:len(lets)-1]+`,"name":"`, 1<<30),
		"a connection that breaks off":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"active and no end of the response": neverEnding(lets),
	} {
		f.become(handler)
		fresh := s.with(a.token(t, pings))
		until(t, "asked while the provider answers with "+name, patience, func(int) bool {
			fresh.undecided(t, name)
			return f.asked.Load() > 0 || t.Failed()
		})
	}
	if n := followed.Load(); n > 0 {
		t.Errorf("the gateway followed %d redirects", n)
	}
	// The promise is in the table of limits; all of this may cost little of it.
	if peak := g.status(t, "VmHWM"); peak > before+64<<20 {
		t.Errorf("%d MiB resident at most, after %d MiB before", peak>>20, before>>20)
	}
	// It was the front that kept the token out, and what it said would let one in.
	for name, handler := range map[string]http.Handler{
		"the provider itself": passTo(t, a.IntrospectionURL()),
		"an honest answer":    answer(http.StatusOK, lets),
	} {
		f.become(handler)
		next := s.with(a.token(t, pings))
		until(t, "let in by "+name, patience, func(int) bool { return next.unary(t, "let in by "+name) == nil })
	}
	a.keptSecret(t, g, dir)
	letIn := 0
	for line := range readTopic(t, "sqlite://"+filepath.Join(dir, "data/topic.db")) {
		if letIn++; !strings.HasPrefix(line.Data.Event.ID, "let in by ") {
			t.Errorf("event %s is published", line.Data.Event.ID)
		}
	}
	if letIn != 2 {
		t.Errorf("%d events are published, want 2", letIn)
	}
}

// TestFloodOfTokens sends tokens that are none from many addresses. The
// provider must not be burdened with them, and who was let in before must not
// notice.
func TestFloodOfTokens(t *testing.T) {
	t.Parallel()
	a := startAuthority(t)
	pings := a.service(t, "pings")
	f := newFront(t)
	f.become(passTo(t, a.IntrospectionURL()))
	g := startGateway(t, t.TempDir(), a.introspection(t, f.url)...)
	s := service{id: "pings", address: g.address}
	open := s.with(a.token(t, pings)).open(t)
	if err := open.send(t, "before"); err != nil {
		t.Fatal(err)
	}

	const addresses, tokens = 40, 50
	body := `{"metadata": {"requestId": "flood", "identifier": {"managedService": {"serviceId": "pings"}}},
		"event": {"id": "flood", "timestamp": "2026-01-02T15:04:05Z", "feature": "codeSearch", "action": "executed"}}`
	began := time.Now()
	f.asked.Store(0)
	var group errgroup.Group
	group.SetLimit(8)
	for n := range addresses {
		group.Go(func() error {
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n))}}
			client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: from.DialContext}}
			defer client.CloseIdleConnections()
			for range tokens {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.address+"/telemetrygateway.v1.TelemetryGatewayService/RecordEvent", strings.NewReader(body))
				if err != nil {
					return err
				}
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Authorization", "Bearer "+rand.Text())
				answer, err := client.Do(r)
				if err != nil {
					return err
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				switch answer.StatusCode {
				case http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusServiceUnavailable:
				default:
					return fmt.Errorf("a made-up token gets status %d", answer.StatusCode)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if err := open.send(t, "after"); err != nil {
		t.Errorf("a stream that was open: %v", err)
	}
	// At most 25 and 25 more each second, which is 50 in any one.
	took := time.Since(began)
	asked, most := f.asked.Load(), 25+int64(math.Ceil(25*took.Seconds()))
	if asked == 0 || asked > most {
		t.Errorf("the provider is asked about %d of %d tokens in %v, want at most %d", asked, addresses*tokens, took, most)
	}
}

// A front is what a gateway takes for its provider.
type front struct {
	url   string
	asked atomic.Int64 // since it last became something else

	mu      sync.Mutex
	handler http.Handler
}

func newFront(t *testing.T) *front {
	f := &front{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		handler := f.handler
		f.asked.Add(1)
		f.mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	f.url = server.URL + "/introspect"
	return f
}

func (f *front) become(handler http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handler = handler
	f.asked.Store(0)
}

// neverEnding answers and then leaves the answer open.
func neverEnding(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(body))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// passTo passes calls on to a URL.
func passTo(t *testing.T, to string) http.Handler {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL, r.Out.Host = u, u.Host
	}}
}
