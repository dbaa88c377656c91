// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

const (
	// renewAfter is the age from which an answer that is in use is asked for
	// again, so that nobody has to wait for the provider later; and
	// renewInterval lies between attempts.
	renewAfter    = Bound / 2
	renewInterval = time.Second
	// inactiveFor is how long the provider is not asked again about a token that
	// it called inactive.
	inactiveFor = 10 * time.Second
	// longestCheck bounds a check in all: the wait for its turn, and one
	// exchange with the provider.
	longestCheck = limits.TokenWait + limits.TokenTimeout
	// keysWait is how long keys are waited for before the provider is asked about
	// the token instead.
	keysWait = time.Second
)

// Verifier proves access tokens. It may be used by several goroutines at once.
type Verifier struct {
	o          Options
	fetch      *fetcher
	signatures *signatures // nil without an issuer
	health     *health

	good, bad *cache // bad has those of no use as well
	strangers *limiter
	// Tokens that were good before have a lane of their own to the provider, so
	// that strangers cannot hold them up.
	newcomers, renewals *lane

	mu     sync.Mutex
	checks map[digest]*check // under way
}

// digest stands for a token, so that none is kept.
type digest [sha256.Size]byte

// check is a check under way, whose end many may wait for.
type check struct {
	done   chan struct{} // closed when the rest is set
	claims *Claims
	err    *Error
}

// Run keeps the provider's keys fresh until ctx ends. Without it they are
// fetched when they are needed.
func (v *Verifier) Run(ctx context.Context) {
	if v.signatures == nil {
		<-ctx.Done()
		return
	}
	v.signatures.run(ctx)
}

// Verify says what is known of a token that came from an address, if the token
// counts. Its error is an *Error. It takes less than 2 µs if it was asked
// lately, and a few seconds at worst.
func (v *Verifier) Verify(ctx context.Context, token string, from netip.Addr) (*Claims, error) {
	if len(token) > limits.TokenBytes {
		return nil, malformed()
	}
	d := digest(sha256.Sum256(append(make([]byte, 0, 2<<10), token...))) // which is on the stack unless it grows
	claims, refusal, again := v.look(d)
	if again {
		v.start(d, token, from)
	}
	if claims == nil && refusal == nil {
		if !wellFormed(token) { // what is in a cache is
			return nil, malformed()
		}
		c := v.start(d, token, from)
		select {
		case <-c.done:
			claims, refusal = c.claims, c.err
		case <-ctx.Done():
			refusal = unavailable()
		}
	} else {
		v.o.Checked(Check{Method: "cache", Result: resultOf(refusal)})
	}
	if refusal != nil {
		return nil, refusal // and not a nil *Error, which is an error
	}
	return claims, nil
}

// look finds what is already known of a token, if that still counts. again is
// whether the provider should be asked again meanwhile.
func (v *Verifier) look(d digest) (claims *Claims, refusal *Error, again bool) {
	now := v.o.Now()
	if a, ok := v.good.get(d); ok && a.counts(now, Bound) {
		return a.claims, nil, now.Sub(a.asked) >= renewAfter && v.good.retry(d, now)
	}
	if a, ok := v.bad.get(d); ok && a.counts(now, inactiveFor) {
		return a.claims, a.err, false
	}
	return nil, nil, false
}

// start starts a check, or finds the one under way. It goes on without whoever
// started it, because others may have come to wait for it; and so there could be
// any number of them.
func (v *Verifier) start(d digest, token string, from netip.Addr) *check {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c := v.checks[d]; c != nil {
		return c
	}
	c := &check{done: make(chan struct{})}
	if _, known := v.good.get(d); !known && len(v.checks) >= limits.TokensChecked {
		v.o.Checked(Check{Method: v.decides(), Result: "limited"})
		c.err = busy()
		close(c.done)
		return c
	}
	v.checks[d] = c
	go func() {
		defer func() {
			if p := recover(); p != nil { // nobody above would catch it
				v.o.Log.Error("panic while an access token was checked", "panic", p, "stack", string(debug.Stack()))
				c.claims, c.err = nil, unavailable()
			}
			v.mu.Lock()
			delete(v.checks, d)
			v.mu.Unlock()
			close(c.done)
		}()
		ctx, cancel := context.WithTimeout(context.Background(), longestCheck)
		defer cancel()
		c.claims, c.err = v.check(ctx, d, token, from)
	}()
	return c
}

// check proves a token and remembers the outcome.
func (v *Verifier) check(ctx context.Context, d digest, token string, from netip.Addr) (*Claims, *Error) {
	a := answer{asked: v.o.Now()}
	var definite bool
	a.claims, a.err, definite = v.prove(ctx, d, token, from)
	switch {
	case a.claims != nil && v.o.Wanted(a.claims):
		v.good.put(d, a)
		v.bad.drop(d)
	case a.claims != nil:
		v.good.drop(d)
		v.bad.put(d, a)
	case a.err.Reason == Inactive || a.err.Reason == WrongAudience:
		v.good.drop(d)
		if definite {
			v.bad.put(d, a)
		}
	}
	return a.claims, a.err
}

// prove checks a token's signature, asks the provider, or does both. definite
// is whether a refusal is the provider's own word.
func (v *Verifier) prove(ctx context.Context, d digest, token string, from netip.Addr) (claims *Claims, refusal *Error, definite bool) {
	introspects := v.o.IntrospectionURL != ""
	var signed *Claims
	if v.signatures != nil && (!introspects || isJWT(token)) {
		began := v.o.Now()
		signed, refusal = v.checkSignature(ctx, token, introspects)
		v.o.Checked(Check{"signature", resultOf(refusal), v.o.Now().Sub(began)})
		// Forged tokens end here and do not reach the provider. One whose
		// signature cannot be checked may still be known to it.
		if !introspects || refusal != nil && refusal.Reason != Unavailable {
			return signed, refusal, false
		}
	}
	began := v.o.Now()
	claims, refusal = v.ask(ctx, d, token, from, signed)
	v.o.Checked(Check{"introspection", resultOf(refusal), v.o.Now().Sub(began)})
	return claims, refusal, true
}

// decides is the method that has the last word.
func (v *Verifier) decides() string {
	if v.o.IntrospectionURL != "" {
		return "introspection"
	}
	return "signature"
}

// checkSignature proves a token by its signature. The provider's keys may have
// to be fetched for it, which is not waited for to the end if there is another
// proof.
func (v *Verifier) checkSignature(ctx context.Context, token string, hurry bool) (*Claims, *Error) {
	if hurry {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, keysWait)
		defer cancel()
	}
	claims, err := v.signatures.verify(ctx, token)
	if refusal := (*Error)(nil); errors.As(err, &refusal) {
		return nil, refusal
	}
	return claims, nil
}

func resultOf(refusal *Error) string {
	if refusal == nil {
		return "active"
	}
	switch refusal.Reason {
	case Inactive:
		return "inactive"
	case Unavailable:
		return "unavailable"
	case Busy:
		return "limited"
	default:
		return "refused"
	}
}

// wellFormed says whether token is a b64token of RFC 6750.
func wellFormed(token string) bool {
	end := len(token)
	for end > 0 && token[end-1] == '=' {
		end--
	}
	for i := range end {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == '+', c == '/':
		default:
			return false
		}
	}
	return end > 0
}
