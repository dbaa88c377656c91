// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package glewlwyd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/oauth/glewlwyd"
)

var (
	resource = glewlwyd.Client{ID: "gateway", Secret: "of-the-gateway"}
	pings    = glewlwyd.Client{ID: "pings", Secret: "of-pings", Scopes: []string{"telemetry_gateway::events::write", "other"}, Audience: "https://telemetry.example.com"}
	pongs    = glewlwyd.Client{ID: "pongs", Secret: "of-pongs", Scopes: []string{"other"}}
)

func start(t *testing.T) *glewlwyd.Provider {
	t.Helper()
	p, err := glewlwyd.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	for _, c := range []glewlwyd.Client{resource, pings, pongs} {
		must(t, p.AddClient(c))
	}
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func token(t *testing.T, p *glewlwyd.Provider, c glewlwyd.Client) string {
	t.Helper()
	token, err := p.Token(t.Context(), c)
	must(t, err)
	return token
}

// answer is what the provider says about a token.
type answer struct {
	Active     bool
	ClientID   string `json:"client_id"`
	Scope, Aud string
	Iat, Exp   int64
}

func introspect(ctx context.Context, p *glewlwyd.Provider, token string) (a answer, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.IntrospectionURL(), strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		return a, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(resource.ID, resource.Secret)
	return a, fetch(r, &a)
}

func fetch(r *http.Request, into any) error {
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

func ask(t *testing.T, p *glewlwyd.Provider, token string) answer {
	t.Helper()
	a, err := introspect(t.Context(), p, token)
	must(t, err)
	return a
}

func TestTokens(t *testing.T) {
	t.Parallel()
	p := start(t)
	got := ask(t, p, token(t, p, pings))
	want := answer{
		Active: true, ClientID: "pings", Scope: "telemetry_gateway::events::write other", Aud: pings.Audience,
		Iat: got.Iat, Exp: got.Iat + 3600,
	}
	if got != want {
		t.Errorf("the provider says %+v, want %+v", got, want)
	}
	if got := ask(t, p, token(t, p, pongs)); got.ClientID != "pongs" || got.Scope != "other" || got.Aud != "other" {
		t.Errorf("of a client without an audience it says %+v", got)
	}
	for name, change := range map[string]func(*glewlwyd.Client){
		"another secret":     func(c *glewlwyd.Client) { c.Secret = "of-pongs" },
		"another's audience": func(c *glewlwyd.Client) { c.Audience = "https://elsewhere.example.com" },
		"another's scope":    func(c *glewlwyd.Client) { c.Scopes = []string{"telemetry_gateway::events::read"} },
		"no scope":           func(c *glewlwyd.Client) { c.Scopes = nil },
	} {
		c := pings
		change(&c)
		if _, err := p.Token(t.Context(), c); err == nil || strings.Contains(err.Error(), c.Secret) {
			t.Errorf("with %s: %v", name, err)
		}
	}
	if err := p.AddClient(pings); err == nil {
		t.Error("a client can be added twice")
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	p := start(t)
	revoked, other := token(t, p, pings), token(t, p, pings)
	must(t, p.Revoke(t.Context(), pings, revoked))
	if ask(t, p, revoked).Active || !ask(t, p, other).Active {
		t.Error("not just the token that was revoked ended")
	}
}

func TestSetTokenLifetime(t *testing.T) {
	t.Parallel()
	p := start(t)
	must(t, p.SetTokenLifetime(5*time.Second))
	if a := ask(t, p, token(t, p, pings)); a.Exp != a.Iat+5 {
		t.Errorf("a token lives %d s, want 5", a.Exp-a.Iat)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	p := start(t)
	before := token(t, p, pings)
	must(t, p.RotateKey())
	after := token(t, p, pings)
	if !ask(t, p, before).Active || !ask(t, p, after).Active {
		t.Error("after a rotation, tokens of the old and the new key are not both active")
	}
	if n := countKeys(t, p); n != 2 {
		t.Errorf("after a rotation there are %d keys, want 2", n)
	}
	must(t, p.RetireKeys())
	if !ask(t, p, after).Active {
		t.Error("the tokens of the new key ended with the old one's")
	}
	if n := countKeys(t, p); n != 1 {
		t.Errorf("after the old key is retired there are %d keys, want 1", n)
	}
}

// countKeys finds the public keys as any client would.
func countKeys(t *testing.T, p *glewlwyd.Provider) int {
	t.Helper()
	get := func(url string, into any) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		must(t, err)
		must(t, fetch(r, into))
	}
	var discovery struct {
		Issuer string
		Keys   string `json:"jwks_uri"`
	}
	get(p.Issuer()+"/.well-known/openid-configuration", &discovery)
	if discovery.Issuer != p.Issuer() {
		t.Errorf("the provider calls itself %s, want %s", discovery.Issuer, p.Issuer())
	}
	var set struct{ Keys []map[string]any }
	get(discovery.Keys, &set)
	for _, k := range set.Keys {
		if k["alg"] != "RS256" || k["kid"] == nil || k["d"] != nil {
			t.Errorf("a key is published as %v", k)
		}
	}
	return len(set.Keys)
}

func TestStopAndStart(t *testing.T) {
	t.Parallel()
	p := start(t)
	token, issuer := token(t, p, pings), p.Issuer()
	p.Stop()
	p.Stop() // does nothing
	if _, err := introspect(t.Context(), p, token); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("stopped, it says %v, want that the connection is refused", err)
	}
	if err := p.Pause(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a stopped provider pauses: %v", err)
	}
	must(t, p.Start())
	if p.Issuer() != issuer || !ask(t, p, token).Active {
		t.Error("started again, it is another provider")
	}
	if err := p.Start(); err == nil {
		t.Error("it starts twice")
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	p := start(t)
	token := token(t, p, pings)
	must(t, p.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := introspect(ctx, p, token); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("paused, it says %v", err)
	}
	must(t, p.Resume())
	if !ask(t, p, token).Active {
		t.Error("after a pause the token is not active")
	}
}

func TestMissingProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := glewlwyd.Start(t.TempDir()); err == nil || !strings.Contains(err.Error(), "apt-get install -y glewlwyd") {
		t.Errorf("without the program: %v", err)
	}
}

// asParent makes this test's binary start a provider and print its issuer.
const asParent = "GLEWLWYD_TEST_PARENT"

func TestMain(m *testing.M) {
	dir := os.Getenv(asParent)
	if dir == "" {
		os.Exit(m.Run())
	}
	p, err := glewlwyd.Start(dir)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.Issuer())
	select {}
}

func TestEndsWithItsParent(t *testing.T) {
	t.Parallel()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"="+t.TempDir())
	out, err := parent.StdoutPipe()
	must(t, err)
	must(t, parent.Start())
	var issuer string
	_, err = fmt.Fscanln(out, &issuer)
	must(t, errors.Join(err, parent.Process.Kill()))
	_, _ = io.Copy(io.Discard, out)
	_ = parent.Wait() // killed

	for deadline := time.Now().Add(time.Minute); ; {
		response, err := http.Get(issuer + "/.well-known/openid-configuration")
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			_ = response.Body.Close()
		}
		if time.Now().After(deadline) {
			t.Fatal("the provider outlives who started it")
		}
	}
}
