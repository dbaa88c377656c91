// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package oauth proves access tokens: by asking the provider that issued them
// (RFC 7662), by their signatures (RFC 9068), or by both.
//
// What holds, whatever the provider and the senders do: nobody is let in
// because the provider cannot be asked; no check takes longer than a few
// seconds; strangers cannot make the gateway a burden to the provider, nor keep
// it from asking about tokens that were good; and neither a token nor what the
// provider wrote is in an error or a log, save the issuer that it calls itself.
package oauth

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Bound is how long a token may still be taken after the provider has begun to
// call it inactive. A token that has only its signature for proof is taken
// until it expires, and for a minute more, by which clocks may be apart.
const Bound = 60 * time.Second

// Options of New.
type Options struct {
	// Issuer is the provider's name, under which its keys are found. Empty means
	// that signatures are not checked. IntrospectionURL is where the provider
	// says whether a token is active; it decides if it is set. At least one of
	// the two must be.
	Issuer, IntrospectionURL string
	// ClientID and ClientSecret are those of the gateway itself, for
	// IntrospectionURL.
	ClientID, ClientSecret string
	// Audience is whom tokens must be for; empty means anyone.
	Audience string
	// Wanted, if set, says whether a token that counts is of use here. One that is
	// not is remembered for as short as a bad one, and kept apart from the good
	// ones as well: it is as easily had.
	Wanted func(*Claims) bool
	// RootCAs vouch for the provider; nil means those of the system.
	RootCAs *x509.CertPool
	// Log is told when the provider cannot be asked, and when it can be again.
	Log *slog.Logger
	// Checked, if set, is called after every step of checking a token.
	Checked func(Check)
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	dial func(ctx context.Context, network, address string) (net.Conn, error) // nil means that of package net
}

// Check is one step of checking a token.
type Check struct {
	// Method is "cache", "signature" or "introspection".
	Method string
	// Result is "active", "inactive", "refused" (active, but not for us),
	// "unavailable" or "limited".
	Result string
	// Took is how long the provider was waited for; zero for the cache.
	Took time.Duration
}

// Claims is what is known of a token that counts. It is shared: do not change
// it.
type Claims struct {
	ClientID, Subject, Issuer string
	Scopes, Audience          []string
	// Expires is zero if nobody said when the token expires.
	Expires time.Time
}

// Reason is why a token does not count.
type Reason string

const (
	// Malformed: it has not the form of a token.
	Malformed Reason = "malformed"
	// Inactive: it has expired, was revoked, is not valid yet, or was never one
	// of this provider's.
	Inactive Reason = "inactive"
	// WrongAudience: it is for somebody else.
	WrongAudience Reason = "wrong_audience"
	// Unavailable: nobody can say now. The same token may count later.
	Unavailable Reason = "unavailable"
	// Busy: too many tokens were to be checked at once. The same token may count
	// after Error.RetryAfter.
	Busy Reason = "busy"
)

// Error is why a token was not accepted. Its text is for whoever sent the
// token, and holds nothing of the token or of what the provider said.
type Error struct {
	Reason  Reason
	Message string
	// RetryAfter is how long to wait until the same token may be accepted. It is
	// zero when waiting does not help.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return e.Message }

func malformed() *Error {
	return &Error{Reason: Malformed, Message: fmt.Sprintf("what is in place of the access token is not one: a token has 1 to %d characters out of A-Z a-z 0-9 - . _ ~ + / and = at its end", limits.TokenBytes)}
}

func inactive() *Error {
	return &Error{Reason: Inactive, Message: "the access token is not active: it has expired, was revoked, or is not one of this gateway's provider; get a new one"}
}

func keyBound() *Error {
	return &Error{Reason: Inactive, Message: "the access token is bound to a key, which this gateway cannot check; get one that is not"}
}

func wrongAudience() *Error {
	return &Error{Reason: WrongAudience, Message: "the access token is for another audience; ask the provider for one that is for this gateway"}
}

func unavailable() *Error {
	return &Error{Reason: Unavailable, Message: "access tokens cannot be checked at the moment; send again later", RetryAfter: time.Second}
}

func busy() *Error {
	return &Error{Reason: Busy, Message: "too many access tokens are to be checked at the moment; send again later", RetryAfter: time.Second}
}

// New checks o. It does not connect.
func New(o Options) (*Verifier, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Checked == nil {
		o.Checked = func(Check) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wanted == nil {
		o.Wanted = func(*Claims) bool { return true }
	}
	switch {
	case o.Issuer == "" && o.IntrospectionURL == "":
		return nil, errors.New("no provider of access tokens: set -oauth-issuer, -oauth-introspection-url or both")
	case o.IntrospectionURL != "" && (o.ClientID == "" || o.ClientSecret == ""):
		return nil, errors.New("the provider tells only clients about tokens: with -oauth-introspection-url set -oauth-client-id and -oauth-client-secret-file too")
	case o.IntrospectionURL == "" && (o.ClientID != "" || o.ClientSecret != ""):
		return nil, errors.New("client credentials without a use: set -oauth-introspection-url too, or drop -oauth-client-id and -oauth-client-secret-file")
	}
	for _, u := range []struct{ flag, url string }{{"-oauth-issuer", o.Issuer}, {"-oauth-introspection-url", o.IntrospectionURL}} {
		if u.url == "" {
			continue
		}
		secure, err := checkURL(u.url)
		if err != nil {
			return nil, fmt.Errorf("%s %w", u.flag, err)
		}
		if !secure {
			o.Log.Warn("the provider of access tokens is asked without encryption: whoever is between can let anyone in; use https", "flag", u.flag)
		}
	}
	v := &Verifier{
		o: o, fetch: newFetcher(o),
		health: &health{log: o.Log, now: o.Now},
		good:   newCache(limits.TokensRemembered), bad: newCache(limits.TokensRemembered),
		strangers: newLimiter(o.Now),
		newcomers: newLane(o.Now, 0, silence), renewals: newLane(o.Now, limits.TokenWait, trouble),
		checks: make(map[digest]*check),
	}
	if o.Issuer != "" {
		v.signatures = newSignatures(o, v.fetch)
	}
	return v, nil
}

// checkURL says whether a URL of the provider keeps secrets on its way. Its
// errors do not repeat the URL, which may hold one.
func checkURL(text string) (secure bool, err error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return false, errors.New("is not a URL of the form https://host/path")
	case u.User != nil:
		return false, errors.New("must not hold a user or a password; see -oauth-client-id and -oauth-client-secret-file")
	case u.Fragment != "":
		return false, errors.New("must not have a fragment (#)")
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || u.Hostname() == "localhost" || err == nil && a.IsLoopback(), nil
}
