// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serveKeys starts a provider that publishes keys besides answering questions.
func serveKeys(t testing.TB) (*provider, *issuer) {
	t.Helper()
	p := serve(t)
	i := &issuer{
		Server: &httptest.Server{URL: "http://127.0.0.1"}, now: time.Now().Truncate(time.Second),
		keys: []object{jwk(signingKeys()["p256"], "key")}, asked: map[string]int{},
	}
	p.issuer = i
	return p, i
}

func both(o *Options) { o.Issuer, o.Audience = "http://127.0.0.1", "gateway" }

func TestBothProofsTogether(t *testing.T) {
	signingKeys()
	const terse, whole = `{"active": true}`, `{"active": true, "client_id": "pings", "aud": "gateway", "scope": "one"}`
	gone := http.NotFound
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	es256 := object{"alg": "ES256", "kid": "key"}
	good := func(t testing.TB, i *issuer) string {
		return sign(t, "ES256", signingKeys()["p256"], es256, i.claims())
	}
	forged := func(t testing.TB, i *issuer) string {
		return sign(t, "ES256", signingKeys()["p256-other"], es256, i.claims())
	}
	for _, row := range []struct {
		name    string
		token   func(testing.TB, *issuer) string
		answer  string // about any token
		keys    http.HandlerFunc
		want    Reason
		asked   int // about the token
		clients string
	}{
		{"signed and active", good, whole, nil, "", 1, "pings"},
		{"signed and active, says a terse answer", good, terse, nil, "", 1, "client"},
		{"signed and inactive", good, `{"active": false}`, nil, Inactive, 1, ""},
		{"signed, and the answer is about someone else", good, `{"active": true, "aud": "else"}`, nil, WrongAudience, 1, ""},
		{"signed, and the provider fails", good, `nonsense`, nil, Unavailable, 1, ""},
		{"forged", forged, whole, nil, Inactive, 0, ""},
		{"without a signature", func(t testing.TB, i *issuer) string {
			return sign(t, "none", nil, object{"alg": "none"}, i.claims())
		}, whole, nil, Inactive, 0, ""},
		{"expired", func(t testing.TB, i *issuer) string {
			return sign(t, "ES256", signingKeys()["p256"], es256, i.claims().with(object{"exp": i.now.Add(-time.Hour).Unix()}))
		}, whole, nil, Inactive, 0, ""},
		{"expired by our clock, not by the provider's", func(t testing.TB, i *issuer) string {
			return sign(t, "ES256", signingKeys()["p256"], es256, i.claims().with(object{"exp": i.now.Add(-time.Second).Unix()}))
		}, terse, nil, Inactive, 1, ""},
		{"signed for someone else", func(t testing.TB, i *issuer) string {
			return sign(t, "ES256", signingKeys()["p256"], es256, i.claims().with(object{"aud": "else"}))
		}, whole, nil, WrongAudience, 0, ""},
		{"opaque", func(testing.TB, *issuer) string { return "opaque" }, whole, nil, "", 1, "pings"},
		{"opaque and inactive", func(testing.TB, *issuer) string { return "opaque" }, `{"active": false}`, nil, Inactive, 1, ""},
		{"opaque, for nobody", func(testing.TB, *issuer) string { return "opaque" }, terse, nil, WrongAudience, 1, ""},
		{"keys cannot be had", good, whole, gone, "", 1, "pings"},
		{"keys cannot be had, inactive", forged, `{"active": false}`, gone, Inactive, 1, ""},
		{"keys cannot be had, and nobody else says for whom", good, terse, gone, Unavailable, 1, ""},
		{"keys are waited for too long", good, whole, hangs, "", 1, "pings"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, i := serveKeys(t)
				p.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, row.answer) }
				i.instead = row.keys
				v := p.verifier(t, both)
				token := row.token(t, i)
				began := time.Now()
				claims, err := v.Verify(t.Context(), token, home)
				if got := refusedFor(t, err); got != row.want {
					t.Fatalf("refused for %q (%v), want %q", got, err, row.want)
				}
				if claims != nil && claims.ClientID != row.clients {
					t.Errorf("client is %q, want %q", claims.ClientID, row.clients)
				}
				if got := p.about(token); got != row.asked {
					t.Errorf("the provider was asked %d times, want %d", got, row.asked)
				}
				if took := time.Since(began); took > keysWait {
					t.Errorf("took %v", took)
				}
				time.Sleep(time.Minute) // until nobody hangs any more
			})
		})
	}
}

// What the provider leaves out of its answer is taken from what it signed.
func TestClaimsOfBoth(t *testing.T) {
	signingKeys()
	synctest.Test(t, func(t *testing.T) {
		p, i := serveKeys(t)
		v := p.verifier(t, both)
		token := i.token(t, "p256", "key")
		p.answers[token] = `{"active": true, "scope": "narrow"}`
		got, err := v.Verify(t.Context(), token, home)
		if err != nil {
			t.Fatal(err)
		}
		wanted := &Claims{
			ClientID: "client", Subject: "subject", Issuer: i.URL, Scopes: []string{"narrow"}, Audience: []string{"gateway"},
			Expires: i.now.Add(10 * time.Minute),
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Error(diff)
		}
		// Nothing is not left out.
		p.answers[token] = `{"active": true, "scope": ""}`
		if got, err = p.verifier(t, both).Verify(t.Context(), token, home); err != nil || len(got.Scopes) > 0 {
			t.Errorf("without a scope: %+v, error %v", got, err)
		}
	})
}

// With a signature for the only proof, nobody is asked about a token, and a
// flood of forged ones is in nobody's way.
func TestSignatureAlone(t *testing.T) {
	signingKeys()
	synctest.Test(t, func(t *testing.T) {
		p, i := serveKeys(t)
		v := p.verifier(t, func(o *Options) { *o = Options{Issuer: i.URL, dial: o.dial, Checked: o.Checked} })
		good := i.token(t, "p256", "key")
		for n := range 300 {
			want(t, v, good, "")
			want(t, v, sign(t, "ES256", signingKeys()["p256-other"], object{"alg": "ES256", "kid": fmt.Sprint(n % 2)}, i.claims()), Inactive)
			want(t, v, fmt.Sprintf("opaque-%d", n), Inactive)
		}
		time.Sleep(time.Until(i.now.Add(10*time.Minute + skew)))
		want(t, v, good, Inactive)
		if len(p.asked) > 0 {
			t.Errorf("the provider was asked %d times", len(p.asked))
		}
		methods := map[string]int{}
		for _, c := range p.checks {
			methods[c.Method]++
		}
		if methods["cache"] != 299 || methods["signature"] != 602 || len(methods) != 2 {
			t.Errorf("checked by %v", methods)
		}
		synctest.Wait() // for keys that are being refreshed
	})
}

// A key that the provider withdraws takes its tokens with it, those that are in
// use included.
func TestWithdrawnKeyEndsTokensInUse(t *testing.T) {
	signingKeys()
	synctest.Test(t, func(t *testing.T) {
		p, i := serveKeys(t)
		v := p.verifier(t, func(o *Options) { *o = Options{Issuer: i.URL, dial: o.dial} })
		go v.Run(t.Context())
		token := sign(t, "ES256", signingKeys()["p256"], object{"alg": "ES256", "kid": "key"}, i.claims().with(object{"exp": i.now.Add(time.Hour).Unix()}))
		for range 100 {
			want(t, v, token, "")
			time.Sleep(5 * time.Second)
		}
		i.publish(jwk(signingKeys()["p384"], "next"))
		withdrawn := time.Now()
		for try(t, v, token, home) == "" {
			if time.Since(withdrawn) > refreshInterval+Bound {
				t.Fatal("still taken")
			}
			time.Sleep(5 * time.Second)
		}
		want(t, v, token, Inactive)
	})
}

// A token whose key is not known yet is no bad token: it counts as soon as the
// key is known.
func TestNewKeyCountsAtOnce(t *testing.T) {
	signingKeys()
	synctest.Test(t, func(t *testing.T) {
		p, i := serveKeys(t)
		v := p.verifier(t, both)
		p.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"active": true}`) }
		want(t, v, i.token(t, "p256", "key"), "")
		want(t, v, i.token(t, "p256-other", "made up"), Inactive) // after a look for its key
		i.publish(jwk(signingKeys()["p384"], "next"))
		token := sign(t, "ES384", signingKeys()["p384"], object{"alg": "ES384", "kid": "next"}, i.claims())
		time.Sleep(refetchInterval / 2)
		want(t, v, token, Inactive)
		time.Sleep(refetchInterval / 2)
		want(t, v, token, "")
	})
}

// Forged tokens do not take the questions that others may ask.
func TestForgedTokensLeaveTheProviderInPeace(t *testing.T) {
	signingKeys()
	synctest.Test(t, func(t *testing.T) {
		p, i := serveKeys(t)
		p.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, active) }
		v := p.verifier(t, func(o *Options) { o.Issuer = i.URL })
		want(t, v, i.token(t, "p256", "key"), "")
		before := len(p.asked)
		for n := range 500 {
			from := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
			claims := i.claims().with(object{"n": n})
			if got := try(t, v, sign(t, "ES256", signingKeys()["p256-other"], object{"alg": "ES256", "kid": "key"}, claims), from); got != Inactive {
				t.Fatalf("a forged token is %q", got)
			}
		}
		if len(p.asked) != before {
			t.Errorf("the provider was asked %d times", len(p.asked)-before)
		}
		want(t, v, "newcomer", "")
	})
}
