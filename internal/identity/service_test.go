// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/oauth"
)

const (
	clientSecret = "SECRET-CANARY"
	goodToken    = "TOKEN-CANARY"
)

// introspector is a provider that says what tokens are worth, and the clock of
// whoever asks it.
type introspector struct {
	*httptest.Server
	mu      sync.Mutex // for all that follows
	now     time.Time
	answers map[string]string // by token
	asked   int
	log     bytes.Buffer
}

func newIntrospector(t testing.TB) *introspector {
	t.Helper()
	p := &introspector{now: today, answers: map[string]string{
		goodToken: `{"active": true, "client_id": "pings", "scope": "openid telemetry_gateway::events::write"}`,
	}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *introspector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	answer, ok := p.answers[r.PostFormValue("token")]
	if !ok {
		answer = `{"active": false}`
	}
	fmt.Fprint(w, answer)
}

func (p *introspector) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *introspector) answer(token, answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[token] = answer
}

func (p *introspector) pass(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

func (p *introspector) identities(t testing.TB, change ...func(*ServiceOptions)) *Identities {
	t.Helper()
	o := ServiceOptions{
		OAuth: oauth.Options{IntrospectionURL: p.URL, ClientID: "gateway", ClientSecret: clientSecret, Audience: ""},
		Log:   slog.New(slog.NewTextHandler(p, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&o)
	}
	return newIdentities(t, Options{Services: o, Now: func() time.Time {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.now
	}})
}

func bearing(values ...string) Peer {
	return Peer{Address: netip.MustParseAddr("192.0.2.1"), Authorization: values}
}

func serviceIn(id, environment string) *telemetrygatewayv1.Identifier {
	sender := serviceID(id)
	sender.GetManagedService().ServiceEnvironment = &environment
	return sender
}

func TestService(t *testing.T) {
	p := newIntrospector(t)
	for token, claims := range map[string]string{
		"wide":      `"client_id": "pings", "scope": "telemetry_gateway::events::write other::x::read"`,
		"none":      `"client_id": "pings"`,
		"read":      `"client_id": "pings", "scope": "telemetry_gateway::events::read"`,
		"deeper":    `"client_id": "pings", "scope": "telemetry_gateway::events.x::write"`,
		"publish":   `"client_id": "pings", "scope": "telemetry_gateway::events::publish"`,
		"elsewhere": `"client_id": "pings", "scope": "gateway::events::write"`,
		"part":      `"client_id": "pings", "scope": "xtelemetry_gateway::events::writex"`,
		"nobody":    `"scope": "telemetry_gateway::events::write"`,
		"other":     `"client_id": "pong", "scope": "telemetry_gateway::events::write"`,
		"posing":    `"client_id": "licensed_instance", "scope": "telemetry_gateway::events::write"`,
		"foreign":   `"client_id": "pings", "scope": "telemetry_gateway::events::write", "aud": "else"`,
	} {
		p.answer(token, `{"active": true, `+claims+`}`)
	}
	p.answer("broken", `{"active": "`+clientSecret+`"}`)
	ids := p.identities(t)
	audience := p.identities(t, func(o *ServiceOptions) { o.OAuth.Audience = "gateway" })
	narrow := p.identities(t, func(o *ServiceOptions) { o.Scope = "telemetry_gateway::events.x::write" })
	listed := p.identities(t, func(o *ServiceOptions) {
		o.File = writeFile(t, "services.yaml", "services:\n  - {client: pings, service: pings-eu, environments: [prod]}\n  - {client: pings, service: pings-us}\n")
	})
	long := strings.Repeat("é", limits.SenderIDBytes/2)
	for _, row := range []struct {
		name   string
		ids    *Identities
		id     *telemetrygatewayv1.Identifier
		header string
		want   Reason // empty if let in
		text   string
	}{
		{"good", ids, serviceID("pings"), "Bearer " + goodToken, "", ""},
		{"good, with an environment", ids, serviceIn("pings", "prod"), "Bearer " + goodToken, "", ""},
		{"with more scopes", ids, serviceID("pings"), "Bearer wide", "", ""},
		{"with a scope above that wanted", narrow, serviceID("pings"), "Bearer " + goodToken, "", ""},
		{"with exactly that", narrow, serviceID("pings"), "Bearer deeper", "", ""},
		{"without a scope", ids, serviceID("pings"), "Bearer none", NotAllowed, "does not grant the scope telemetry_gateway::events::write"},
		{"with another action", ids, serviceID("pings"), "Bearer read", NotAllowed, "does not grant"},
		{"with a scope below", ids, serviceID("pings"), "Bearer deeper", NotAllowed, "does not grant"},
		{"with an action that is none", ids, serviceID("pings"), "Bearer publish", NotAllowed, "does not grant"},
		{"with another service's scope", ids, serviceID("pings"), "Bearer elsewhere", NotAllowed, "does not grant"},
		{"with a longer scope", ids, serviceID("pings"), "Bearer part", NotAllowed, "does not grant"},
		{"of nobody", ids, serviceID("pings"), "Bearer nobody", NotAllowed, "may not send as service"},
		{"of another client", ids, serviceID("pings"), "Bearer other", NotAllowed, "may not send as service"},
		{"for another audience", audience, serviceID("pings"), "Bearer foreign", NotAllowed, "for another audience"},
		{"listed", listed, serviceID("pings-eu"), "Bearer " + goodToken, "", ""},
		{"listed, with its environment", listed, serviceIn("pings-eu", "prod"), "Bearer " + goodToken, "", ""},
		{"listed, with another environment", listed, serviceIn("pings-eu", "dev"), "Bearer " + goodToken, NotAllowed, `from environment "dev"`},
		{"listed without environments", listed, serviceIn("pings-us", "prod"), "Bearer " + goodToken, NotAllowed, `from environment "prod"`},
		{"not listed, named like its client", listed, serviceID("pings"), "Bearer " + goodToken, NotAllowed, "may not send as service"},
		{"listed for another client", listed, serviceID("pings-eu"), "Bearer other", NotAllowed, "may not send as service"},
		{"unknown", ids, serviceID("pings"), "Bearer unknown", Unauthenticated, "get a new one"},
		{"not a token", ids, serviceID("pings"), "Bearer t\x00", Unauthenticated, "is not one"},
		{"of a megabyte", ids, serviceID("pings"), "Bearer " + strings.Repeat("x", 1<<20), Unauthenticated, "is not one"},
		{"of another scheme", ids, serviceID("pings"), "Basic " + goodToken, Unauthenticated, "not of the scheme Bearer"},
		{"with an answer that is none", ids, serviceID("pings"), "Bearer broken", Unavailable, "cannot be checked at the moment"},
		{"bad name first", ids, serviceID(""), "", Malformed, "service_id is empty"},
		{"bad character first", ids, serviceID("a\nb"), "", Malformed, "control character"},
		{"long environment first", ids, serviceIn("pings", strings.Repeat("x", limits.SenderIDBytes+1)), "", Malformed, "service_environment has 129 bytes"},
		{"bad environment first", ids, serviceIn("pings", "\xff"), "", Malformed, "service_environment"},
		{"named like instances", ids, serviceID("licensed_instance"), "Bearer posing", NotAllowed, "a kind of sender"},
		{"named like others", ids, serviceID("unlicensed_instance"), "Bearer " + goodToken, NotAllowed, "a kind of sender"},
		{"both too long", ids, serviceIn(long, long), "", Malformed, "together"},
	} {
		p.pass(time.Second) // so that the limit on new tokens is met by none
		s, err := row.ids.Identify(t.Context(), row.id, bearing(row.header))
		if row.want == "" {
			if err != nil || s.Kind != ManagedService || s.ID != row.id.GetManagedService().GetServiceId() || s.Recheck(t.Context()) != nil || s.Admit(1000) != nil {
				t.Errorf("%s: refused: %v", row.name, err)
			}
			continue
		}
		if s != nil || err == nil {
			t.Errorf("%s: let in", row.name)
			continue
		}
		r := wantRefusal(t, err, row.want)
		if !strings.Contains(r.Message, row.text) || strings.Contains(r.Message, "CANARY") || len(r.Message) > 400 {
			t.Errorf("%s: text is %q, want %q in it", row.name, r.Message, row.text)
		}
		if (r.RetryAfter > 0) != (row.want == Unavailable) {
			t.Errorf("%s: to be sent again after %v", row.name, r.RetryAfter)
		}
	}
	if text := p.log.String(); strings.Contains(text, "CANARY") || !strings.Contains(text, "error=") {
		t.Errorf("the log is %q", text)
	}
}

// Names of services cannot be chosen so that two of them look like one.
func TestFormOfServiceScopes(t *testing.T) {
	p := newIntrospector(t)
	ids := p.identities(t, func(o *ServiceOptions) {
		o.File = writeFile(t, "services.yaml", `services:
  - {client: pings, service: a, environments: ["*"]}
  - {client: pings, service: a/b}
  - {client: pings, service: "köln %", environments: ["*"]}
`)
	})
	for want, id := range map[string]*telemetrygatewayv1.Identifier{
		"service/a":                     serviceID("a"),
		"service/a/b":                   serviceIn("a", "b"),
		"service/a%2Fb":                 serviceID("a/b"),
		"service/k%C3%B6ln%20%25/d%2Fe": serviceIn("köln %", "d/e"),
	} {
		if s := mustIdentify(t, ids, id, bearing("Bearer "+goodToken)); s.Scope != want {
			t.Errorf("scope is %q, want %q", s.Scope, want)
		}
	}
	// Naming no environment and naming an empty one are the same.
	if s := mustIdentify(t, ids, serviceIn("a", ""), bearing("Bearer "+goodToken)); s.Scope != "service/a" {
		t.Errorf("scope is %q", s.Scope)
	}
}

// What ends during a stream ends the stream: each of these within oauth.Bound,
// and none of them lets in anyone.
func TestServiceIsRechecked(t *testing.T) {
	for name, row := range map[string]struct {
		change func(t *testing.T, p *introspector, ids *Identities, file string)
		want   Reason
	}{
		"nothing": {func(*testing.T, *introspector, *Identities, string) {}, ""},
		"revoked": {func(_ *testing.T, p *introspector, _ *Identities, _ string) { p.answer(goodToken, `{"active": false}`) }, Unauthenticated},
		"scope taken": {func(_ *testing.T, p *introspector, _ *Identities, _ string) {
			p.answer(goodToken, `{"active": true, "client_id": "pings"}`)
		}, NotAllowed},
		"another client": {func(_ *testing.T, p *introspector, _ *Identities, _ string) {
			p.answer(goodToken, `{"active": true, "client_id": "pong", "scope": "telemetry_gateway::events::write"}`)
		}, NotAllowed},
		"nonsense":      {func(_ *testing.T, p *introspector, _ *Identities, _ string) { p.answer(goodToken, `nonsense`) }, Unavailable},
		"provider gone": {func(_ *testing.T, p *introspector, _ *Identities, _ string) { p.Close() }, Unavailable},
		"not listed any more": {func(t *testing.T, _ *introspector, ids *Identities, file string) {
			if err := os.WriteFile(file, []byte("services: []"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := ids.Reload(); err != nil {
				t.Fatal(err)
			}
		}, NotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			p := newIntrospector(t)
			file := writeFile(t, "services.yaml", "services:\n  - {client: pings, service: pings, environments: [prod]}\n")
			ids := p.identities(t, func(o *ServiceOptions) { o.File = file })
			s := mustIdentify(t, ids, serviceIn("pings", "prod"), bearing("Bearer "+goodToken))
			if err := s.Recheck(t.Context()); err != nil {
				t.Fatal(err)
			}
			row.change(t, p, ids, file)
			p.pass(oauth.Bound)
			err := s.Recheck(t.Context())
			if row.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			wantRefusal(t, err, row.want)
		})
	}
}

// A token without the scope is not one to remember for a minute: when the
// provider grants the scope after all, the service does not wait for long.
func TestScopeGrantedLater(t *testing.T) {
	p := newIntrospector(t)
	p.answer(goodToken, `{"active": true, "client_id": "pings"}`)
	ids := p.identities(t)
	for range 10 {
		_, err := ids.Identify(t.Context(), serviceID("pings"), bearing("Bearer "+goodToken))
		wantRefusal(t, err, NotAllowed)
	}
	if p.asked != 1 {
		t.Errorf("the provider was asked %d times, want once", p.asked)
	}
	p.answer(goodToken, `{"active": true, "client_id": "pings", "scope": "telemetry_gateway::events::write"}`)
	p.pass(10 * time.Second)
	mustIdentify(t, ids, serviceID("pings"), bearing("Bearer "+goodToken))
}

func TestServiceExpiresDuringAStream(t *testing.T) {
	p := newIntrospector(t)
	p.answer(goodToken, fmt.Sprintf(`{"active": true, "client_id": "pings", "scope": "telemetry_gateway::events::write", "exp": %d}`, today.Unix()+10))
	s := mustIdentify(t, p.identities(t), serviceID("pings"), bearing("Bearer "+goodToken))
	p.pass(10*time.Second - 1)
	if err := s.Recheck(t.Context()); err != nil {
		t.Fatalf("refused too early: %v", err)
	}
	p.pass(1)
	wantRefusal(t, s.Recheck(t.Context()), Unauthenticated)
}

// Rechecking before every message does not ask the provider every time.
func TestRecheckingIsCheap(t *testing.T) {
	p := newIntrospector(t)
	s := mustIdentify(t, p.identities(t), serviceID("pings"), bearing("Bearer "+goodToken))
	for range 1000 {
		if err := s.Recheck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if p.asked != 1 {
		t.Errorf("the provider was asked %d times", p.asked)
	}
}

func TestTooManyTokensAreRateLimited(t *testing.T) {
	p := newIntrospector(t)
	ids := p.identities(t)
	var err error
	for i := range 100 {
		if _, err = ids.Identify(t.Context(), serviceID("pings"), bearing(fmt.Sprintf("Bearer bad-%d", i))); err == nil {
			t.Fatal("let in")
		}
	}
	if r := wantRefusal(t, err, RateLimited); r.RetryAfter != time.Second {
		t.Errorf("to be sent again after %v", r.RetryAfter)
	}
}

func TestServiceOptions(t *testing.T) {
	provider := oauth.Options{IntrospectionURL: "https://provider.example/introspect", ClientID: "gateway", ClientSecret: clientSecret}
	for _, row := range []struct {
		o    ServiceOptions
		want string
	}{
		{ServiceOptions{File: "services.yaml"}, "drop -services"},
		{ServiceOptions{OAuth: provider, Scope: "a::b"}, "-oauth-scope: "},
		{ServiceOptions{OAuth: provider, File: "/does/not/exist"}, "services file"},
		{ServiceOptions{OAuth: provider, File: writeFile(t, "services.yaml", "services: {}")}, "services file"},
		{ServiceOptions{OAuth: oauth.Options{Issuer: "provider"}}, "-oauth-issuer"},
	} {
		if _, err := New(Options{Services: row.o}); err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("error is %v, want %q in it", err, row.want)
		}
	}
}

// Run rereads the services file and ends with its context.
func TestRunKeepsUpWithServices(t *testing.T) {
	file := writeFile(t, "services.yaml", "services: []")
	synctest.Test(t, func(t *testing.T) {
		entries := -1
		ids, err := New(Options{Services: ServiceOptions{
			OAuth:  oauth.Options{IntrospectionURL: "https://provider.example/", ClientID: "gateway", ClientSecret: clientSecret},
			File:   file,
			Loaded: func(n int, _ error) { entries = n },
		}})
		if err != nil || entries != 0 {
			t.Fatalf("%d entries, error %v", entries, err)
		}
		go ids.Run(t.Context())
		if err := os.WriteFile(file, []byte("services: [{client: a, service: b}]"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(reloadInterval)
		synctest.Wait()
		if entries != 1 {
			t.Errorf("%d entries after the file changed, want 1", entries)
		}
	})
}

// Run fetches the provider's keys before any sender has to wait for them.
func TestRunKeepsUpWithTheProvider(t *testing.T) {
	asked := make(chan string)
	provider := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.URL.Path:
		case <-r.Context().Done():
		}
	}))
	defer provider.Close()
	ids, err := New(Options{Services: ServiceOptions{OAuth: oauth.Options{Issuer: provider.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { ids.Run(t.Context()) })
	t.Cleanup(running.Wait)
	if path := <-asked; path != "/.well-known/openid-configuration" {
		t.Errorf("asked for %s", path)
	}
	provider.CloseClientConnections()
}
