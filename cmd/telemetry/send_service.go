// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"strings"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/internal/command"
)

// credentialFlags are the flags of telemetry send about a managed service.
type credentialFlags struct {
	service, environment string
	tokenURL, clientID   string
	secretFile           string
	scope, audience      string
}

func (c *credentialFlags) define(f *command.Flags) {
	f.StringVar(&c.service, "service", "", "`ID` of a managed service to send as, with an access token")
	f.StringVar(&c.environment, "environment", "", "`NAME` of the service's environment, such as prod")
	f.StringVar(&c.tokenURL, "token-url", "", "`URL` of the token endpoint of the service's OAuth provider")
	f.StringVar(&c.clientID, "client-id", "", "`ID` of the service as a client of the provider")
	f.StringVar(&c.secretFile, "client-secret-file", "", "`FILE` with the secret that goes with it")
	f.StringVar(&c.scope, "scope", client.DefaultScope, "`SCOPES` to ask for, with spaces between them")
	f.StringVar(&c.audience, "audience", "", "`NAME` of what the token is for, if the provider wants to be told")
}

func (c *credentialFlags) check() error {
	if c.service == "" {
		for _, f := range []struct{ flag, value string }{
			{"environment", c.environment}, {"token-url", c.tokenURL}, {"client-id", c.clientID}, {"client-secret-file", c.secretFile}, {"audience", c.audience},
		} {
			if f.value != "" {
				return command.BadConfig("-%s is for managed services: set -service too", f.flag)
			}
		}
		return nil
	}
	for _, f := range []struct{ flag, value string }{
		{"token-url", c.tokenURL}, {"client-id", c.clientID}, {"client-secret-file", c.secretFile},
	} {
		if f.value == "" {
			return command.BadConfig("-service needs an access token: set -%s", f.flag)
		}
	}
	return nil
}

// identity is the service, with tokens from its provider.
func (c *credentialFlags) identity(trusted *tls.Config) (client.Identity, error) {
	secret, err := readSecret("client-secret-file", c.secretFile)
	if err != nil {
		return client.Identity{}, err
	}
	tokens, err := client.ClientCredentials{
		TokenURL: c.tokenURL, ClientID: c.clientID, ClientSecret: secret,
		Scopes: strings.Fields(c.scope), Audience: c.audience, TLS: trusted,
	}.TokenSource()
	if err != nil {
		return client.Identity{}, command.BadConfig("%w", err)
	}
	return client.Service(c.service, c.environment, tokens), nil
}
