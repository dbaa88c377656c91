// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

const gatewayHelp = `[flags]

Takes events from instances and managed services over gRPC, gRPC-Web and
Connect, on one port, and publishes each as labelled JSON to a topic. An event is
acknowledged once it is durable in the topic or, if it can never be published,
among the dead letters.

Without flags it keeps both in SQLite files under ./data, takes events from
unlicensed instances, and refuses licensed ones and managed services, because it
has nothing to check licences and access tokens with.

  telemetry gateway
  telemetry gateway -license-keys license.pub -unlicensed deny
  telemetry gateway -listen :443 -tls-cert cert.pem -tls-key key.pem
  telemetry gateway -topic gcppubsub://projects/P/topics/events \
      -deadletter gcppubsub://projects/P/topics/events-dead
  TELEMETRY_TOPIC=log: telemetry gateway

Managed services are backends that send with an access token of an OAuth 2.0 or
OpenID provider. Their tokens are proven by asking the provider, which notices
within a minute that one was revoked; by signature, which needs no credentials
and knows nothing of that; or, with both, by signature first and the provider
then:

  telemetry gateway -oauth-introspection-url https://accounts.example.com/introspect \
      -oauth-client-id gateway -oauth-client-secret-file secret
  telemetry gateway -oauth-issuer https://accounts.example.com \
      -oauth-audience telemetry-gateway -services services.yaml

A client may only send as the service of its own ID, unless a file says more:

  services:
    - client: 3f6c9a                  # the client ID in the token
      service: pings                  # what it sends as
      environments: [prod, dev]       # what it may name; ["*"] for any

While the provider is away nobody is let in unproven: services are told to come
back, and instances are not affected.

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
	services                   serviceFlags
	keyForm                    string
	maxMessage, maxInFlight    int64
	connections, perAddress    int
	proxies                    string
	tlsCert, tlsKey            string
	stopTimeout                time.Duration
	reflection                 bool
	diagnostics                *command.Secret
	logFormat, logLevel        string
	trustedProxies             []netip.Prefix
	parsedKeyForm              payload.KeyForm
	serviceOptions             identity.ServiceOptions
}

func parseGateway(args []string, stdout, stderr io.Writer) (*gatewayConfig, error) {
	c := new(gatewayConfig)
	f := command.NewFlags("telemetry gateway", gatewayHelp)
	f.StringVar(&c.listen, "listen", "127.0.0.1:6080", "`ADDRESS` for senders")
	f.Env("listen", "PORT", func(port string) string { return ":" + port })
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
	c.services.define(f)
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
	f.Env("diagnostics-secret", "DIAGNOSTICS_SECRET", nil)
	f.StringVar(&c.logFormat, "log-format", "text", "`text|json`")
	f.StringVar(&c.logLevel, "log-level", "info", "`debug|info|warn|error`")
	if err := f.Parse(args, stdout, stderr); err != nil {
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
			return command.BadConfig("-%s is %q: it must be allow or deny", choice.flag, choice.value)
		}
	}
	c.licenses.DenyExpired = c.licenseExpired == "deny"
	c.rates.Deny = c.unlicensed == "deny"
	if c.parsedKeyForm, err = payload.ParseKeyForm(c.keyForm); err != nil {
		return command.BadConfig("-payload-license-key: %w", err)
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
			return command.BadConfig("-%s is out of range: it must be from %s to %s", n.flag, plain(n.low), plain(n.high))
		}
	}
	if strings.HasPrefix(c.deadLetters, "gcppubsub:") && c.maxMessage > limits.ReceivePubSubBytes {
		return command.BadConfig("-max-message-bytes is %d, but dead letters of events that large do not fit into Pub/Sub: use at most %d, or a sqlite: -deadletter", c.maxMessage, limits.ReceivePubSubBytes)
	}
	if !volatile(c.topic) && sameTopic(c.topic, c.deadLetters) {
		return command.BadConfig("-topic and -deadletter are both %s: give dead letters a topic of their own", command.MaskURLs(c.topic))
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		return command.BadConfig("-tls-cert and -tls-key go together: set both or neither")
	}
	if c.serviceOptions, err = c.services.options(); err != nil {
		return err
	}
	if c.proxies != "" {
		for s := range strings.SplitSeq(c.proxies, ",") {
			p, err := netip.ParsePrefix(strings.TrimSpace(s))
			if err != nil {
				return command.BadConfig("-trusted-proxies: %w; write networks such as 10.0.0.0/8, with commas between them", err)
			}
			c.trustedProxies = append(c.trustedProxies, p.Masked())
		}
	}
	return nil
}

// warn names what works and is yet unlikely to be wanted in production.
func (c *gatewayConfig) warn(log *slog.Logger) {
	if c.licenses.KeysFile == "" {
		log.Warn("licensed instances are refused: there is no key to check their licences with; set -license-keys")
	}
	c.services.warn(log)
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
