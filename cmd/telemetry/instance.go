// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/exporter"
	"github.com/telemetrygateway/telemetry/intake"
	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/gateway"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/queue"
)

// runInstance wires the instance:
//
//	pages ─► listener ─► visitor ─► intake ─► recorder ─► event log
//	extensions                        │           └─────► queue ─► exporter ─► gateway
//	                                  └ administrators' queries ◄─┘
//	licence, allow list ─► rules ─► the queue's policy, the exporter's identity
//	operators ─► admin listener ─► metrics, profiles, health
//
// What can be wrong is found out before anything is written. It stops in this
// order: not ready → no new requests → requests under way finish → the exporter
// finishes the batch in flight → databases close → the last traces are sent.
func runInstance(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parseInstance(args, stdout, stderr)
	if err != nil {
		return err
	}
	log, err := observe.NewLogger(stderr, c.logFormat, c.logLevel)
	if err != nil {
		return command.BadConfig("%w", err)
	}
	built := command.ReadBuild(version)
	rules, err := readRules(c, log)
	if err != nil {
		return err
	}
	send, err := c.clientOptions()
	if err != nil {
		return err
	}
	var tlsConfig *tls.Config
	if c.tlsCert != "" {
		if tlsConfig, err = serverTLS(c.tlsCert, c.tlsKey, log); err != nil {
			return command.BadConfig("%w; see -tls-cert and -tls-key", err)
		}
	}
	traced := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	tracer, flushTraces, err := observe.Tracing(ctx, observe.TracingOptions{
		Enabled: traced, Allowed: rules.sends.Load, Service: "telemetry-instance", Version: built.Version, Log: log,
	})
	if err != nil {
		return command.BadConfig("%w", err)
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

	policy, _ := rules.policy()
	stores, err := c.openStores(ctx, policy, log)
	if err != nil {
		return err
	}
	defer stores.close() // again, if it gets as far as stopping
	metrics := observe.NewInstanceMetrics(built.Version, built.Commit, stores.stats)
	rules.failed = func(file string) { metrics.FileErrors.Add(1, file) }
	rules.set = func(p queue.Policy) {
		stores.queue.SetPolicy(p)
		metrics.Mode(p.Mode.String())
	}
	report := &reporter{metrics}
	export, err := exporter.New(stores.queue, c.gateway, exporter.Options{
		Identity: func() exporter.Identity {
			return exporter.Identity{LicenseKey: *rules.license.Load(), InstanceID: c.siteID, ExternalURL: c.externalURL}
		},
		Interval: c.exportInterval, Batch: c.exportBatch, CleanupInterval: c.cleanupInterval, Grace: c.stopTimeout / 2,
		Client: send, Logger: log, OnPass: report.pass, OnPrune: report.pruned,
	})
	if err != nil {
		return command.BadConfig("%w", err)
	}
	health := observe.NewHealth(observe.HealthOptions{
		Ready:   stores.readiness(log),
		Note:    func() string { return exportTrouble(export.Status(), c.gateway) },
		Version: built.Version, Build: built,
	})
	recorder := telemetry.New(telemetry.Options{ServerVersion: cmp.Or(c.serverVersion, built.Version), TraceID: traceID}, stores.recordTo(c.adminMode == queue.Off, metrics)...)
	door := intake.GraphQL(recorder, intake.Options{
		Queue: stores.queue, Log: stores.log, Admin: rules.admin,
		AllowedOrigins: c.origins, Logger: log, OnRequest: report.request,
	})

	log.Info("instance started", "version", built.Version, "listen", listener.Addr().String(), "tls", tlsConfig != nil, "db", command.MaskURLs(c.db),
		"event_log", command.MaskURLs(c.eventLog), "gateway", c.gateway, "instance", cmp.Or(c.siteID, stores.queue.InstanceID()))
	c.warn(log)
	rules.enforce()

	// What runs besides requests goes on until they are finished.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { rules.watch(background) })
	running.Go(func() { stores.tidy(background, c.cleanupInterval, c.gateway != "", report, log) })
	running.Go(func() {
		if c.gateway == "" {
			return
		}
		if err := export.Run(background); err != nil {
			log.Error("the exporter ended", "error", err)
		}
	})
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

	err = gateway.Serve(ctx, listener, c.handler(door, tracer, health), gateway.ServeOptions{
		TLS: tlsConfig, TrustedProxies: c.trustedProxies, StopTimeout: c.stopTimeout / 2, Log: log,
		Stop: func() {
			log.Info("instance stopping", "within", c.stopTimeout)
			health.Stop()
		},
	})
	stopBackground()
	running.Wait()
	err = errors.Join(err, stores.close())
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if traceErr := flushTraces(bound); traceErr != nil {
		log.Warn("the last traces were not sent", "error", traceErr)
	}
	log.Info("instance stopped")
	return err
}

// handler is everything on the port that faces clients.
func (c *instanceConfig) handler(door http.Handler, tracer trace.TracerProvider, health *observe.Health) http.Handler {
	mux := http.NewServeMux()
	health.Handle(mux)
	visitors := visitors{
		userHeader: c.userHeader, countryHeader: c.countryHeader, proxies: c.trustedProxies,
		secure: strings.HasPrefix(c.externalURL, "https:"), tracer: tracer.Tracer("telemetry instance"),
	}
	mux.Handle("/.api/graphql", visitors.wrap(door))
	if c.demoPage {
		handleDemoPage(mux)
	}
	return mux
}

// clientOptions are for the client that exports. They and the gateway's URL are
// checked here, before anything is opened.
func (c *instanceConfig) clientOptions() (client.Options, error) {
	o := client.Options{Protocol: client.Auto}
	if c.ca != "" {
		var err error
		if o.TLS, err = trusting(c.ca); err != nil {
			return o, err
		}
	}
	if c.gateway == "" {
		return o, nil
	}
	if _, err := client.New(c.gateway, client.Unlicensed("check", c.externalURL), o); err != nil {
		return o, command.BadConfig("-gateway: %w", err)
	}
	return o, nil
}

// warn names what works and is yet unlikely to be wanted in production.
func (c *instanceConfig) warn(log *slog.Logger) {
	if c.operatedBy == "vendor" {
		log.Warn("nothing is redacted: private metadata and marketing data leave this instance, because -operated-by is vendor")
	}
	switch u, err := url.Parse(c.gateway); {
	case c.gateway == "":
		log.Warn("nothing is exported until -gateway is set; events are kept until then")
	case err == nil && u.Scheme == "http" && !loopback(u.Hostname()):
		log.Warn("events and licence key travel unencrypted: give -gateway an https URL", "gateway", c.gateway)
	}
}

// loopback says whether a host is this machine.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
