// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// healthInterval lies between lines of the log about the provider.
const healthInterval = 10 * time.Second

// introspection is the provider's answer about a token (RFC 7662, section 2.2).
type introspection struct {
	Active    *bool    `json:"active"`
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	ClientID  string   `json:"client_id"`
	Scope     *scopes  `json:"scope"`
	Audience  *list    `json:"aud"`
	Expires   *seconds `json:"exp"`
	NotBefore *seconds `json:"nbf"`
	// What the token is for, by which providers tell a refresh token or an ID
	// token from an access token.
	TokenType string `json:"token_type"`
	TokenUse  string `json:"token_use"`
	Type      string `json:"typ"`
	// Confirmation is there if only the holder of a key may use the token.
	Confirmation json.RawMessage `json:"cnf"`
}

// otherTokens are what a provider may call what is no access token.
var otherTokens = []string{"refresh", "refresh_token", "offline", "id", "id_token", "logout"}

// otherToken says whether a provider calls a token, by one of several names,
// something other than an access token.
func otherToken(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(otherTokens, strings.ToLower(name)) })
}

// ask has the provider say what a token is worth. signed is what the token says
// of itself, if its signature was checked.
func (v *Verifier) ask(ctx context.Context, d digest, token string, from netip.Addr, signed *Claims) (*Claims, *Error) {
	lane := v.renewals
	if _, known := v.good.get(d); !known {
		if !v.strangers.allow(from) {
			return nil, busy()
		}
		lane = v.newcomers
	}
	var said introspection
	if refusal := lane.use(ctx, func() error {
		err := v.introspect(ctx, token, &said)
		// Whom a token is for may be in it only, where it counts for nothing
		// while the signature cannot be checked.
		if err == nil && *said.Active && said.Audience == nil && signed == nil && v.o.Audience != "" && v.signatures != nil && isJWT(token) {
			err = errors.New("the provider's answer does not say for whom a token is, and the keys to check what the token says cannot be fetched")
		}
		v.health.report(err)
		return err
	}); refusal != nil {
		return nil, refusal
	}
	return v.judge(&said, signed)
}

func (v *Verifier) introspect(ctx context.Context, token string, said *introspection) error {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	err := v.fetch.postForm(ctx, v.o.IntrospectionURL, form, v.o.ClientID, v.o.ClientSecret, limits.TokenAnswerBytes, said)
	if err == nil && said.Active == nil {
		return errors.New("the provider's answer does not say whether a token is active")
	}
	return err
}

// judge says whether the provider's answer lets a token in.
func (v *Verifier) judge(said *introspection, signed *Claims) (*Claims, *Error) {
	now := v.o.Now()
	switch {
	case !*said.Active,
		said.Issuer != "" && v.o.Issuer != "" && said.Issuer != v.o.Issuer,
		said.NotBefore != nil && now.Add(skew).Before(said.NotBefore.time()),
		otherToken(said.TokenType, said.TokenUse, said.Type):
		return nil, inactive()
	case bound(said.Confirmation):
		return nil, keyBound()
	}
	claims := said.claims(signed)
	switch {
	case !claims.Expires.IsZero() && !now.Before(claims.Expires):
		return nil, inactive()
	case v.o.Audience != "" && !slices.Contains(claims.Audience, v.o.Audience):
		return nil, wrongAudience()
	}
	return claims, nil
}

// claims takes what the provider left out of its answer from what it signed.
func (said *introspection) claims(signed *Claims) *Claims {
	var c Claims
	if signed != nil {
		c = *signed
	}
	c.ClientID = cmp.Or(said.ClientID, c.ClientID)
	c.Subject = cmp.Or(said.Subject, c.Subject)
	c.Issuer = cmp.Or(said.Issuer, c.Issuer)
	if said.Scope != nil {
		c.Scopes = *said.Scope
	}
	if said.Audience != nil {
		c.Audience = *said.Audience
	}
	if said.Expires != nil {
		c.Expires = said.Expires.time()
	}
	return &c
}

// health is whether the provider can be asked, for the log.
type health struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	failed string    // what was logged last; empty if the provider was well
	logged time.Time // when
}

// report logs how an exchange ended if that is news, and not too often: what
// strangers send may be what makes the provider fail, and they send a lot.
func (h *health) report(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	now := h.now()
	if failed == h.failed || now.Sub(h.logged) < healthInterval {
		return
	}
	h.failed, h.logged = failed, now
	if err != nil {
		h.log.Error("the provider of access tokens cannot be asked; services that it did not vouch for lately must send again later", "error", err)
	} else {
		h.log.Info("the provider of access tokens can be asked again")
	}
}
