// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/oauth"
	"github.com/telemetrygateway/telemetry/internal/observe"
)

// serviceFlags are the flags of telemetry gateway about managed services.
type serviceFlags struct {
	issuer, introspectionURL string
	clientID, secretFile     string
	scope, audience, file    string
}

func (s *serviceFlags) define(f *command.Flags) {
	f.StringVar(&s.issuer, "oauth-issuer", "", "`URL` of the OpenID provider whose signed access tokens managed services send with; its keys are found by discovery")
	f.StringVar(&s.introspectionURL, "oauth-introspection-url", "", "`URL` at which the provider says whether an access token counts (RFC 7662); with -oauth-issuer too, signatures are checked first")
	f.StringVar(&s.clientID, "oauth-client-id", "", "`ID` of this gateway as a client of the provider, for introspection")
	f.StringVar(&s.secretFile, "oauth-client-secret-file", "", "`FILE` with the secret that goes with it; read once, at the start")
	f.StringVar(&s.scope, "oauth-scope", identity.DefaultScope, "`SCOPE` that a token must grant, as service::permission::action")
	f.StringVar(&s.audience, "oauth-audience", "", "`NAME` that must be among a token's audiences; any will do without it")
	f.StringVar(&s.file, "services", "", "YAML `FILE` that says which client may send as which service, and from which environments; read again when it changes. Without one, a client may only send as the service of its own ID")
}

// enabled says whether there is any way to prove an access token.
func (s *serviceFlags) enabled() bool { return s.issuer != "" || s.introspectionURL != "" }

// options reads the secret. What else can be wrong with the flags, packages
// identity and oauth find out.
func (s *serviceFlags) options() (identity.ServiceOptions, error) {
	o := identity.ServiceOptions{
		OAuth: oauth.Options{Issuer: s.issuer, IntrospectionURL: s.introspectionURL, ClientID: s.clientID, Audience: s.audience},
		Scope: s.scope, File: s.file,
	}
	if !s.enabled() {
		for _, f := range []struct{ flag, value string }{
			{"oauth-client-id", s.clientID}, {"oauth-client-secret-file", s.secretFile}, {"oauth-audience", s.audience},
		} {
			if f.value != "" {
				return o, command.BadConfig("-%s without a provider of access tokens: set -oauth-issuer or -oauth-introspection-url too", f.flag)
			}
		}
	}
	var err error
	if s.secretFile != "" {
		o.OAuth.ClientSecret, err = readSecret("oauth-client-secret-file", s.secretFile)
	}
	return o, err
}

// readSecret reads the file that a flag names. White space around the secret,
// such as the line break that editors add, is not a part of it.
func readSecret(flag, path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", command.BadConfig("-%s: %w", flag, err)
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" {
		return "", command.BadConfig("-%s: %s is empty", flag, path)
	}
	return secret, nil
}

// warn names what works and is yet unlikely to be wanted in production.
func (s *serviceFlags) warn(log *slog.Logger) {
	switch {
	case !s.enabled():
		log.Info("managed services are refused: there is no provider to check their access tokens with; set -oauth-issuer or -oauth-introspection-url")
	case s.introspectionURL == "" && s.audience == "":
		log.Warn("access tokens that the provider issued for somebody else are taken too, if they grant the scope; set -oauth-audience")
	}
}

// A provider is what this gateway knows of the OAuth provider's health.
type provider struct{ away atomic.Bool }

// note says so when the provider cannot be asked. The gateway stays ready:
// instances do not need the provider, and services keep their events.
func (p *provider) note() string {
	if p.away.Load() {
		return "the OAuth provider cannot be asked: managed services are told to come back"
	}
	return ""
}

// observe has o tell log, metrics and p what becomes of tokens.
func (p *provider) observe(o *identity.ServiceOptions, metrics *observe.Metrics, log *slog.Logger) {
	decides := "signature"
	if o.OAuth.IntrospectionURL != "" {
		decides = "introspection"
	}
	o.Log, o.OAuth.Log = log, log
	o.OAuth.Checked = func(c oauth.Check) {
		metrics.TokenChecks.Add(1, c.Method, c.Result)
		if c.Result == "limited" {
			return // and nobody was asked
		}
		if c.Method == decides {
			p.away.Store(c.Result == "unavailable")
		}
		if c.Method == "introspection" {
			metrics.TokenCheckDuration.Observe(c.Took.Seconds())
		}
	}
	o.Loaded = func(entries int, err error) {
		if err != nil {
			metrics.ServicesFileErrors.Add(1)
			return
		}
		metrics.ServicesFileEntries.Set(float64(entries))
		metrics.ServicesFileLoaded.Set(float64(time.Now().Unix()))
	}
}
