// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// TestFlood is the promise that matters most: whoever sends bad tokens, from
// however many addresses, is no burden to the provider and in nobody's way.
func TestFlood(t *testing.T) {
	for name, addresses := range map[string]int{"one address": 1, "many addresses": 5000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := serve(t)
				p.answers["good"] = active
				p.answers["idle"] = active
				v := p.verifier(t)
				v.bad = newCache(100) // soon full
				want(t, v, "good", "")
				want(t, v, "idle", "")
				reasons := map[Reason]int{}
				began := time.Now()
				for i := 0; time.Since(began) < 100*time.Second; i++ {
					from := netip.AddrFrom4([4]byte{10, 0, byte(i % addresses >> 8), byte(i % addresses)})
					reasons[try(t, v, fmt.Sprintf("bad-%d", i), from)]++
					want(t, v, "good", "")
					if addresses == 1 && i%1000 == 999 { // somebody new, elsewhere
						name := fmt.Sprintf("newcomer-%d", i)
						p.set(func() { p.answers[name] = active })
						want(t, v, name, "")
					}
					time.Sleep(5 * time.Millisecond)
				}
				// One that was not used all the while counts as one that is known.
				want(t, v, "idle", "")
				if reasons[""] > 0 || reasons[Unavailable] > 0 || reasons[Inactive] == 0 || reasons[Busy] == 0 {
					t.Errorf("bad tokens were refused for %v", reasons)
				}
				bad := func(token string) bool { return strings.HasPrefix(token, "bad") }
				if most := p.busiest(bad); most > 50 || addresses == 1 && most > limits.TokenAddressRate+limits.TokenAddressBurst {
					t.Errorf("%d bad tokens reached the provider within a second", most)
				}
				if n := p.about("good"); n < 4 {
					t.Errorf("the good token was renewed %d times in 100 seconds", n-1)
				}
				if len(v.strangers.byNetwork) > 100 {
					t.Errorf("%d addresses are remembered", len(v.strangers.byNetwork))
				}
			})
		})
	}
}

// Strangers who know a text at which the provider fails keep nobody out.
func TestPoisonKeepsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		p.answers["good"] = active
		v := p.verifier(t)
		want(t, v, "good", "")
		p.answer = func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.PostFormValue("token"), "poison") {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			fmt.Fprint(w, active)
		}
		stranger := netip.MustParseAddr("2001:db8::1")
		for i := range 2000 {
			if got := try(t, v, fmt.Sprintf("poison-%d", i), stranger); got != Unavailable && got != Busy {
				t.Fatalf("poison is %q", got)
			}
			want(t, v, "good", "")
			if i%7 == 6 {
				want(t, v, fmt.Sprintf("newcomer-%d", i), "")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := strings.Count(p.logged(), "\n"); n > 200/10+1 {
			t.Errorf("%d lines were logged in 200 seconds", n)
		}
	})
}

// A provider that is down is left in peace: while it is, senders are refused
// at once and it is asked a few times a second.
func TestProviderThatIsDownIsSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		const n = 200
		tokens := make([]string, n)
		for i := range tokens {
			tokens[i] = fmt.Sprintf("token-%d", i)
			p.answers[tokens[i]] = active
		}
		v := p.verifier(t)
		for _, token := range tokens {
			want(t, v, token, "")
			time.Sleep(time.Second)
		}
		time.Sleep(Bound)
		p.set(func() {
			p.asked = nil
			p.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
		})
		for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
			for _, token := range tokens {
				want(t, v, token, Unavailable)
			}
		}
		if most := p.busiest(func(string) bool { return true }); most > tolerated+int(time.Second/probeInterval) {
			t.Errorf("asked %d times in a second", most)
		}
		p.set(func() { p.answer = nil })
		time.Sleep(probeInterval)
		for _, token := range tokens {
			want(t, v, token, "")
		}
	})
}

// A provider that hangs takes as many questions as there are slots.
func TestProviderThatHangsIsNotPiledUpOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		var working, most int
		p.answer = func(_ http.ResponseWriter, r *http.Request) {
			p.set(func() { working++; most = max(most, working) })
			<-r.Context().Done()
			p.set(func() { working-- })
		}
		v := p.verifier(t)
		var all sync.WaitGroup
		reasons := make(chan Reason, 1000)
		for i := range cap(reasons) {
			all.Go(func() {
				from := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
				began := time.Now()
				reasons <- try(t, v, fmt.Sprintf("token-%d", i), from)
				if took := time.Since(began); took > longestCheck {
					t.Errorf("refused after %v", took)
				}
			})
		}
		all.Wait()
		close(reasons)
		count := map[Reason]int{}
		for r := range reasons {
			count[r]++
		}
		if most != limits.TokenChecks || count[Unavailable] != limits.TokenChecks || count[Busy] != cap(reasons)-limits.TokenChecks {
			t.Errorf("%d at once; refused for %v", most, count)
		}
	})
}

// Many good tokens that come back at once wait for each other, and not in vain.
func TestReturningTokensTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		v := p.verifier(t)
		const n = 4 * limits.TokenChecks
		for i := range n {
			token := fmt.Sprintf("token-%d", i)
			p.set(func() { p.answers[token] = active })
			want(t, v, token, "")
			time.Sleep(time.Second)
		}
		time.Sleep(Bound)
		p.set(func() {
			p.answer = func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(300 * time.Millisecond)
				fmt.Fprint(w, active)
			}
		})
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { want(t, v, fmt.Sprintf("token-%d", i), "") })
		}
		all.Wait()
	})
}

// Tokens that are real and of no use here, which whoever has an account with
// the provider can get, are as little a burden as those that were made up.
func TestFloodOfUselessTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		p.answers["good"] = active
		v := p.verifier(t, func(o *Options) {
			o.Wanted = func(c *Claims) bool { return len(c.Scopes) > 0 }
		})
		p.answer = func(w http.ResponseWriter, r *http.Request) {
			if r.PostFormValue("token") == "good" {
				fmt.Fprint(w, active)
				return
			}
			fmt.Fprint(w, `{"active": true, "client_id": "someone"}`)
		}
		want(t, v, "good", "")
		useless := func(token string) bool { return token != "good" }
		const n = 1000
		for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(time.Second) {
			for i := range n {
				from := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
				if got := try(t, v, fmt.Sprintf("useless-%d", i), from); got != "" && got != Busy {
					t.Fatalf("refused for %q", got)
				}
			}
			want(t, v, "good", "")
		}
		if most := p.busiest(useless); most > 50 {
			t.Errorf("%d useless tokens reached the provider within a second", most)
		}
		if len(v.good.byToken) != 1 {
			t.Errorf("%d tokens are remembered as good ones, want 1", len(v.good.byToken))
		}
		if n := p.about("useless-0"); n < 2 {
			t.Errorf("a token that may have become useful was asked about %d times", n)
		}
	})
}

// Whoever begins calls and breaks them off leaves no more checks behind than
// there can be calls, though the provider keeps each of them waiting.
func TestChecksUnderWayAreBounded(t *testing.T) {
	signingKeys()
	synctest.Test(t, func(t *testing.T) {
		p, i := serveKeys(t)
		v := p.verifier(t, both)
		known := i.token(t, "p256", "key")
		p.answers[known] = active[:len(active)-1] + `, "aud": "gateway"}`
		want(t, v, known, "")
		time.Sleep(Bound) // so that the known one has to be checked again
		i.answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		gone, leave := context.WithCancel(t.Context())
		leave()
		signed := sign(t, "ES256", signingKeys()["p256-other"], object{"alg": "ES256", "kid": "made up"}, i.claims())
		for n := range 3 * limits.TokensChecked {
			_, _ = v.Verify(gone, fmt.Sprintf("%s%d", signed, n), home)
		}
		v.mu.Lock()
		under := len(v.checks)
		v.mu.Unlock()
		if under > limits.TokensChecked {
			t.Errorf("%d checks are under way, want %d at most", under, limits.TokensChecked)
		}
		want(t, v, signed+"x", Busy)
		want(t, v, known, "") // which the crowd does not hold up
		i.answer(nil)
		time.Sleep(refetchInterval)
		want(t, v, signed, Inactive)
	})
}
