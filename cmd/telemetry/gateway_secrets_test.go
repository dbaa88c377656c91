// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/oauth/glewlwyd"
)

// canary is a secret that must be seen nowhere.
const canary = "canary-7d1f"

// TestNothingSecretLeavesTheGateway runs a whole gateway that logs and traces
// all it can, has a service send with a token that counts and with ones that do
// not, and looks for the tokens, and for the gateway's own secret, in its log
// and its traces.
func TestNothingSecretLeavesTheGateway(t *testing.T) {
	var traces bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(&traces, r.Body) // one request at a time
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")

	p, err := glewlwyd.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	self := glewlwyd.Client{ID: "gateway", Secret: canary}
	service := glewlwyd.Client{ID: "pings", Secret: "service-" + canary, Scopes: []string{identity.DefaultScope}}
	for _, c := range []glewlwyd.Client{self, service} {
		if err := p.AddClient(c); err != nil {
			t.Fatal(err)
		}
	}
	token, err := p.Token(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var log bytes.Buffer
	r, w := io.Pipe()
	ended := make(chan error, 1)
	args := []string{
		"gateway", "-listen", "127.0.0.1:0", "-admin", "off", "-topic", "memory:", "-deadletter", "memory:", "-log-level", "debug",
		"-oauth-issuer", p.Issuer(), "-oauth-introspection-url", p.IntrospectionURL(),
		"-oauth-client-id", self.ID, "-oauth-client-secret-file", writeFile(t, "secret", self.Secret),
	}
	go func() {
		ended <- root().Run(ctx, args, io.Discard, io.MultiWriter(&log, w))
		w.Close()
	}()
	address, _ := listeningAt(r)
	if address == "" {
		cancel()
		t.Fatalf("the gateway did not start: %v\n%s", <-ended, &log)
	}
	const body = `{"metadata":{"identifier":{"managedService":{"serviceId":"pings"}}},
		"event":{"id":"a","timestamp":"2026-01-02T03:04:05Z","feature":"codeSearch","action":"executed"}}`
	for bearer, want := range map[string]int{token: http.StatusOK, token[:len(token)-4] + "AAAA": http.StatusUnauthorized, "opaque-" + canary: http.StatusUnauthorized} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/telemetrygateway.v1.TelemetryGatewayService/RecordEvent", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + bearer}}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("status %d, want %d", response.StatusCode, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	collector.Close()
	if !strings.Contains(log.String(), "sender refused") || !strings.Contains(traces.String(), "RecordEvent") {
		t.Errorf("too little was logged or traced to tell:\n%s", &log)
	}
	parts := strings.Split(token, ".")
	for where, text := range map[string]string{"the log": log.String(), "a trace": traces.String()} {
		for what, secret := range map[string]string{"a secret": canary, "a token": parts[1], "a token's signature": parts[2][:20]} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %s", where, what)
			}
		}
	}
	if regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}`).MatchString(log.String() + traces.String()) {
		t.Error("something that looks like a token is in the log or in a trace")
	}
}
