// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/telemetrygateway/telemetry/internal/oauth"
)

// until repeats something, not too fast, until it reports true.
func until(t *testing.T, what string, within time.Duration, done func(attempt int) bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(within)
	for attempt := 0; !done(attempt); attempt++ {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("still not %s after %v", what, within)
		}
	}
}

// endsBy sends one event after the other over a stream until the gateway ends
// it for its token. It fails the test if an event is taken that was sent after
// a point in time.
func (s *serviceStream) endsBy(t *testing.T, end time.Time, name string) {
	t.Helper()
	until(t, "refused", time.Until(end)+patience, func(n int) bool {
		began := time.Now()
		switch err := s.send(t, fmt.Sprintf("%s/%d", name, n)); {
		case err == nil && began.After(end):
			t.Fatalf("%s: an event is taken %v after the last moment", name, began.Sub(end))
		case err != nil && status.Code(err) != codes.Unauthenticated:
			t.Fatalf("%s: the stream ends with %v", name, err)
		case err != nil && n == 0:
			t.Fatalf("%s: nothing was ever taken: %v", name, err)
		case err != nil:
			return true
		}
		return false
	})
}

// TestRevokedInUse revokes a token that the gateway has just found to be good,
// and with which a stream is open.
func TestRevokedInUse(t *testing.T) {
	t.Parallel()
	a := startAuthority(t)
	pings := a.service(t, "pings")
	dir := t.TempDir()
	g := startGateway(t, dir, append(a.introspection(t, a.IntrospectionURL()), a.signatures()...)...)
	revoked, kept := a.token(t, pings), a.token(t, pings)
	s := service{id: "pings", address: g.address}
	stream, other := s.with(revoked).open(t), s.with(kept).open(t)
	for _, stream := range []*serviceStream{stream, other} {
		if err := stream.send(t, "before"); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Revoke(t.Context(), pings, revoked); err != nil {
		t.Fatal(err)
	}
	stream.endsBy(t, time.Now().Add(oauth.Bound), "revoked")
	if got := s.with(revoked).try(t, "revoked"); got != codes.Unauthenticated {
		t.Errorf("the revoked token: %v", got)
	}
	if err := other.send(t, "after"); err != nil {
		t.Errorf("a token that was not revoked: %v", err)
	}
	a.keptSecret(t, g, dir)
}

// TestExpiresInUse lets a token expire with which a stream is open.
func TestExpiresInUse(t *testing.T) {
	t.Parallel()
	a := startAuthority(t)
	pings := a.service(t, "pings")
	g := startGateway(t, t.TempDir(), a.introspection(t, a.IntrospectionURL())...)
	if err := a.SetTokenLifetime(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	token := a.token(t, pings)
	s := service{id: "pings", address: g.address}
	s.with(token).open(t).endsBy(t, expiry(t, token), "expires")
	if got := s.with(token).try(t, "expired"); got != codes.Unauthenticated {
		t.Errorf("an expired token: %v", got)
	}
	if got := s.with(a.token(t, pings)).try(t, "next"); got != codes.OK {
		t.Errorf("the next token: %v", got)
	}
}

// expiry reads when a token says that it expires.
func expiry(t *testing.T, token string) time.Time {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ Exp int64 }
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return time.Unix(claims.Exp, 0)
}

// TestKeyRotation replaces the provider's key under a gateway that knows it by
// its signatures alone.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	a := startAuthority(t)
	pings := a.service(t, "pings")
	g := startGateway(t, t.TempDir(), a.signatures()...)
	s := service{id: "pings", address: g.address}
	unused := a.token(t, pings)
	if got := s.with(a.token(t, pings)).try(t, "first"); got != codes.OK {
		t.Fatalf("a token of the first key: %v", got)
	}
	for _, change := range []func() error{a.RotateKey, a.RetireKeys} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
	}
	next := s.with(a.token(t, pings))
	until(t, "taking tokens of the next key", patience, func(n int) bool {
		return next.unary(t, fmt.Sprintf("next/%d", n)) == nil
	})
	if got := s.with(unused).try(t, "unused"); got != codes.Unauthenticated {
		t.Errorf("a token of the retired key: %v", got)
	}
	// Signatures need nobody who is there.
	late := a.token(t, pings)
	a.Stop()
	if got := s.with(late).try(t, "late"); got != codes.OK {
		t.Errorf("with the provider stopped: %v", got)
	}
}

// undecided fails the test unless a token is neither taken nor refused, for the
// provider's sake or because there are too many to ask about.
func (s *service) undecided(t *testing.T, name string) {
	t.Helper()
	for how, err := range map[string]error{"stream": s.open(t).send(t, name+"/stream"), "unary call": s.unary(t, name+"/unary")} {
		said := status.Convert(err)
		if said.Code() != codes.Unavailable && said.Code() != codes.ResourceExhausted {
			t.Errorf("%s: the %s ends with %v, want Unavailable or ResourceExhausted", name, how, err)
			continue
		}
		var retry *errdetails.RetryInfo
		for _, detail := range said.Details() {
			if r, ok := detail.(*errdetails.RetryInfo); ok {
				retry = r
			}
		}
		if retry.GetRetryDelay().AsDuration() <= 0 {
			t.Errorf("%s: the %s is not told when to come back: %v", name, how, err)
		}
	}
}

// TestProviderAway stops and pauses the provider. Who was let in before stays,
// nobody else is, and nobody waits for long.
func TestProviderAway(t *testing.T) {
	t.Parallel()
	a := startAuthority(t)
	pings := a.service(t, "pings")
	dir := t.TempDir()
	g := startGateway(t, dir, a.introspection(t, a.IntrospectionURL())...)
	s := service{id: "pings", address: g.address}
	open := s.with(a.token(t, pings)).open(t)
	for name, trouble := range map[string]struct{ away, back func() error }{
		"stopped": {func() error { a.Stop(); return nil }, a.Start},
		"paused":  {a.Pause, a.Resume},
	} {
		next := s.with(a.token(t, pings))
		if err := open.send(t, name+"/before"); err != nil {
			t.Fatal(err)
		}
		if err := trouble.away(); err != nil {
			t.Fatal(err)
		}
		next.undecided(t, name)
		if err := open.send(t, name+"/during"); err != nil {
			t.Errorf("%s: a stream that was open ends: %v", name, err)
		}
		if status, _ := g.get(t, "/readyz"); status != http.StatusOK {
			t.Errorf("%s: the gateway is not ready (%d), though others need no provider", name, status)
		}
		if err := trouble.back(); err != nil {
			t.Fatal(err)
		}
		until(t, "taking tokens again after the provider was "+name, patience, func(n int) bool {
			return next.unary(t, fmt.Sprintf("%s/after/%d", name, n)) == nil
		})
	}
	a.keptSecret(t, g, dir)
}
