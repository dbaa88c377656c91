// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	clientID          = "3f6c1a52-8f0b-4d0e-9a64-5f2f7f1d2c11"
	audience          = "https://telemetry.example.com"
	scope             = "openid profile telemetry_gateway::events::write"
	introspectionPath = "/introspect"
)

// provider is an OAuth provider as far as the gateway sees it: discovery, keys,
// and introspection, which finds every token active.
type provider struct {
	issuer string
	key    *rsa.PrivateKey
	server *http.Server
}

func startProvider() (*provider, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("start a provider: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a provider: %w", err)
	}
	p := &provider{issuer: "http://" + l.Addr().String(), key: key}
	mux := http.NewServeMux()
	answer := func(path string, with func() any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(with()) // the gateway is gone if this fails
		})
	}
	answer("/.well-known/openid-configuration", func() any {
		return map[string]string{"issuer": p.issuer, "jwks_uri": p.issuer + "/keys"}
	})
	answer("/keys", func() any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "bench", Algorithm: "RS256", Use: "sig"}}}
	})
	answer(introspectionPath, func() any {
		claims := p.claims()
		claims["active"] = true
		return claims
	})
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go p.server.Serve(l)
	return p, nil
}

func (p *provider) close() error { return p.server.Close() }

func (p *provider) claims() map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": p.issuer, "sub": clientID, "aud": []string{audience}, "client_id": clientID, "scope": scope,
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": "0198a8b0-7c52-7ad1-9d5c-0242ac120002",
	}
}

// jwt returns a signed access token.
func (p *provider) jwt() (string, error) {
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: p.key, KeyID: "bench"}},
		(&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	claims, err := json.Marshal(p.claims())
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed.CompactSerialize()
}

// opaque returns an access token that only the provider can make sense of.
func (p *provider) opaque() (string, error) {
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return hex.EncodeToString(random), nil
}
