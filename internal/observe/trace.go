// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// TracingOptions say whether and as whom to trace.
type TracingOptions struct {
	// Enabled is whether there is anywhere to send traces to. Where that is,
	// and everything else about it, comes from the standard OTEL_ variables,
	// which the exporter reads itself.
	Enabled bool
	// Allowed, if set, is asked before anything is sent; what it does not allow
	// is dropped.
	Allowed func() bool
	// Service is the name of what is traced, such as "telemetry-gateway", and
	// Version that of this binary.
	Service, Version string
	Log              *slog.Logger
}

// Tracing returns a source of tracers and a function that sends what is still
// unsent and ends it, within the time that its context has. Traces are sent
// with OTLP over HTTP. An endpoint that cannot be reached is logged, once each
// time it goes away, and never hinders anything else.
func Tracing(ctx context.Context, o TracingOptions) (trace.TracerProvider, func(context.Context) error, error) {
	if !o.Enabled {
		return noop.NewTracerProvider(), func(context.Context) error { return nil }, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("set up traces, see the OTEL_EXPORTER_OTLP_ variables: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			attribute.String("service.name", o.Service),
			attribute.String("service.version", o.Version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("set up traces, see OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	p := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&loggedExporter{SpanExporter: exporter, allowed: o.Allowed, log: o.Log}),
		sdktrace.WithResource(about))
	return p, p.Shutdown, nil
}

// loggedExporter logs when export begins to fail and when it works again,
// where the library would print a line for each batch.
type loggedExporter struct {
	sdktrace.SpanExporter
	allowed func() bool // nil for always
	log     *slog.Logger
	failing atomic.Bool
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if e.allowed != nil && !e.allowed() {
		return nil
	}
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if was := e.failing.Swap(err != nil); err != nil && !was {
		e.log.Warn("traces cannot be sent and are dropped", "error", err)
	} else if err == nil && was {
		e.log.Info("traces can be sent again")
	}
	return nil
}
