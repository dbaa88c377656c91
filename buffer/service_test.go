// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package buffer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/internal/identity"
)

// provider issues tokens, of which only the last one is active.
type provider struct {
	issued, revoked atomic.Int64
	down            atomic.Bool
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	answer := map[string]any{"token_type": "bearer", "scope": client.DefaultScope, "client_id": "pings"}
	switch {
	case r.URL.Path == "/introspect":
		answer["active"] = r.PostFormValue("token") == fmt.Sprintf("token-%d", p.issued.Load()) && p.issued.Load() > p.revoked.Load()
	case p.down.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		answer["access_token"] = fmt.Sprintf("token-%d", p.issued.Add(1))
		answer["expires_in"] = 3600
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// A service's events wait for a token, and a token that was revoked is replaced
// without anybody having to do something.
func TestService(t *testing.T) {
	p := new(provider)
	p.down.Store(true)
	ts := httptest.NewServer(p)
	defer ts.Close()
	var ahead atomic.Int64 // of the gateway's clock
	s := serve(t, func(o *identity.Options) {
		o.Services.OAuth.IntrospectionURL = ts.URL + "/introspect"
		o.Services.OAuth.ClientID, o.Services.OAuth.ClientSecret = "gateway", "secret"
		o.Services.OAuth.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	tokens, err := client.ClientCredentials{TokenURL: ts.URL + "/token", ClientID: "pings", ClientSecret: "secret"}.TokenSource()
	if err != nil {
		t.Fatal(err)
	}
	id := client.Service("pings", "prod", tokens)

	b := bufferAs(t, s.url, id, Options{})
	mustAdd(t, b, numbered(0, 5)...)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = b.Close(ctx)
	var unsent *UnsentError
	if e := (*client.Error)(nil); !errors.As(err, &unsent) || len(unsent.Events) != 5 || !errors.As(err, &e) || e.Kind != client.NoToken {
		t.Fatalf("without a provider: %v", err)
	}

	p.down.Store(false)
	b = bufferAs(t, s.url, id, Options{})
	mustAdd(t, b, unsent.Events...)
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
	p.revoked.Store(p.issued.Load())
	ahead.Store(int64(time.Hour)) // the gateway does not go by what it knew
	for n, count := range []int{1, 5} {
		b = bufferAs(t, s.url, id, Options{})
		mustAdd(t, b, numbered(10*(n+1), 10*(n+1)+count)...)
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	wantReceived(t, s, append(append(numbered(0, 5), newEvent(10)), numbered(20, 25)...))
	if n := p.issued.Load(); n != 2 {
		t.Errorf("%d tokens were issued, want 2", n)
	}
}

// A gateway that takes no token is neither called nor has tokens made for it
// more often than one that is down.
func TestServiceThatIsNotTaken(t *testing.T) {
	for _, code := range []string{"unauthenticated", "permission_denied"} {
		p := new(provider)
		ts := httptest.NewUnstartedServer(p)
		ts.Config.SetKeepAlivesEnabled(false)
		ts.Start()
		defer ts.Close()
		s := serve(t)
		s.intercept(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"code": %q}`, code)
		})
		synctest.Test(t, func(t *testing.T) {
			tokens, err := client.ClientCredentials{TokenURL: ts.URL + "/token", ClientID: "pings", ClientSecret: "secret"}.TokenSource()
			if err != nil {
				t.Fatal(err)
			}
			b := bufferAs(t, s.url, client.Service("pings", "prod", tokens), Options{})
			stop := running(t, b)
			mustAdd(t, b, numbered(0, 5)...)
			time.Sleep(time.Hour)
			stop()
			wantStats(t, b, Stats{Added: 5, Pending: 5})
			// On average there is an attempt every half minute.
			if calls, issued := s.calls.Load(), p.issued.Load(); calls < 100 || calls > 500 || issued > calls/2+1 {
				t.Errorf("%s: %d calls and %d tokens within an hour", code, calls, issued)
			}
		})
	}
}
