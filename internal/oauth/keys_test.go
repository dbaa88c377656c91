// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// token is a good one, signed with a key of signingKeys under a key ID.
func (i *issuer) token(t testing.TB, key string, id any) string {
	t.Helper()
	return sign(t, "ES256", signingKeys()[key], object{"alg": "ES256", "typ": "at+jwt"}.with(object{"kid": id}), i.claims())
}

// expect verifies a token.
func expect(t *testing.T, s *signatures, token string, want Reason) {
	t.Helper()
	claims, err := s.verify(t.Context(), token)
	if got := reasonOf(t, claims, err); got != want {
		t.Errorf("the reason is %q, want %q", got, want)
	}
}

// refresh fetches the keys as run does, and says whether that worked.
func refresh(s *signatures) error {
	s.mu.Lock()
	f := s.start()
	s.mu.Unlock()
	<-f.done
	return f.err
}

func TestRotation(t *testing.T) {
	old, next := jwk(signingKeys()["p256"], "old"), jwk(signingKeys()["p256-other"], "new")
	for name, ids := range map[string]struct{ old, next any }{"with key IDs": {"old", "new"}, "without": {nil, nil}} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t, old)
			s := i.signatures("")
			first, second := i.token(t, "p256", ids.old), i.token(t, "p256-other", ids.next)
			if s.current() != nil {
				t.Error("keys are known before anyone asked")
			}
			expect(t, s, first, "")
			if s.current() == nil || i.fetches() != 1 {
				t.Errorf("keys are %v after %d fetches", s.current(), i.fetches())
			}

			i.publish(old, next)
			expect(t, s, second, "") // at once
			expect(t, s, first, "")
			if n := i.fetches(); n != 2 {
				t.Errorf("after %d fetches, want 2", n)
			}

			i.publish(next)
			expect(t, s, first, "") // until the next refresh
			i.now = i.now.Add(refreshInterval)
			if err := refresh(s); err != nil {
				t.Fatal(err)
			}
			expect(t, s, first, Inactive)
			expect(t, s, second, "")
		})
	}
}

// TestRefreshWithoutRun has nobody call run, which must not keep a key that was
// withdrawn in force.
func TestRefreshWithoutRun(t *testing.T) {
	keys := signingKeys()
	i := newIssuer(t, jwk(keys["p256"], "a"))
	s := i.signatures("")
	expect(t, s, i.token(t, "p256", "a"), "")
	i.publish(jwk(keys["p256-other"], "b"))
	i.now = i.now.Add(refreshInterval)
	stop := make(chan struct{})
	i.answer(func(w http.ResponseWriter, _ *http.Request) { <-stop })
	expect(t, s, i.token(t, "p256", "a"), "") // it does not wait for the refresh it begins
	s.mu.Lock()
	f := s.fetching
	s.mu.Unlock()
	if f == nil {
		t.Fatal("no fetch is under way")
	}
	i.answer(nil)
	close(stop) // an empty answer: the fetch fails
	<-f.done
	i.now = i.now.Add(refetchInterval)
	f = s.demand()
	<-f.done
	expect(t, s, i.token(t, "p256", "a"), Inactive)
}

func TestFloodOfUnknownKeys(t *testing.T) {
	i := newIssuer(t, jwk(signingKeys()["p256"], "a"))
	s := i.signatures("")
	good := i.token(t, "p256", "a")
	expect(t, s, good, "")
	flood := func() {
		var all sync.WaitGroup
		for n := range 200 {
			bad := i.token(t, "p256-other", fmt.Sprint("made up ", n))
			all.Go(func() { expect(t, s, bad, Inactive) })
			all.Go(func() { expect(t, s, good, "") })
		}
		all.Wait()
	}
	flood()
	if n := i.fetches(); n != 2 {
		t.Errorf("after %d fetches, want one at first and one because of the flood", n)
	}
	i.now = i.now.Add(refetchInterval - time.Nanosecond)
	flood()
	if n := i.fetches(); n != 2 {
		t.Errorf("a moment too early: after %d fetches, want 2", n)
	}
	i.now = i.now.Add(time.Nanosecond)
	flood()
	if n := i.fetches(); n != 3 {
		t.Errorf("after %d fetches, want 3", n)
	}
}

func TestProviderDownWithKeysKnown(t *testing.T) {
	i := newIssuer(t, jwk(signingKeys()["p256"], "a"))
	s := i.signatures("")
	expect(t, s, i.token(t, "p256", "a"), "")
	i.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })

	expect(t, s, i.token(t, "p256-other", "b"), Unavailable) // it may be a new one
	expect(t, s, i.token(t, "p256-other", "a"), Inactive)    // it is not, whatever the provider says
	i.now = i.now.Add(keysLifetime - time.Nanosecond)
	for range 3 {
		if err := refresh(s); err == nil {
			t.Fatal("the provider is not down")
		}
	}
	expect(t, s, i.token(t, "p256", "a"), "")
	if s.current() == nil {
		t.Error("no keys are known")
	}
	i.now = i.now.Add(time.Nanosecond)
	if s.current() != nil {
		t.Error("keys are known that are an hour old")
	}
	expect(t, s, i.token(t, "p256", "a"), Unavailable)
	i.answer(nil)
	i.now = i.now.Add(retryInterval)
	expect(t, s, i.token(t, "p256", "a"), "")
}

// TestWithdrawnKeys has a provider that takes all of its keys back, and not one
// that is down.
func TestWithdrawnKeys(t *testing.T) {
	i := newIssuer(t, jwk(signingKeys()["p256"], "a"))
	s := i.signatures("")
	expect(t, s, i.token(t, "p256", "a"), "")
	i.publish([]object{}...)
	i.answer(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(object{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "keys": []object{}})
	})
	i.now = i.now.Add(refreshInterval)
	if err := refresh(s); err == nil {
		t.Error("a set without keys is not reported")
	}
	expect(t, s, i.token(t, "p256", "a"), Unavailable)
	if s.current() != nil {
		t.Error("keys are known")
	}
}

func TestAWaiterThatGoesAway(t *testing.T) {
	i := newIssuer(t, jwk(signingKeys()["p256"], "a"))
	arrived, answer := make(chan struct{}, 1), make(chan struct{})
	i.answer(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-answer
		i.answer(nil)
		i.ServeHTTP(w, r)
	})
	s := i.signatures("")
	token := i.token(t, "p256", "a")
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := s.verify(ctx, token)
		left <- err
	}()
	<-arrived
	leave()
	if got := reasonOf(t, nil, <-left); got != Unavailable {
		t.Errorf("the reason is %q, want %q", got, Unavailable)
	}
	close(answer)
	expect(t, s, token, "")
	if n := i.fetches(); n != 1 {
		t.Errorf("after %d fetches, want the one that was under way", n)
	}
}

func TestRun(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer, s *signatures) {
		keys := signingKeys()
		i.publish(jwk(keys["p256"], "a"))
		i.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			s.run(ctx)
			close(ended)
		}()

		began := time.Now()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if n := i.asked["/.well-known/openid-configuration"]; n < 30 || n > 200 {
			t.Errorf("a provider that is down was asked %d times in %s", n, time.Since(began))
		}
		i.answer(nil)
		time.Sleep(longestBackOff + retryInterval)
		synctest.Wait()
		if s.current() == nil {
			t.Fatal("the keys are not fetched from a provider that is up again")
		}

		token := func(key, id string) string {
			i.now = time.Now()
			return i.token(t, key, id)
		}
		expect(t, s, token("p256", "a"), "")
		before := i.fetches()
		i.publish(jwk(keys["p256-other"], "b"))
		time.Sleep(refreshInterval)
		synctest.Wait()
		expect(t, s, token("p256", "a"), Inactive)
		expect(t, s, token("p256-other", "b"), "")
		if n := i.fetches() - before; n < 1 || n > 3 { // one of them because of a key that is not known any more
			t.Errorf("the keys were fetched %d times in %s", n, refreshInterval)
		}
		stop()
		<-ended
	})
}

// TestSlowProvider has one that takes its time for each answer, and too long
// for both.
func TestSlowProvider(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer, s *signatures) {
		i.publish(jwk(signingKeys()["p256"], "a"))
		i.answer(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(fetchTimeout - time.Second):
			case <-r.Context().Done():
			}
			json.NewEncoder(w).Encode(object{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "keys": i.keys})
		})
		began := time.Now()
		expect(t, s, i.token(t, "p256", "a"), Unavailable)
		if took := time.Since(began); took != fetchTimeout {
			t.Errorf("it took %s, want %s", took, fetchTimeout)
		}
		i.answer(nil)
		expect(t, s, i.token(t, "p256", "a"), "")
	})
}

// TestManyKeys has a token tried with a few of them only, unless it says which.
func TestManyKeys(t *testing.T) {
	var published []object
	for n := range maxTried {
		published = append(published, jwk(signingKeys()["p256-other"], fmt.Sprint(n)))
	}
	mine := jwk(signingKeys()["p256"], "a")
	i := newIssuer(t, append(published[1:], jwk(signingKeys()["p384"], "b"), mine)...)
	expect(t, i.signatures(""), i.token(t, "p256", nil), "")
	i.publish(append(published, mine)...)
	expect(t, i.signatures(""), i.token(t, "p256", nil), Inactive)
	expect(t, i.signatures(""), i.token(t, "p256", "a"), "")
}

// TestPanicWhileFetching has nothing to fetch with, which stands for a mistake
// in reading what a provider says.
func TestPanicWhileFetching(t *testing.T) {
	i := newIssuer(t)
	s := i.signatures("")
	s.f = nil
	expect(t, s, i.token(t, "p256", "a"), Unavailable)
}
