// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/identity"
)

// TestTokensAndSecretsStayInside makes everything happen that can happen to a
// token, and looks for it, and for the gateway's own secret, in all that leaves
// the gateway: logs, errors, metrics, traces and what is published.
func TestTokensAndSecretsStayInside(t *testing.T) {
	p := startProvider(t)
	var log, toSenders bytes.Buffer
	spans := tracetest.NewInMemoryExporter()
	tracing, err := otelconnect.NewInterceptor(
		otelconnect.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))), otelconnect.WithoutMetrics())
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	observed := func(o *Options, i *identity.Options, so *ServeOptions) {
		o.Log = logger
		o.Interceptors = []connect.Interceptor{tracing}
		so.Log, i.Services.Log, i.Services.OAuth.Log = logger, logger, logger
		i.Services.OAuth.Issuer = p.URL
	}
	canaries := map[string]string{
		"the gateway's secret":          gatewaySecret,
		"the gateway's secret, escaped": url.QueryEscape(gatewaySecret),
		"the gateway's credentials":     base64.StdEncoding.EncodeToString([]byte(gatewayClient + ":" + url.QueryEscape(gatewaySecret))),
		"a wrong secret":                "WRONGSECRET",
	}
	secret := func(token string) string {
		for i, part := range strings.Split(token, ".") {
			if i > 0 { // all tokens begin alike
				canaries[fmt.Sprintf("token %d, part %d", len(canaries), i)] = part
			}
		}
		return token
	}
	heard := func(err error) {
		var e *connect.Error
		if !errors.As(err, &e) {
			return
		}
		fmt.Fprintln(&toSenders, e, e.Meta())
		for _, d := range e.Details() {
			v, _ := d.Value()
			fmt.Fprintln(&toSenders, d.Type(), v)
		}
	}

	s := start(t, p.introspection, observed)
	call := func(s *server, header string, es ...connect.ClientOption) {
		r := connect.NewRequest(one("pings", event("a")))
		r.Header().Set("Authorization", header)
		_, err := s.connect(t, es...).RecordEvent(t.Context(), r)
		heard(err)
		stream := s.connect(t, connect.WithGRPC()).RecordEvents(t.Context())
		stream.RequestHeader().Set("Authorization", header)
		for _, m := range []*pb.RecordEventsRequest{metadataMessage(managedMetadata("pings")), eventsMessage(event("b"), &pb.Event{Id: "bad"})} {
			if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		_, err = stream.Receive()
		heard(err)
		if err := stream.CloseRequest(); err != nil {
			t.Error(err)
		}
		_, err = stream.Receive()
		heard(err)
	}
	good := secret(p.token(t, "pings"))
	call(s, "Bearer "+good)
	call(s, "Bearer "+good, connect.WithProtoJSON())
	call(s, "Bearer "+secret(forge(p.token(t, "pings"))))
	call(s, "Bearer "+secret("unknown.OPAQUETOKEN.OFSOMEBODY"))
	call(s, "Bearer "+good+","+good)
	call(s, "Basic "+good)
	call(s, good)
	call(s, "Bearer "+secret(p.token(t, "pings", func(c *claims) { c.Scope = "openid" })))
	call(s, "Bearer "+secret(p.token(t, "pongs")))
	call(s, "Bearer "+secret(p.token(t, "pings", func(c *claims) { c.ExpiresAt = 1 })))
	call(s, "Bearer "+secret(p.token(t, "pings", func(c *claims) { c.Issuer = "https://elsewhere.example" })))
	p.revoke(good)
	p.clock.advance(61 * time.Second)
	call(s, "Bearer "+good)
	p.breakDown(true)
	call(s, "Bearer "+secret(p.token(t, "pings")))
	p.breakDown(false)
	wrong := start(t, p.introspection, observed, func(_ *Options, i *identity.Options, _ *ServeOptions) {
		i.Services.OAuth.ClientSecret = "WRONGSECRET"
	})
	call(wrong, "Bearer "+secret(p.token(t, "pings")))

	published := fmt.Sprintf("%v", messages(t, s.topic, 4)) + fmt.Sprintf("%v", messages(t, s.dead, 2))
	for _, s := range []*server{s, wrong} {
		s.stop()
		<-s.served
	}
	scraped := httptest.NewRecorder()
	s.metrics.Handler().ServeHTTP(scraped, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	traced, err := json.Marshal(spans.GetSpans())
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{
		"the log": log.String(), "an error": toSenders.String(), "a metric": scraped.Body.String(), "a trace": string(traced), "what is published": published,
	} {
		if !strings.Contains(text, map[string]string{"a metric": "telemetry_gateway_", "a trace": "RecordEvent"}[where]) || text == "" {
			t.Errorf("%s is empty", where)
		}
		for what, canary := range canaries {
			if strings.Contains(text, canary) {
				t.Errorf("%s holds %s:\n%s", where, what, text)
			}
		}
	}
	if strings.Contains(toSenders.String(), "PROVIDERTEXT") {
		t.Error("senders read what the provider says")
	}
}
