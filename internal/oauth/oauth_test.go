// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

func TestActiveTokenIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		expires := time.Now().Add(time.Hour).Truncate(time.Second)
		p.answers["good"] = fmt.Sprintf(`{"active": true, "client_id": "pings", "sub": "someone", "iss": "https://provider", "username": "x",
			"scope": "one two", "aud": ["gateway", "else"], "exp": %d, "nbf": %d, "token_type": "Bearer", "cnf": null}`, expires.Unix(), time.Now().Unix())
		p.answers["terse"] = `{"active": true}`
		v := p.verifier(t, func(o *Options) { o.Audience = "gateway" })
		got, err := v.Verify(t.Context(), "good", home)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&Claims{
			ClientID: "pings", Subject: "someone", Issuer: "https://provider",
			Scopes: []string{"one", "two"}, Audience: []string{"gateway", "else"}, Expires: expires,
		}, got); diff != "" {
			t.Error(diff)
		}
		got, err = p.verifier(t).Verify(t.Context(), "terse", home)
		if diff := cmp.Diff(&Claims{}, got); err != nil || diff != "" {
			t.Error(err, diff)
		}
	})
}

func TestTokensThatDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
		const mine = `{"active": true, "client_id": "pings", "aud": "gateway", "iss": "https://provider"`
		v := p.verifier(t, func(o *Options) { o.Audience, o.Issuer = "gateway", "https://provider" })
		for i, row := range []struct {
			name, answer string
			want         Reason
		}{
			{"good", mine + `}`, ""},
			{"inactive", `{"active": false}`, Inactive},
			{"inactive, with claims", `{"active": false, "client_id": "pings", "aud": "gateway"}`, Inactive},
			{"expires soon", mine + fmt.Sprintf(`, "exp": %d}`, in(5*time.Second)), ""},
			{"expired", mine + fmt.Sprintf(`, "exp": %d}`, in(0)), Inactive},
			{"expired for good", mine + `, "exp": 1}`, Inactive},
			{"not valid yet", mine + fmt.Sprintf(`, "nbf": %d}`, in(2*skew)), Inactive},
			{"not valid yet by the provider's clock", mine + fmt.Sprintf(`, "nbf": %d}`, in(skew/2)), ""},
			{"another issuer", `{"active": true, "aud": "gateway", "iss": "https://provider/"}`, Inactive},
			{"issuer left out", `{"active": true, "aud": "gateway"}`, ""},
			{"another audience", `{"active": true, "aud": "gateways"}`, WrongAudience},
			{"several other audiences", `{"active": true, "aud": ["Gateway", "x"]}`, WrongAudience},
			{"no audience", `{"active": true}`, WrongAudience},
			{"empty audience", `{"active": true, "aud": ""}`, WrongAudience},
			{"access token", mine + `, "token_type": "access_token"}`, ""},
			{"refresh token", mine + `, "token_type": "refresh_token"}`, Inactive},
			{"refresh token, said otherwise", mine + `, "token_type": "Bearer", "token_use": "Refresh_Token"}`, Inactive},
			{"ID token", mine + `, "token_use": "id"}`, Inactive},
			{"refresh token, said a third way", mine + `, "token_type": "Bearer", "typ": "Refresh"}`, Inactive},
			{"refresh token that does not expire", mine + `, "typ": "Offline"}`, Inactive},
			{"access token, said a third way", mine + `, "typ": "Bearer"}`, ""},
			{"bound to a key", mine + `, "cnf": {"jkt": "x"}}`, Inactive},
			{"active as a text", `{"active": "true", "aud": "gateway"}`, Unavailable},
			{"active as a number", `{"active": 1, "aud": "gateway"}`, Unavailable},
			{"active in other case", `{"Active": true, "aud": "gateway"}`, Unavailable},
			{"active twice", `{"active": false, "active": true, "aud": "gateway"}`, Unavailable},
			{"active left out", `{"aud": "gateway"}`, Unavailable},
			{"active null", `{"active": null, "aud": "gateway"}`, Unavailable},
			{"expires at a text", mine + `, "exp": "soon"}`, Unavailable},
		} {
			token := fmt.Sprintf("token-%d", i)
			p.set(func() { p.answers[token] = row.answer })
			if got := try(t, v, token, home); got != row.want {
				t.Errorf("%s: refused for %q, want %q", row.name, got, row.want)
			}
			time.Sleep(time.Second) // of the bubble's clock; the address may not ask more often
		}
		holds(t, p.logged(), "panic")
	})
}

func TestMalformedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		p.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, active) } // to whatever gets there
		v := p.verifier(t)
		for _, token := range []string{"a", "abc==", "A-Z.a_z~0+9/", strings.Repeat("x", limits.TokenBytes)} {
			want(t, v, token, "")
		}
		before := len(p.asked)
		for _, token := range []string{
			"", "=", "==", "a=b", "a b", " a", "a ", "a\tb", "a\nb", "a,b", "a\x00", "a\x7f", "ä", "\xff", `"a"`, "a:b", "a%20",
			strings.Repeat("x", limits.TokenBytes+1), strings.Repeat("x", 1<<20),
		} {
			if got := try(t, v, token, home); got != Malformed {
				t.Errorf("%.20q: refused for %q, want %q", token, got, Malformed)
			}
		}
		if len(p.asked) != before {
			t.Error("the provider was asked about what is no token")
		}
	})
}

// A token in use works on without a pause, is asked about twice a minute, and
// ends within Bound when the provider revokes it.
func TestRevocationWorksWithinBound(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, 7 * time.Second, 29 * time.Second, 45 * time.Second, 3 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			p := serve(t)
			p.answers["token"] = active
			v := p.verifier(t)
			for began := time.Now(); time.Since(began) < 10*time.Minute+7*time.Second; time.Sleep(every) {
				want(t, v, "token", "")
			}
			if n := p.about("token"); n > 21 {
				t.Errorf("every %v: asked %d times in 10 minutes", every, n)
			}
			p.set(func() { delete(p.answers, "token") })
			revoked := time.Now()
			for try(t, v, "token", home) == "" {
				if time.Since(revoked) >= Bound {
					t.Fatalf("every %v: still taken %v after it was revoked", every, time.Since(revoked))
				}
				time.Sleep(every)
			}
			if took := time.Since(revoked); every < time.Second && took > renewAfter+2*every {
				t.Errorf("every %v: the answer at hand was used for %v", every, took)
			}
			want(t, v, "token", Inactive)
		})
	}
}

// A token that expires is refused from that moment on, whatever the provider
// still says.
func TestExpiryEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		expires := time.Now().Truncate(time.Second).Add(10 * time.Second)
		p.answers["token"] = fmt.Sprintf(`{"active": true, "exp": %d}`, expires.Unix())
		v := p.verifier(t)
		want(t, v, "token", "")
		time.Sleep(time.Until(expires) - time.Nanosecond)
		want(t, v, "token", "")
		if n := p.about("token"); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		time.Sleep(time.Nanosecond)
		want(t, v, "token", Inactive)
	})
}

// What the provider called inactive is not asked again for a while, and then
// is: it may have become active.
func TestInactiveIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		v := p.verifier(t)
		for range 100 {
			want(t, v, "token", Inactive)
		}
		if n := p.about("token"); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		p.set(func() { p.answers["token"] = active })
		time.Sleep(inactiveFor - time.Nanosecond)
		want(t, v, "token", Inactive)
		time.Sleep(time.Nanosecond)
		want(t, v, "token", "")
	})
}

// A provider that is down, or talks nonsense, lets nobody in, except for those
// it let in less than Bound ago; and what it failed at is not held against
// tokens.
func TestProviderInTroubleLetsNobodyIn(t *testing.T) {
	for name, breaks := range map[string]func(*provider){
		"refuses connections": (*provider).fall,
		"fails": func(p *provider) {
			p.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
		},
		"does not know us": func(p *provider) {
			p.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
		},
		"talks nonsense": func(p *provider) {
			p.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "active: true") }
		},
		"hangs": func(p *provider) {
			p.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		},
		"hangs up": func(p *provider) {
			p.answer = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := serve(t)
				p.answers["old"], p.answers["new"] = active, active
				v := p.verifier(t)
				want(t, v, "old", "")
				began := time.Now()
				p.set(func() { breaks(p) })
				for time.Since(began) < 10*time.Minute {
					asked := time.Now()
					want(t, v, "new", Unavailable)
					if took := time.Since(asked); took > longestCheck {
						t.Fatalf("refused after %v", took)
					}
					asked = time.Now()
					got := try(t, v, "old", home)
					if took := time.Since(asked); took > longestCheck {
						t.Fatalf("refused after %v", took)
					}
					if asked.Sub(began) >= Bound && got != Unavailable {
						t.Fatalf("%v after it was asked about, the old token is %q, want %q", time.Since(began), got, Unavailable)
					}
					if time.Since(began) < Bound && got != "" {
						t.Fatalf("after %v the old token is refused for %q", time.Since(began), got)
					}
					time.Sleep(time.Second)
				}
				p.set(func() { p.down, p.answer = false, nil })
				time.Sleep(probeInterval)
				want(t, v, "old", "")
				want(t, v, "new", "")
				if log := p.logged(); strings.Count(log, "cannot be asked") != 1 || strings.Count(log, "can be asked again") != 1 {
					t.Errorf("log is:\n%s", log)
				}
			})
		})
	}
}

func TestOneQuestionForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		p.answer = func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(3 * time.Second)
			fmt.Fprint(w, active)
		}
		v := p.verifier(t)
		ctx, leave := context.WithCancel(t.Context())
		var all, first sync.WaitGroup
		first.Go(func() {
			if _, err := v.Verify(ctx, "token", home); refusedFor(t, err) != Unavailable {
				t.Errorf("who went away got %v", err)
			}
		})
		synctest.Wait() // the one that goes away is the one that asked
		for range 100 {
			all.Go(func() {
				if claims, err := v.Verify(t.Context(), "token", home); err != nil || claims.ClientID != "pings" {
					t.Errorf("got %v and %v", claims, err)
				}
			})
		}
		time.Sleep(time.Second)
		leave()
		began := time.Now()
		first.Wait()
		if !time.Now().Equal(began) {
			t.Error("who goes away is held up")
		}
		all.Wait()
		if n := p.about("token"); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
	})
}

// Renewing happens beside the calls: none waits for a provider that is slow.
func TestNobodyWaitsForRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		p.answers["token"] = active
		v := p.verifier(t)
		want(t, v, "token", "")
		p.set(func() {
			p.answer = func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(4 * time.Second)
				fmt.Fprint(w, active)
			}
		})
		for began := time.Now(); time.Since(began) < 5*time.Minute; time.Sleep(time.Second) {
			before := time.Now()
			want(t, v, "token", "")
			if !time.Now().Equal(before) {
				t.Fatalf("waited %v", time.Since(before))
			}
		}
	})
}

func TestChecksAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		p.answers["good"] = active
		v := p.verifier(t)
		want(t, v, "good", "")
		want(t, v, "good", "")
		want(t, v, "bad", Inactive)
		want(t, v, "bad", Inactive)
		want(t, v, "not a token", Malformed)
		p.set(p.fall)
		want(t, v, "new", Unavailable)
		p.set(func() {
			p.down = false
			p.answer = func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(2 * time.Second)
				fmt.Fprint(w, `{"active": true, "aud": "else"}`)
			}
		})
		v.o.Audience = "gateway"
		want(t, v, "slow", WrongAudience)
		p.set(func() { p.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"active": true}`) } })
		for i := range limits.TokenAddressBurst {
			want(t, v, fmt.Sprintf("last-%d", i), WrongAudience)
		}
		want(t, v, "limited", Busy)
		p.checks = slices.CompactFunc(p.checks, func(a, b Check) bool { return a == b && a.Result == "refused" })
		if diff := cmp.Diff([]Check{
			{"introspection", "active", 0},
			{"cache", "active", 0},
			{"introspection", "inactive", 0},
			{"cache", "inactive", 0},
			{"introspection", "unavailable", 0},
			{"introspection", "refused", 2 * time.Second},
			{"introspection", "refused", 0},
			{"introspection", "limited", 0},
		}, p.checks); diff != "" {
			t.Error(diff)
		}
	})
}

// A fault of ours is one refusal, and not the end of the gateway.
func TestPanicIsARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		p.answers["token"] = active
		var fixed bool
		v := p.verifier(t, func(o *Options) {
			o.Checked = func(Check) {
				if !fixed {
					panic("fault")
				}
			}
		})
		want(t, v, "token", Unavailable)
		if !strings.Contains(p.logged(), "fault") {
			t.Error("nothing was logged")
		}
		fixed = true
		want(t, v, "token", "")
	})
}

func TestOptions(t *testing.T) {
	good := Options{IntrospectionURL: "https://provider.example/introspect", ClientID: "id", ClientSecret: "SECRET"}
	for _, row := range []struct {
		change func(*Options)
		want   string // in the error; empty if there is none
	}{
		{func(*Options) {}, ""},
		{func(o *Options) { o.Issuer = "https://provider.example/realm" }, ""},
		{func(o *Options) { *o = Options{Issuer: "https://provider.example"} }, ""},
		{func(o *Options) { *o = Options{} }, "set -oauth-issuer, -oauth-introspection-url or both"},
		{func(o *Options) { o.ClientID = "" }, "set -oauth-client-id"},
		{func(o *Options) { o.ClientSecret = "" }, "-oauth-client-secret-file"},
		{func(o *Options) { *o = Options{Issuer: "https://p.example", ClientID: "id"} }, "drop -oauth-client-id"},
		{func(o *Options) { o.IntrospectionURL = "provider.example/SECRET" }, "-oauth-introspection-url is not a URL"},
		{func(o *Options) { o.IntrospectionURL = "ftp://provider.example/SECRET" }, "-oauth-introspection-url is not a URL"},
		{func(o *Options) { o.IntrospectionURL = "https:///SECRET" }, "-oauth-introspection-url is not a URL"},
		{func(o *Options) { o.IntrospectionURL = "https://a b/SECRET" }, "-oauth-introspection-url is not a URL"},
		{func(o *Options) { o.IntrospectionURL = "https://id:SECRET@provider.example/" }, "must not hold a user or a password"},
		{func(o *Options) { o.Issuer = "https://provider.example/#SECRET" }, "-oauth-issuer must not have a fragment"},
	} {
		o := good
		row.change(&o)
		_, err := New(o)
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%+v: error is %v, want %q", o, err, row.want)
		}
		if err != nil {
			holds(t, err.Error(), "SECRET")
		}
	}
}

func TestCleartextIsLogged(t *testing.T) {
	for url, warned := range map[string]bool{
		"https://provider.example/": false, "http://localhost:4593/": false, "http://127.0.0.2/": false, "http://[::1]:80/": false,
		"http://provider.example/": true, "http://10.0.0.1/": true, "http://localhost.example/": true,
	} {
		p := &provider{}
		p.verifier(t, func(o *Options) { o.IntrospectionURL = url })
		if got := strings.Contains(p.logged(), "use https"); got != warned {
			t.Errorf("%s: warned is %v", url, got)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	for _, size := range []int{40, 900} { // an opaque token, a JWT
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			p := serve(b)
			token := strings.Repeat("x", size)
			p.answers[token] = active
			v := p.verifier(b, func(o *Options) { o.Checked = nil })
			for b.Loop() {
				if _, err := v.Verify(context.Background(), token, home); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
