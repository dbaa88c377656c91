// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/observe"
)

// collector receives OTLP over HTTP, as a real one does.
type collector struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*collectorv1.ExportTraceServiceRequest
	raw      bytes.Buffer
}

func newCollector(t *testing.T) *collector {
	c := new(collector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Errorf("read export: %v", err)
				return
			}
			body = z
		}
		b, err := io.ReadAll(body)
		m := new(collectorv1.ExportTraceServiceRequest)
		if err == nil {
			err = proto.Unmarshal(b, m)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("export to %s: %v", r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests = append(c.requests, m)
		c.raw.Write(b)
	}))
	t.Cleanup(c.Close)
	return c
}

// refusing answers every batch with an error that repeats nothing of it.
type refusing struct {
	telemetrygatewayv1connect.UnimplementedTelemetryGatewayServiceHandler
}

func (refusing) RecordEventBatch(context.Context, *connect.Request[telemetrygatewayv1.RecordEventBatchRequest]) (*connect.Response[telemetrygatewayv1.RecordEventBatchResponse], error) {
	return nil, connect.NewError(connect.CodePermissionDenied, io.ErrUnexpectedEOF)
}

func TestSpansArriveAndHoldNothingOfTheCall(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	provider, shutdown, err := observe.Tracing(t.Context(), observe.TracingOptions{
		Enabled: true, Service: "telemetry-gateway", Version: "v1.2.3", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	tracing, err := otelconnect.NewInterceptor(otelconnect.WithTracerProvider(provider), otelconnect.WithoutMetrics())
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(telemetrygatewayv1connect.NewTelemetryGatewayServiceHandler(refusing{}, connect.WithInterceptors(tracing)))
	server := httptest.NewServer(mux)
	defer server.Close()

	const canary = "canary-7d1f"
	call := connect.NewRequest(&telemetrygatewayv1.RecordEventBatchRequest{
		Metadata: &telemetrygatewayv1.RecordEventsRequestMetadata{Identifier: &telemetrygatewayv1.Identifier{
			Identifier: &telemetrygatewayv1.Identifier_LicensedInstance{
				LicensedInstance: &telemetrygatewayv1.Identifier_LicensedInstanceIdentifier{LicenseKey: canary, InstanceId: canary},
			},
		}},
		Events: []*telemetrygatewayv1.Event{{Id: canary, Feature: canary, Action: canary}},
	})
	call.Header().Set("Authorization", "Bearer "+canary)
	if _, err := telemetrygatewayv1connect.NewTelemetryGatewayServiceClient(server.Client(), server.URL).
		RecordEventBatch(t.Context(), call); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Fatal(err)
	}
	server.Close()
	if err := shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) != 1 {
		t.Fatalf("%d exports, want 1", len(c.requests))
	}
	sent := c.requests[0].ResourceSpans[0]
	about := map[string]string{}
	for _, a := range sent.Resource.Attributes {
		about[a.Key] = a.Value.GetStringValue()
	}
	for key, want := range map[string]string{
		"service.name": "telemetry-gateway", "service.version": "v1.2.3", "deployment.environment.name": "test",
	} {
		if about[key] != want {
			t.Errorf("%s is %q, want %q", key, about[key], want)
		}
	}
	spans := sent.ScopeSpans[0].Spans
	if len(spans) != 1 || spans[0].Name != "telemetrygateway.v1.TelemetryGatewayService/RecordEventBatch" {
		t.Errorf("got spans %v", spans)
	}
	if bytes.Contains(c.raw.Bytes(), []byte(canary)) {
		t.Error("a span holds something of the call's content")
	}
}

// What may not leave is dropped, and not kept until it may.
func TestSpansThatMayNotLeaveAreDropped(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	var allowed atomic.Bool
	provider, shutdown, err := observe.Tracing(t.Context(), observe.TracingOptions{
		Enabled: true, Allowed: allowed.Load, Service: "telemetry-instance", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, allow := range map[string]bool{"may": true, "may not": false} {
		allowed.Store(allow)
		_, span := provider.Tracer("test").Start(t.Context(), name)
		span.End()
		if err := provider.(*sdktrace.TracerProvider).ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	allowed.Store(true)
	if err := shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) != 1 || c.requests[0].ResourceSpans[0].ScopeSpans[0].Spans[0].Name != "may" {
		t.Errorf("what was sent is %v", c.requests)
	}
}

func TestWithoutAnEndpointNothingIsTraced(t *testing.T) {
	provider, shutdown, err := observe.Tracing(t.Context(), observe.TracingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, span := provider.Tracer("test").Start(t.Context(), "test")
	if span.IsRecording() || span.SpanContext().IsValid() {
		t.Error("a span is recorded that nobody will send")
	}
	if err := shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnEndpointThatRefusesIsLoggedOnce(t *testing.T) {
	refuse := httptest.NewServer(http.NotFoundHandler())
	defer refuse.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", refuse.URL)
	var lines bytes.Buffer
	provider, shutdown, err := observe.Tracing(t.Context(), observe.TracingOptions{
		Enabled: true, Service: "telemetry-gateway", Log: slog.New(slog.NewTextHandler(&lines, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	flush := provider.(interface {
		trace.TracerProvider
		ForceFlush(context.Context) error
	})
	for range 3 {
		_, span := provider.Tracer("test").Start(t.Context(), "test")
		span.End()
		if err := flush.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(lines.String(), "traces cannot be sent"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, &lines)
	}
}
