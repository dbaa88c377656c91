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
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"connectrpc.com/otelconnect"

	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/gateway"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

const gatewayHelp = `[flags]

Takes events from instances over gRPC, gRPC-Web and Connect, on one port, and
publishes each as labelled JSON to a topic. An event is acknowledged once it is
durable in the topic or, if it can never be published, among the dead letters.

Without flags it keeps both in SQLite files under ./data, takes events from
unlicensed instances, and refuses licensed ones, because it has no key to check
their licences with.

  telemetry gateway
  telemetry gateway -license-keys license.pub -unlicensed deny
  telemetry gateway -listen :443 -tls-cert cert.pem -tls-key key.pem
  telemetry gateway -topic gcppubsub://projects/P/topics/events \
      -deadletter gcppubsub://projects/P/topics/events-dead
  TELEMETRY_TOPIC=log: telemetry gateway

A SQLite topic keeps a message until every subscription has read it, and then
for a week: sqlite://PATH?retention=168h. Without a subscription it keeps
everything. max_age=720h and max_bytes=10000000000 remove the oldest messages
even if they are unread; each such message is counted.

It serves /livez, /readyz and /version beside the RPCs, and metrics and
profiles on the admin address. SIGTERM ends it once calls under way have been
answered. docs/limits.md lists every limit.
`

// gatewayConfig is what the flags of telemetry gateway say.
type gatewayConfig struct {
	listen, admin              string
	topic, deadLetters         string
	licenses                   identity.LicenseOptions
	licenseExpired, unlicensed string
	rates                      identity.UnlicensedOptions
	keyForm                    string
	maxMessage, maxInFlight    int64
	connections, perAddress    int
	proxies                    string
	tlsCert, tlsKey            string
	stopTimeout                time.Duration
	reflection                 bool
	diagnostics                *secret
	logFormat, logLevel        string
	trustedProxies             []netip.Prefix
	parsedKeyForm              payload.KeyForm
}

func parseGateway(args []string, stdout, stderr io.Writer) (*gatewayConfig, error) {
	c := new(gatewayConfig)
	f := newFlags("telemetry gateway", gatewayHelp)
	f.StringVar(&c.listen, "listen", "127.0.0.1:6080", "`ADDRESS` for senders")
	f.env("listen", "PORT", func(port string) string { return ":" + port })
	f.StringVar(&c.admin, "admin", "127.0.0.1:6081", "`ADDRESS` for metrics and profiles, or off")
	f.StringVar(&c.topic, "topic", "sqlite://data/topic.db", "`URL` of the topic: sqlite://PATH, gcppubsub://projects/P/topics/T, log:, memory: or discard:")
	f.StringVar(&c.deadLetters, "deadletter", "sqlite://data/deadletter.db", "`URL` of the topic for events that can never be published")
	f.StringVar(&c.licenses.KeysFile, "license-keys", "", "`FILE` of public keys that licences may be signed with, one a line; read again when it changes")
	f.StringVar(&c.licenses.RevokedFile, "license-revoked", "", "`FILE` of revoked licences: IDs or fingerprints, one a line; read again when it changes")
	f.BoolVar(&c.licenses.AllowSHA1, "license-allow-sha1", false, "accept licence keys signed with RSA and SHA-1 (ssh-rsa)")
	f.StringVar(&c.licenseExpired, "license-expired", "allow", "`allow|deny` expired licences; when allowed they are labelled license.status=expired")
	f.StringVar(&c.unlicensed, "unlicensed", "allow", "`allow|deny` unlicensed instances")
	f.Float64Var(&c.rates.Rate, "unlicensed-rate", limits.UnlicensedRate, "`EVENTS` per second from one address of unlicensed instances, on average")
	f.IntVar(&c.rates.Burst, "unlicensed-burst", limits.UnlicensedBurst, "`EVENTS` at once from one address of unlicensed instances")
	f.Float64Var(&c.rates.TotalRate, "unlicensed-total-rate", limits.UnlicensedTotalRate, "`EVENTS` per second from all unlicensed instances, on average")
	f.IntVar(&c.rates.TotalBurst, "unlicensed-total-burst", limits.UnlicensedTotalBurst, "`EVENTS` at once from all unlicensed instances")
	f.StringVar(&c.keyForm, "payload-license-key", string(payload.KeyFingerprint), "what the payload shows of a licence key: `fingerprint|full|none`; full is as the original service has it")
	f.Int64Var(&c.maxMessage, "max-message-bytes", limits.ReceiveBytes, "`BYTES` of the largest message received")
	f.Int64Var(&c.maxInFlight, "max-inflight-bytes", limits.InFlightBytes, "`BYTES` of memory for all messages in flight together; further ones wait")
	f.IntVar(&c.connections, "max-connections", limits.Connections, "`NUMBER` of connections open at once; further ones wait")
	f.IntVar(&c.perAddress, "max-connections-per-address", limits.ConnectionsPerNetwork, "`NUMBER` of them open at once from one address; further ones are closed")
	f.StringVar(&c.proxies, "trusted-proxies", "", "`NETWORKS` (such as 10.0.0.0/8,fd00::/8) whose X-Forwarded-For tells a sender's address")
	f.StringVar(&c.tlsCert, "tls-cert", "", "PEM `FILE` of the certificate chain; read again when it changes. Without one, senders use cleartext")
	f.StringVar(&c.tlsKey, "tls-key", "", "PEM `FILE` of the certificate's private key")
	f.DurationVar(&c.stopTimeout, "stop-timeout", limits.StopTimeout, "how long calls may take to finish once the gateway has been told to stop")
	f.BoolVar(&c.reflection, "reflection", false, "serve gRPC reflection, so that tools can list the methods")
	c.diagnostics = f.Secret("diagnostics-secret", "bearer `TOKEN` that /-/healthz asks for")
	f.env("diagnostics-secret", "DIAGNOSTICS_SECRET", nil)
	f.StringVar(&c.logFormat, "log-format", "text", "`text|json`")
	f.StringVar(&c.logLevel, "log-level", "info", "`debug|info|warn|error`")
	if err := f.parse(args, stdout, stderr); err != nil {
		return nil, err
	}
	return c, c.check()
}

// check finds what is wrong with the flags alone.
func (c *gatewayConfig) check() error {
	var err error
	for _, choice := range []struct{ flag, value string }{
		{"license-expired", c.licenseExpired}, {"unlicensed", c.unlicensed},
	} {
		if choice.value != "allow" && choice.value != "deny" {
			return badConfig("-%s is %q: it must be allow or deny", choice.flag, choice.value)
		}
	}
	c.licenses.DenyExpired = c.licenseExpired == "deny"
	c.rates.Deny = c.unlicensed == "deny"
	if c.parsedKeyForm, err = payload.ParseKeyForm(c.keyForm); err != nil {
		return badConfig("-payload-license-key: %w", err)
	}
	for _, n := range []struct {
		flag             string
		value, low, high float64
	}{
		{"unlicensed-rate", c.rates.Rate, 0.001, 1e9},
		{"unlicensed-burst", float64(c.rates.Burst), limits.EventsPerMessage + 1, 1e9},
		{"unlicensed-total-rate", c.rates.TotalRate, 0.001, 1e9},
		{"unlicensed-total-burst", float64(c.rates.TotalBurst), limits.EventsPerMessage + 1, 1e9},
		{"max-message-bytes", float64(c.maxMessage), limits.ReceiveMinBytes, limits.ReceiveMaxBytes},
		{"max-inflight-bytes", float64(c.maxInFlight), limits.InFlightMinBytes, 1 << 40},
		{"max-connections", float64(c.connections), 1, 1e6},
		{"max-connections-per-address", float64(c.perAddress), 1, 1e6},
		{"stop-timeout", c.stopTimeout.Seconds(), 0.001, 3600},
	} {
		if n.value < n.low || n.value > n.high {
			return badConfig("-%s is out of range: it must be from %s to %s", n.flag, plain(n.low), plain(n.high))
		}
	}
	if strings.HasPrefix(c.deadLetters, "gcppubsub:") && c.maxMessage > limits.ReceivePubSubBytes {
		return badConfig("-max-message-bytes is %d, but dead letters of events that large do not fit into Pub/Sub: use at most %d, or a sqlite: -deadletter", c.maxMessage, limits.ReceivePubSubBytes)
	}
	if !volatile(c.topic) && sameTopic(c.topic, c.deadLetters) {
		return badConfig("-topic and -deadletter are both %s: give dead letters a topic of their own", maskURLs(c.topic))
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		return badConfig("-tls-cert and -tls-key go together: set both or neither")
	}
	if c.proxies != "" {
		for s := range strings.SplitSeq(c.proxies, ",") {
			p, err := netip.ParsePrefix(strings.TrimSpace(s))
			if err != nil {
				return badConfig("-trusted-proxies: %w; write networks such as 10.0.0.0/8, with commas between them", err)
			}
			c.trustedProxies = append(c.trustedProxies, p.Masked())
		}
	}
	return nil
}

// runGateway wires the gateway:
//
//	senders ─► listener ─► gateway ─► topic
//	                          │  └──► dead letters
//	                          └ identities ◄─ licence files
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
		return badConfig("%w", err)
	}
	built := readBuild()
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
	identities, err := identity.New(identity.Options{Licenses: c.licenses, Unlicensed: c.rates})
	if err != nil {
		return badConfig("%w; see -license-keys and -license-revoked", err)
	}
	var tlsConfig *tls.Config
	if c.tlsCert != "" {
		if tlsConfig, err = serverTLS(c.tlsCert, c.tlsKey, log); err != nil {
			return badConfig("%w; see -tls-cert and -tls-key", err)
		}
	}
	traced := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	tracer, flushTraces, err := observe.Tracing(ctx, observe.TracingOptions{Enabled: traced, Service: "telemetry-gateway", Version: built.Version, Log: log})
	if err != nil {
		return badConfig("%w", err)
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

	listener, err := listen("-listen", c.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	var adminListener net.Listener
	if c.admin != "" && c.admin != "off" {
		if adminListener, err = listen("-admin", c.admin); err != nil {
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
		Version: built.Version, Build: built, DiagnosticsSecret: string(*c.diagnostics),
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
		"topic", maskURLs(c.topic), "deadletter", maskURLs(c.deadLetters), "unlicensed", c.unlicensed)
	c.warn(log)

	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	go identities.Run(background)
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

// warn names what works and is yet unlikely to be wanted in production.
func (c *gatewayConfig) warn(log *slog.Logger) {
	if c.licenses.KeysFile == "" {
		log.Warn("licensed instances are refused: there is no key to check their licences with; set -license-keys")
	}
	for name, u := range map[string]string{"topic": c.topic, "deadletter": c.deadLetters} {
		if volatile(u) {
			log.Warn("acknowledged events are not durable here", name, u)
		}
	}
}

// volatile says whether a topic keeps nothing beyond the process.
func volatile(topicURL string) bool {
	scheme, _, _ := strings.Cut(topicURL, ":")
	return scheme == "discard" || scheme == "log" || scheme == "memory"
}

// sameTopic says whether two URLs name one topic, however they are spelt.
func sameTopic(a, b string) bool {
	name := func(u string) string {
		u, _, _ = strings.Cut(u, "?")
		path, ok := strings.CutPrefix(u, "sqlite://")
		if !ok {
			return u
		}
		if plain, err := url.PathUnescape(path); err == nil {
			path = plain
		}
		if absolute, err := filepath.Abs(path); err == nil {
			path = absolute
		}
		return "sqlite://" + path
	}
	return name(a) == name(b)
}

// plain writes a number as a person would type it.
func plain(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// openTopics opens all topics, or none.
func openTopics(ctx context.Context, log *slog.Logger, urls ...string) ([]topic.Topic, error) {
	for _, u := range urls {
		if err := topic.Check(ctx, u); err != nil {
			return nil, badConfig("%w", err)
		}
	}
	var opened []topic.Topic
	for _, u := range urls {
		t, err := topic.Open(ctx, u, log)
		if err != nil {
			for _, o := range opened {
				err = errors.Join(err, o.Close())
			}
			return nil, badConfig("%w", err)
		}
		opened = append(opened, t)
	}
	return opened, nil
}

func listen(name, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, badConfig("%s %s: %w; choose another address, or stop what uses it", name, address, errors.Unwrap(err))
	}
	return l, nil
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
