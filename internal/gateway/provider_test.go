// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/oauth"
)

const (
	gatewayClient = "gateway"
	gatewaySecret = "s3cret/of+the gateway"
	writeScope    = "telemetry_gateway::events::write"
)

// A provider is an OAuth 2.0 provider over HTTP: discovery, keys, and
// introspection of the tokens that it issued, for clients that have a secret.
// Tokens are JWTs signed with a key of its own.
type provider struct {
	*httptest.Server
	signer jose.Signer
	keys   jose.JSONWebKeySet
	clock  *clock

	mu      sync.Mutex
	issued  map[string]*claims
	hanging chan struct{} // closed when it answers again; nil when it does
	broken  bool

	asked atomic.Int64  // introspections
	stuck chan struct{} // a value for each request that it does not answer
}

type claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  []string `json:"aud,omitempty"`
	ClientID  string   `json:"client_id"`
	Scope     string   `json:"scope,omitempty"`
	IssuedAt  int64    `json:"iat"`
	ExpiresAt int64    `json:"exp"`
	ID        string   `json:"jti"`
	active    bool
}

// A clock is the time for the provider and the gateway alike. It stands still.
type clock struct {
	start time.Time
	ahead atomic.Int64
}

func (c *clock) now() time.Time          { return c.start.Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func startProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private := jose.JSONWebKey{Key: key, KeyID: "first", Algorithm: "RS256", Use: "sig"}
	p := &provider{
		keys:   jose.JSONWebKeySet{Keys: []jose.JSONWebKey{private.Public()}},
		clock:  &clock{start: time.Now()},
		issued: map[string]*claims{},
		stuck:  make(chan struct{}, 100),
	}
	if p.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: private}, new(jose.SignerOptions).WithType("at+jwt")); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, map[string]any{
			"issuer": p.URL, "jwks_uri": p.URL + "/keys", "introspection_endpoint": p.URL + "/introspect", "token_endpoint": p.URL + "/token",
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.keys) })
	mux.HandleFunc("POST /introspect", p.introspect)
	p.Server = httptest.NewServer(p.gate(mux))
	t.Cleanup(func() { p.answer(); p.Close() })
	return p
}

// gate makes requests wait, or fail, while the provider hangs or is broken.
func (p *provider) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		hanging, broken := p.hanging, p.broken
		p.mu.Unlock()
		if hanging != nil {
			p.stuck <- struct{}{}
			select {
			case <-hanging:
			case <-r.Context().Done():
				return
			}
		}
		if broken {
			http.Error(w, "PROVIDERTEXT", http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (p *provider) introspect(w http.ResponseWriter, r *http.Request) {
	p.asked.Add(1)
	user, password, _ := r.BasicAuth()
	user, _ = url.QueryUnescape(user)
	if password, _ = url.QueryUnescape(password); user != gatewayClient || password != gatewaySecret {
		w.Header().Set("WWW-Authenticate", "Basic")
		http.Error(w, "unknown client", http.StatusUnauthorized)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.issued[r.PostFormValue("token")]
	if c == nil || !c.active || p.clock.now().Unix() >= c.ExpiresAt {
		answerJSON(w, map[string]bool{"active": false})
		return
	}
	answerJSON(w, struct {
		Active bool   `json:"active"`
		Type   string `json:"token_type"`
		*claims
	}{true, "Bearer", c})
}

// token issues a token for a client. What it says can be changed before it is
// signed.
func (p *provider) token(t testing.TB, client string, change ...func(*claims)) string {
	t.Helper()
	now := p.clock.now()
	c := &claims{
		Issuer: p.URL, Subject: client, ClientID: client, Scope: "openid " + writeScope,
		IssuedAt: now.Unix(), ExpiresAt: now.Add(time.Hour).Unix(), ID: rand.Text(), active: true,
	}
	for _, f := range change {
		f(c)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := p.signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.issued[token] = c
	return token
}

// forge is a token that says what a real one says, and somebody else signed.
func forge(token string) string {
	signature := strings.LastIndexByte(token, '.') + 1
	return token[:signature] + strings.Repeat("A", len(token)-signature)
}

func (p *provider) revoke(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.issued[token].active = false
}

// hang makes the provider take requests and not answer until answer is called.
func (p *provider) hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hanging = make(chan struct{})
}

func (p *provider) answer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hanging != nil {
		close(p.hanging)
		p.hanging = nil
	}
}

func (p *provider) breakDown(broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = broken
}

// introspection and signatures are the two ways in which a gateway can prove
// the provider's tokens.
func (p *provider) introspection(_ *Options, i *identity.Options, _ *ServeOptions) {
	i.Services.OAuth = oauth.Options{
		IntrospectionURL: p.URL + "/introspect", ClientID: gatewayClient, ClientSecret: gatewaySecret, Now: p.clock.now,
	}
}

func (p *provider) signatures(_ *Options, i *identity.Options, _ *ServeOptions) {
	i.Services.OAuth = oauth.Options{Issuer: p.URL, Now: p.clock.now}
}
