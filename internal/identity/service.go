// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"sync"
	"time"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/oauth"
)

// ServiceOptions says which managed services may send. Without a provider in
// OAuth, none may.
type ServiceOptions struct {
	// OAuth says how access tokens are proven.
	OAuth oauth.Options
	// Scope is what a token must grant; empty means DefaultScope.
	Scope string
	// File, if set, says which client may send as which service. Without one,
	// services are named like their clients.
	File string
	// Log is told when File has changed or cannot be read again. Loaded, if set,
	// is called after every look at it, with how many entries it has, or with
	// what is wrong with it.
	Log    *slog.Logger
	Loaded func(entries int, err error)
}

// services lets in managed services with an access token.
type services struct {
	tokens *oauth.Verifier // nil without a provider
	scope  Scope
	file   *serviceFile
}

func newServices(o ServiceOptions, now func() time.Time) (*services, error) {
	if o.OAuth.Issuer == "" && o.OAuth.IntrospectionURL == "" {
		if o.File != "" {
			return nil, errors.New("a services file without a provider of access tokens: set -oauth-issuer or -oauth-introspection-url too, or drop -services")
		}
		return &services{}, nil
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Loaded == nil {
		o.Loaded = func(int, error) {}
	}
	if o.OAuth.Log == nil {
		o.OAuth.Log = o.Log
	}
	if o.OAuth.Now == nil {
		o.OAuth.Now = now
	}
	s := new(services)
	var err error
	if s.scope, err = ParseScope(cmp.Or(o.Scope, DefaultScope)); err != nil {
		return nil, fmt.Errorf("-oauth-scope: %w", err)
	}
	o.OAuth.Wanted = func(c *oauth.Claims) bool { return s.scope.GrantedBy(c.Scopes) }
	if s.tokens, err = oauth.New(o.OAuth); err != nil {
		return nil, err
	}
	if s.file, err = openServiceFile(o.File, o.Log, o.Loaded); err != nil {
		return nil, err
	}
	return s, nil
}

// run keeps up with the provider and rereads the file until ctx ends.
func (s *services) run(ctx context.Context) {
	if s.tokens == nil {
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.tokens.Run(ctx) })
	tick := time.NewTicker(reloadInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_ = s.reload() // which has logged it
	}
}

func (s *services) reload() error {
	if s.file == nil {
		return nil
	}
	return s.file.reload()
}

func (s *services) identify(ctx context.Context, id *telemetrygatewayv1.Identifier_ManagedServiceIdentifier, peer Peer) (*Sender, error) {
	name, environment := id.GetServiceId(), id.GetServiceEnvironment()
	if name == "" {
		return nil, refuse(Malformed, "managed_service.service_id is empty")
	}
	if err := checkText("managed_service.service_id", name, limits.SenderIDBytes); err != nil {
		return nil, err
	}
	if err := checkText("managed_service.service_environment", environment, limits.SenderIDBytes); err != nil {
		return nil, err
	}
	// Who reads a topic tells services from instances by this name.
	switch Kind(name) {
	case LicensedInstance, UnlicensedInstance, ManagedService:
		return nil, refuse(NotAllowed, "no service may be named %q, which is a kind of sender; choose another service_id", name)
	}
	scope := "service/" + url.PathEscape(name)
	if environment != "" {
		scope += "/" + url.PathEscape(environment)
	}
	if len(scope) > limits.IdentityBytes {
		return nil, refuse(Malformed, "managed_service.service_id and service_environment are too long together: percent-encoded they have %d bytes; at most %d are allowed", len(scope), limits.IdentityBytes)
	}
	if s.tokens == nil {
		return nil, refuse(Unsupported, "this gateway was started without -oauth-issuer and -oauth-introspection-url and cannot check access tokens; ask its operator")
	}
	token, refusal := bearer(peer.Authorization)
	if refusal != nil {
		return nil, refusal
	}
	check := func(ctx context.Context) error { return s.check(ctx, token, peer.Address, name, environment) }
	if err := check(ctx); err != nil {
		return nil, err
	}
	return &Sender{Kind: ManagedService, ID: name, Scope: scope, recheck: check}, nil
}

// check says whether the holder of a token may send as a service. It is cheap
// when the token was checked lately.
func (s *services) check(ctx context.Context, token string, from netip.Addr, name, environment string) error {
	claims, err := s.tokens.Verify(ctx, token, from)
	if err != nil {
		return refuseToken(err)
	}
	if !s.scope.GrantedBy(claims.Scopes) {
		return refuse(NotAllowed, "this token does not grant the scope %s; have the provider allow it to the token's client, and ask for it", s.scope)
	}
	return s.file.allow(claims.ClientID, name, environment)
}

// refuseToken is the refusal for an error of package oauth.
func refuseToken(err error) *Refusal {
	var e *oauth.Error
	if !errors.As(err, &e) {
		return refuse(Unavailable, "access tokens cannot be checked at the moment")
	}
	reason := Unavailable
	switch e.Reason {
	case oauth.Malformed, oauth.Inactive:
		reason = Unauthenticated
	case oauth.WrongAudience:
		reason = NotAllowed
	case oauth.Busy:
		reason = RateLimited
	}
	return &Refusal{Reason: reason, Message: e.Message, RetryAfter: e.RetryAfter}
}
