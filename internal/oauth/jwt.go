// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // exact: a name that is there twice, or in other case, is not taken
)

// algorithms are those that a token may be signed with: all that need a
// private key. With a shared secret (HS256 and its like) a public key could
// pass for one, and "none" proves nothing.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512,
	jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512,
	jose.EdDSA,
}

// types are what a token may call itself, in lower case. RFC 9068 wants the
// first, which many providers do not know yet. What it rules out, an ID token
// or a logout token taken for an access token, has no scope and so opens
// nothing here either.
var types = []string{"at+jwt", "application/at+jwt", "jwt", ""}

// skew is how far the provider's clock and ours may be apart.
const skew = time.Minute

// header is the part of a token that says how it is signed. Where it says that
// the key is to be found (jku, x5u) is not followed: anyone can write that.
type header struct {
	Algorithm string          `json:"alg"`
	KeyID     string          `json:"kid"`
	Type      string          `json:"typ"`
	Critical  json.RawMessage `json:"crit"`
	Key       json.RawMessage `json:"jwk"`
	Chain     json.RawMessage `json:"x5c"`
}

// parseHeader says whether token is a JWT by its form, and what its header says.
func parseHeader(token string) (header, bool) {
	var h header
	if strings.Count(token, ".") != 2 {
		return h, false
	}
	first, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil || json.Unmarshal(text, &h) != nil {
		return h, false
	}
	return h, h.Algorithm != ""
}

// isJWT says whether token is one that can be proven by its signature, or
// refused by it. Two dots do not make an opaque token one.
func isJWT(token string) bool {
	_, ok := parseHeader(token)
	return ok
}

// verify proves a token by its signature and by what it says about itself. Its
// error is an *Error.
func (s *signatures) verify(ctx context.Context, token string) (*Claims, error) {
	claims, err := s.prove(ctx, token)
	if err == nil {
		return claims, nil
	}
	if known := (*Error)(nil); errors.As(err, &known) {
		return nil, known
	}
	s.o.Log.Debug("access token refused", "reason", err) // which never quotes the token
	return nil, inactive()
}

// prove is verify, with the reason why a token does not count as a plain error.
func (s *signatures) prove(ctx context.Context, token string) (*Claims, error) {
	h, ok := parseHeader(token)
	switch {
	case !ok:
		return nil, errors.New("it is not a JWT")
	case !slices.Contains(algorithms, jose.SignatureAlgorithm(h.Algorithm)):
		return nil, errors.New("its algorithm is not allowed")
	case !slices.Contains(types, strings.ToLower(h.Type)):
		return nil, errors.New("its type is not that of an access token")
	case h.Critical != nil:
		return nil, errors.New("it has critical header fields, and none is known here")
	case h.Key != nil || h.Chain != nil:
		return nil, errors.New("it brings its own key")
	}
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, errors.New("it is not well-formed")
	}
	payload, err := s.payload(ctx, jws, h)
	if err != nil {
		return nil, err
	}
	return s.claims(payload)
}

// claimSet is what a token says, as the provider wrote it.
type claimSet struct {
	Issuer          string   `json:"iss"`
	Subject         string   `json:"sub"`
	Audience        list     `json:"aud"`
	Expires         *seconds `json:"exp"`
	NotBefore       *seconds `json:"nbf"`
	IssuedAt        *seconds `json:"iat"`
	ClientID        string   `json:"client_id"`
	AuthorizedParty string   `json:"azp"`
	Scope           *scopes  `json:"scope"`
	ShortScope      *scopes  `json:"scp"`
	// What some providers say the token is for; its header has a type as well.
	TokenUse string `json:"token_use"`
	Type     string `json:"typ"`
	// Confirmation is there if only the holder of a key may use the token.
	Confirmation json.RawMessage `json:"cnf"`
}

// claims checks what a token says whose signature is known to be good.
func (s *signatures) claims(payload []byte) (*Claims, error) {
	var c claimSet
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, errors.New("its claims are not well-formed")
	}
	now := s.o.Now()
	switch {
	case c.Issuer != s.o.Issuer:
		return nil, errors.New("its issuer is another")
	case c.Expires == nil:
		return nil, errors.New("it never expires")
	case !now.Before(c.Expires.time().Add(skew)):
		return nil, errors.New("it has expired")
	case c.NotBefore != nil && now.Add(skew).Before(c.NotBefore.time()):
		return nil, errors.New("it is not valid yet")
	case c.IssuedAt != nil && now.Add(skew).Before(c.IssuedAt.time()):
		return nil, errors.New("it is issued in the future")
	case otherToken(c.TokenUse, c.Type):
		return nil, errors.New("it is not an access token")
	case bound(c.Confirmation):
		return nil, keyBound()
	case s.o.Audience != "" && !slices.Contains(c.Audience, s.o.Audience):
		return nil, wrongAudience()
	}
	claims := &Claims{
		ClientID: c.ClientID,
		Subject:  c.Subject,
		Issuer:   c.Issuer,
		Audience: c.Audience,
		Expires:  c.Expires.time(),
	}
	if claims.ClientID == "" {
		claims.ClientID = c.AuthorizedParty
	}
	if c.Scope == nil {
		c.Scope = c.ShortScope
	}
	if c.Scope != nil {
		claims.Scopes = *c.Scope
	}
	return claims, nil
}

// bound says whether a confirmation claim (RFC 7800) is there.
func bound(confirmation json.RawMessage) bool {
	return len(confirmation) > 0 && string(confirmation) != "null"
}

// list is a text or an array of texts.
type list []string

func (l *list) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(l))
	}
	var one string
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*l = list{one}
	return nil
}

// scopes is a text with scopes between spaces, or an array of scopes.
type scopes []string

func (s *scopes) UnmarshalJSON(b []byte) error {
	var l list
	if err := l.UnmarshalJSON(b); err != nil {
		return err
	}
	for _, text := range l {
		*s = append(*s, strings.FieldsFunc(text, func(r rune) bool { return r == ' ' })...)
	}
	return nil
}

// seconds is a time as RFC 7519 writes it: since 1970, with or without a
// fraction.
type seconds float64

// latest is the end of the year 9999. Some providers write a larger number for
// "never", which no time could hold.
const latest = 253_402_300_799

func (s seconds) time() time.Time {
	return time.UnixMicro(int64(min(max(s, 0), latest) * 1e6))
}
