// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"sync"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/oauth"
	"github.com/telemetrygateway/telemetry/internal/oauth/glewlwyd"
)

// TestRealProvider has an independent provider, with tokens that it made, in
// each way to prove them. Its clock is the machine's; ours can be ahead.
func TestRealProvider(t *testing.T) {
	const audience = "https://telemetry.example.com"
	p, err := glewlwyd.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	client := func(id, scope, audience string) glewlwyd.Client {
		c := glewlwyd.Client{ID: id, Secret: "of-" + id, Scopes: []string{scope}, Audience: audience}
		if err := p.AddClient(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	token := func(c glewlwyd.Client) string {
		token, err := p.Token(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	gateway := client("gateway", "introspect", "")
	pings := client("pings", DefaultScope, audience)
	narrow := client("narrow", "telemetry_gateway::events::read", audience)
	foreign := client("foreign", DefaultScope, "https://elsewhere.example.com")

	introspection := oauth.Options{IntrospectionURL: p.IntrospectionURL(), ClientID: gateway.ID, ClientSecret: gateway.Secret, Audience: audience}
	signature := oauth.Options{Issuer: p.Issuer(), Audience: audience}
	both := introspection
	both.Issuer = p.Issuer()
	for name, o := range map[string]oauth.Options{"introspection": introspection, "signature": signature, "both": both} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			ahead := time.Duration(0)
			ids := newIdentities(t, Options{Services: ServiceOptions{OAuth: o}, Now: func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return time.Now().Add(ahead)
			}})
			pass := func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				ahead += d
			}
			refused := func(token, service string, want Reason) {
				t.Helper()
				_, err := ids.Identify(t.Context(), serviceID(service), bearing("Bearer "+token))
				wantRefusal(t, err, want)
			}
			good := token(pings)
			s := mustIdentify(t, ids, serviceID("pings"), bearing("Bearer "+good))
			refused(good, "narrow", NotAllowed)
			refused(token(narrow), "narrow", NotAllowed)
			refused(token(foreign), "foreign", NotAllowed)
			refused(good+"x", "pings", Unauthenticated)
			refused("opaque", "pings", Unauthenticated)

			recheck := func(s *Sender, want Reason) {
				t.Helper()
				if err := s.Recheck(t.Context()); want == "" && err != nil {
					t.Errorf("refused: %v", err)
				} else if want != "" {
					wantRefusal(t, err, want)
				}
			}
			if o.IntrospectionURL != "" {
				if err := p.Revoke(t.Context(), pings, good); err != nil {
					t.Fatal(err)
				}
				pass(oauth.Bound)
				recheck(s, Unauthenticated)
				s = mustIdentify(t, ids, serviceID("pings"), bearing("Bearer "+token(pings)))

				pass(oauth.Bound)
				if o.Issuer == "" { // once is enough: it takes as long as a provider may
					if err := p.Pause(); err != nil {
						t.Fatal(err)
					}
					recheck(s, Unavailable)
					if err := p.Resume(); err != nil {
						t.Fatal(err)
					}
				}
				p.Stop()
				recheck(s, Unavailable)
				if err := p.Start(); err != nil {
					t.Fatal(err)
				}
			}
			pass(time.Second) // for the next attempt after trouble
			recheck(s, "")
			pass(2 * time.Hour) // its tokens live for one
			recheck(s, Unauthenticated)
		})
	}
}
