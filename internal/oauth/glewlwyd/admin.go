// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package glewlwyd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const pluginPath = "mod/plugin/" + pluginName

// Client is a client of the provider that gets tokens with its own credentials.
// ID and Secret may have the characters that URLs need not escape: the provider
// takes a user and password as they are, where RFC 6749 has them escaped.
type Client struct {
	ID, Secret string
	Scopes     []string // one at least, to get tokens; none needed to introspect
	Audience   string   // of its tokens; if empty, theirs are their scopes
}

// AddClient makes a client known, which must be new.
func (p *Provider) AddClient(c Client) error {
	client := map[string]any{
		"client_id": c.ID, "client_secret": c.Secret, "confidential": true, "enabled": true,
		"scope":                      append([]string{}, c.Scopes...), // never null
		"authorization_type":         []string{"client_credentials"},
		"token_endpoint_auth_method": []string{"client_secret_basic", "client_secret_post"},
	}
	if c.Audience != "" {
		client["resource"] = []string{c.Audience}
	}
	if err := p.admin(context.Background(), http.MethodPost, "client/", client); err != nil {
		return fmt.Errorf("add client %s: %w", c.ID, err)
	}
	return nil
}

// Token gets a new token of all of the client's scopes.
func (p *Provider) Token(ctx context.Context, c Client) (string, error) {
	config := clientcredentials.Config{
		ClientID: c.ID, ClientSecret: c.Secret, Scopes: c.Scopes,
		TokenURL: p.TokenURL(), AuthStyle: oauth2.AuthStyleInHeader,
	}
	if c.Audience != "" {
		config.EndpointParams = url.Values{"resource": {c.Audience}}
	}
	t, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, p.http))
	if err != nil {
		return "", fmt.Errorf("get a token for %s: %w", c.ID, err)
	}
	return t.AccessToken, nil
}

// Revoke ends a token before its time.
func (p *Provider) Revoke(ctx context.Context, c Client, token string) error {
	form := url.Values{"token": {token}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.RevocationURL(), strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.SetBasicAuth(c.ID, c.Secret)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := p.do(r); err != nil {
		return fmt.Errorf("revoke a token of %s: %w", c.ID, err)
	}
	return nil
}

// SetTokenLifetime sets how long tokens live that are made from now on, in whole
// seconds. Asked about one from before, the provider answers by the new lifetime.
func (p *Provider) SetTokenLifetime(d time.Duration) error {
	return p.change("set the lifetime of tokens", func() error {
		p.lifetime = d
		return nil
	})
}

// RotateKey signs with a new key from now on. Keys before it stay valid.
func (p *Provider) RotateKey() error {
	return p.change("rotate keys", func() error {
		key, err := newKey()
		if err == nil {
			p.keys = slices.Concat([]jose.JSONWebKey{key}, p.keys)
		}
		return err
	})
}

// RetireKeys publishes no key but the newest any more, so that nobody can prove
// what the others signed. The provider itself still calls it active.
func (p *Provider) RetireKeys() error {
	return p.change("retire keys", func() error {
		p.keys = p.keys[:1]
		return nil
	})
}

// change changes the plugin's parameters and starts it anew. Nobody may ask the
// provider for anything meanwhile.
func (p *Provider) change(what string, how func() error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
	}()
	p.settings.Lock()
	defer p.settings.Unlock()
	if err := how(); err != nil {
		return err
	}
	parameters, err := p.parameters()
	if err != nil {
		return err
	}
	ctx := context.Background()
	plugin := map[string]any{"module": "oidc", "name": pluginName, "display_name": pluginName, "parameters": json.RawMessage(parameters)}
	if err := p.admin(ctx, http.MethodPut, pluginPath, plugin); err != nil {
		return err
	}
	return p.admin(ctx, http.MethodPut, pluginPath+"/reset", nil)
}

// admin calls the program's own interface.
func (p *Provider) admin(ctx context.Context, method, path string, body any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, p.url(path), bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "token "+p.apiKey)
	r.Header.Set("Content-Type", "application/json")
	return p.do(r)
}

func (p *Provider) do(r *http.Request) error {
	answer, err := p.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s %s", r.Method, r.URL.Path, answer.Status, body)
	}
	return nil
}
