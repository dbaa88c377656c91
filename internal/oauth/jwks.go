// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	// documentBytes bounds what a provider says about itself, and its keys.
	documentBytes = 1 << 20
	// maxKeys is how many keys a provider may have.
	maxKeys = 100
	// A smaller RSA key can be broken, and a larger one makes checking slow.
	minRSABits, maxRSABits = 2048, 8192
)

// key is one that signs tokens.
type key struct {
	id        string
	algorithm string // "" = every one that fits
	public    any
}

// fits says whether a token of an algorithm may be signed with k. The type of
// the key decides, never the token alone.
func (k key) fits(algorithm string) bool {
	if k.algorithm != "" && k.algorithm != algorithm {
		return false
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			return algorithm == string(jose.ES256)
		case elliptic.P384():
			return algorithm == string(jose.ES384)
		case elliptic.P521():
			return algorithm == string(jose.ES512)
		}
	case ed25519.PublicKey:
		return algorithm == string(jose.EdDSA)
	}
	return false
}

// download gets the keys that count now. Without an error there is at least
// one; with one they are nil, or empty if the provider has withdrawn all.
func (s *signatures) download(ctx context.Context) (keys []key, err error) {
	defer func() {
		if p := recover(); p != nil { // nobody above would catch it
			s.o.Log.Error("panic while the keys of the OAuth provider were fetched", "panic", p, "stack", string(debug.Stack()))
			keys, err = nil, errors.New("panic")
		}
	}()
	from, err := s.discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("discover the provider: %w", err)
	}
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.f.getJSON(ctx, from, documentBytes, &doc); err != nil {
		return nil, fmt.Errorf("get the provider's keys: %w", err)
	}
	switch {
	case doc.Keys == nil:
		return nil, errors.New("get the provider's keys: the document has no keys")
	case len(doc.Keys) > maxKeys:
		return nil, fmt.Errorf("get the provider's keys: there are %d; at most %d are taken", len(doc.Keys), maxKeys)
	}
	keys = []key{}
	for _, text := range doc.Keys {
		if k, ok := parseKey(text); ok {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return keys, errors.New("get the provider's keys: none of them can sign access tokens")
	}
	return keys, nil
}

// discover returns the URL of the provider's keys.
func (s *signatures) discover(ctx context.Context) (string, error) {
	issuer, err := url.Parse(s.o.Issuer)
	if err != nil {
		return "", errors.New("the issuer is not a URL")
	}
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	var errs []error
	for _, wellKnown := range []string{
		path + "/.well-known/openid-configuration",
		"/.well-known/oauth-authorization-server" + path, // RFC 8414
	} {
		var doc struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		err := s.f.getJSON(ctx, issuer.Scheme+"://"+issuer.Host+wellKnown, documentBytes, &doc)
		if err == nil {
			err = s.checkDiscovered(doc.Issuer, doc.Keys)
		}
		if err == nil {
			return doc.Keys, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", wellKnown, err))
		if errors.Is(err, errNoAnswer) {
			break
		}
	}
	return "", errors.Join(errs...)
}

func (s *signatures) checkDiscovered(issuer, keys string) error {
	u, err := url.Parse(keys)
	switch {
	case issuer != s.o.Issuer:
		return fmt.Errorf("the provider calls itself %.200q; if it is the right one, set -oauth-issuer to exactly that", issuer)
	case keys == "":
		return errors.New("the provider publishes no keys (jwks_uri)")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("the provider's jwks_uri is not a URL")
	case u.Scheme == "http" && strings.HasPrefix(s.o.Issuer, "https:"):
		return errors.New("the provider's jwks_uri does not begin with https, and its issuer does")
	}
	return nil
}

// parseKey reads a JSON web key (RFC 7517). It is false for keys of kinds that
// are unknown here and for keys that sign no tokens: a set may have them too.
func parseKey(text []byte) (key, bool) {
	var k struct {
		ID         string          `json:"kid"`
		Algorithm  string          `json:"alg"`
		Use        string          `json:"use"`
		Operations []string        `json:"key_ops"`
		Private    json.RawMessage `json:"d"`
		publicKey
	}
	if json.Unmarshal(text, &k) != nil || k.Private != nil || k.Use != "" && k.Use != "sig" ||
		k.Operations != nil && !slices.Contains(k.Operations, "verify") {
		return key{}, false
	}
	// Certificates, which many sets carry as well, prove nothing here; without
	// them there is nothing in a set that could make a good key unreadable.
	bare, err := json.Marshal(k.publicKey)
	if err != nil {
		return key{}, false
	}
	var parsed jose.JSONWebKey
	if parsed.UnmarshalJSON(bare) != nil {
		return key{}, false
	}
	if public, ok := parsed.Key.(*rsa.PublicKey); ok && (public.N.BitLen() < minRSABits || public.N.BitLen() > maxRSABits) {
		return key{}, false
	}
	return key{id: k.ID, algorithm: k.Algorithm, public: parsed.Key}, true
}

// publicKey is what makes up a public key in a JSON web key.
type publicKey struct {
	Type     string `json:"kty,omitempty"`
	Curve    string `json:"crv,omitempty"`
	Modulus  string `json:"n,omitempty"`
	Exponent string `json:"e,omitempty"`
	X        string `json:"x,omitempty"`
	Y        string `json:"y,omitempty"`
}
