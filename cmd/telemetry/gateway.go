// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"connectrpc.com/otelconnect"

	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/gateway"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// runGateway wires the gateway:
//
//	senders ─► listener ─► gateway ─► topic
//	                          │  └──► dead letters
//	                          └ identities ◄─ licence files, services file
//	                                └──► OAuth provider
//	operators ─► admin listener ─► metrics, profiles, health
//
// What can be wrong is found out before anything is written. It stops in this
// order: not ready → no new calls → calls under way finish → topics close →
// the last traces are sent.
func runGateway(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parseGateway(args, stdout, stderr)
	if err != nil {
		return err
	}
	log, err := observe.NewLogger(stderr, c.logFormat, c.logLevel)
	if err != nil {
		return command.BadConfig("%w", err)
	}
	built := command.ReadBuild(version)
	metrics := observe.NewMetrics(built.Version, built.Commit)

	c.licenses.Log = log
	c.licenses.Loaded = func(file string, entries int, err error) {
		if err != nil {
			metrics.LicenseFileErrors.Add(1, file)
			return
		}
		metrics.LicenseFileEntries.Set(float64(entries), file)
		metrics.LicenseFileLoaded.Set(float64(time.Now().Unix()), file)
	}
	var provider provider
	provider.observe(&c.serviceOptions, metrics, log)
	identities, err := identity.New(identity.Options{Licenses: c.licenses, Unlicensed: c.rates, Services: c.serviceOptions})
	if err != nil {
		return command.BadConfig("%w; see telemetry help gateway", err)
	}
	var tlsConfig *tls.Config
	if c.tlsCert != "" {
		if tlsConfig, err = serverTLS(c.tlsCert, c.tlsKey, log); err != nil {
			return command.BadConfig("%w; see -tls-cert and -tls-key", err)
		}
	}
	traced := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	tracer, flushTraces, err := observe.Tracing(ctx, observe.TracingOptions{Enabled: traced, Service: "telemetry-gateway", Version: built.Version, Log: log})
	if err != nil {
		return command.BadConfig("%w", err)
	}
	var interceptors []connect.Interceptor
	if traced {
		// It begins traces of its own: a sender's are not trusted.
		i, err := otelconnect.NewInterceptor(otelconnect.WithTracerProvider(tracer), otelconnect.WithoutMetrics())
		if err != nil {
			return fmt.Errorf("set up traces: %w", err)
		}
		interceptors = append(interceptors, i)
	}

	listener, err := command.Listen("-listen", c.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	var adminListener net.Listener
	if c.admin != "" && c.admin != "off" {
		if adminListener, err = command.Listen("-admin", c.admin); err != nil {
			return err
		}
		defer adminListener.Close()
	}

	topics, err := openTopics(ctx, log, c.topic, c.deadLetters)
	if err != nil {
		return err
	}
	g := gateway.New(gateway.Options{
		Topic: topics[0], DeadLetters: topics[1], Identities: identities, Metrics: metrics,
		KeyForm: c.parsedKeyForm, MaxMessageBytes: c.maxMessage, InFlightBytes: c.maxInFlight,
		TrustedProxies: c.trustedProxies, Interceptors: interceptors, Log: log,
	})
	health := observe.NewHealth(observe.HealthOptions{
		Ready: func(ctx context.Context) error {
			return errors.Join(wrap("topic", topics[0].Ping(ctx)), wrap("dead letters", topics[1].Ping(ctx)))
		},
		Note: provider.note, Version: built.Version, Build: built, DiagnosticsSecret: string(*c.diagnostics),
	})

	for i, name := range []string{"events", "deadletter"} {
		// Only topics that keep messages themselves know how many.
		if t, ok := topics[i].(interface {
			Stats(context.Context) (topic.Stats, error)
		}); ok {
			metrics.Topic(name, func(ctx context.Context) (observe.TopicStats, error) {
				s, err := t.Stats(ctx)
				return observe.TopicStats(s), err
			})
		}
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(c.maxInFlight + limits.PendingResponseBytes + limits.OtherBytes)
	}
	log.Info("gateway started", "version", built.Version, "listen", listener.Addr().String(), "tls", tlsConfig != nil,
		"topic", command.MaskURLs(c.topic), "deadletter", command.MaskURLs(c.deadLetters), "unlicensed", c.unlicensed)
	c.warn(log)

	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	go identities.Run(background)
	go command.Garbage(background)
	if adminListener != nil {
		admin := &http.Server{Handler: observe.Admin(metrics.Handler(), health), ReadHeaderTimeout: limits.StallTimeout}
		defer admin.Close()
		go func() {
			if err := admin.Serve(adminListener); !errors.Is(err, http.ErrServerClosed) {
				log.Error("the admin listener ended", "error", err)
			}
		}()
		log.Info("admin started", "listen", adminListener.Addr().String())
	}

	err = gateway.Serve(ctx, listener, c.handler(g, health), gateway.ServeOptions{
		TLS: tlsConfig, Connections: c.connections, ConnectionsPerNetwork: c.perAddress, TrustedProxies: c.trustedProxies, StopTimeout: c.stopTimeout, Log: log,
		Stop: func() {
			log.Info("gateway stopping", "within", c.stopTimeout)
			health.Stop()
			g.Stop()
		},
	})
	for _, t := range topics {
		err = errors.Join(err, t.Close())
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if traceErr := flushTraces(bound); traceErr != nil {
		log.Warn("the last traces were not sent", "error", traceErr)
	}
	log.Info("gateway stopped")
	return err
}

// handler is everything on the port that faces senders.
func (c *gatewayConfig) handler(g *gateway.Gateway, health *observe.Health) http.Handler {
	mux := http.NewServeMux()
	g.Handle(mux)
	health.Handle(mux)
	small := connect.WithReadMaxBytes(limits.FirstMessageBytes)
	services := []string{
		telemetrygatewayv1connect.TelemeteryGatewayServiceName,
		telemetrygatewayv1connect.TelemetryGatewayServiceName,
	}
	mux.Handle(grpchealth.NewHandler(grpcHealth{health, append(services, "")}, small))
	if c.reflection {
		reflector := grpcreflect.NewStaticReflector(append(services, grpchealth.HealthV1ServiceName)...)
		mux.Handle(grpcreflect.NewHandlerV1(reflector, small))
		mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, small))
	}
	return mux
}

// openTopics opens all topics, or none.
func openTopics(ctx context.Context, log *slog.Logger, urls ...string) ([]topic.Topic, error) {
	for _, u := range urls {
		if err := topic.Check(ctx, u); err != nil {
			return nil, command.BadConfig("%w", err)
		}
	}
	var opened []topic.Topic
	for _, u := range urls {
		t, err := topic.Open(ctx, u, log)
		if err != nil {
			for _, o := range opened {
				err = errors.Join(err, o.Close())
			}
			return nil, command.BadConfig("%w", err)
		}
		opened = append(opened, t)
	}
	return opened, nil
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// grpcHealth answers grpc.health.v1 from the same source as /readyz.
type grpcHealth struct {
	health   *observe.Health
	services []string
}

func (h grpcHealth) Check(ctx context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	for _, s := range h.services {
		if s != r.Service {
			continue
		}
		status := grpchealth.StatusServing
		if h.health.Check(ctx) != nil {
			status = grpchealth.StatusNotServing
		}
		return &grpchealth.CheckResponse{Status: status}, nil
	}
	return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("unknown service %s", r.Service))
}
