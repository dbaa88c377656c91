// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/queue"
)

// A tokenSource gives out one token, or a reason why there is none.
type tokenSource struct {
	token atomic.Pointer[string]
	err   atomic.Pointer[error]
}

func (s *tokenSource) Token(context.Context) (string, error) {
	if err := s.err.Load(); err != nil {
		return "", *err
	}
	return *s.token.Load(), nil
}

// proving lets a gateway take the token "right" for the service pings.
func proving(t *testing.T) func(*server, *identity.Options) {
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"active": r.PostFormValue("token") == "right", "client_id": "pings", "scope": client.DefaultScope, "token_type": "bearer",
		})
	}))
	t.Cleanup(provider.Close)
	return func(_ *server, o *identity.Options) {
		o.Services.OAuth.IntrospectionURL = provider.URL
		o.Services.OAuth.ClientID, o.Services.OAuth.ClientSecret = "gateway", "secret"
	}
}

// A service's events are sent as a service's or not at all: without a token, or
// with one that is not taken, they stay queued, although the gateway would take
// them as those of an unlicensed instance.
func TestService(t *testing.T) {
	q := openQueue(t, sqlite(t), queue.Options{Policy: queue.Policy{Vendor: true}})
	s := serve(t, proving(t))
	var tokens tokenSource
	right, wrong, down := "right", "wrong", errors.New("the provider is down")
	var log bytes.Buffer
	e := newExporter(t, q, s.url, Options{
		Service:  client.Service("pings", "prod", &tokens),
		Identity: func() Identity { panic("it is no instance") },
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
	})
	add(t, q, 0, 250)
	refused := func(kind client.Kind) {
		t.Helper()
		p, err := e.Export(t.Context())
		if err == nil || p.Kind != kind || p.Identity != Service || p.Failed != 250 || p.LicenseRefused != nil {
			t.Errorf("%v, pass is %+v; want kind %s", err, p, kind)
		}
		wantStats(t, q, queue.Stats{Recorded: 250, Pending: 250})
	}
	tokens.token.Store(&wrong)
	refused(client.Refused)
	tokens.err.Store(&down)
	refused(client.NoToken)
	if got := s.received(t); len(got) != 0 {
		t.Errorf("%d events received", len(got))
	}

	tokens.token.Store(&right)
	tokens.err.Store(nil)
	if p := export(t, e); p.Identity != Service || p.Accepted != 250 || !p.ok() {
		t.Errorf("pass is %+v", p)
	}
	wantEvents(t, s.received(t), 0, 250)
	add(t, q, 250, 251) // alone, which is another call
	if p := export(t, e); p.Identity != Service || p.Accepted != 1 || !p.ok() {
		t.Errorf("pass is %+v", p)
	}
	wantEvents(t, s.received(t), 0, 251)
	wantStats(t, q, queue.Stats{Recorded: 251, Exported: 251})
	for _, no := range []string{"licen", "instance", "wrong\"", "right"} {
		if strings.Contains(log.String(), no) {
			t.Errorf("the log has %q:\n%s", no, &log)
		}
	}
}

func TestServiceOptions(t *testing.T) {
	q := newQueue(t)
	for _, id := range []client.Identity{client.Service("", "", new(tokenSource)), client.Service("pings", "", nil)} {
		if _, err := New(q, "https://gateway.example.com", Options{Service: id}); err == nil {
			t.Errorf("%v is taken", id)
		}
	}
	if _, err := New(q, "http://gateway.example.com", Options{Service: client.Service("pings", "", new(tokenSource))}); err == nil {
		t.Error("a gateway is taken to which the token would travel in cleartext")
	}
}
