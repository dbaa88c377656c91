// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
)

// deniedPause is how long a token is kept in use that was denied permission,
// when another one did not help.
const deniedPause = time.Minute

// keptTokens is how many tokens of a call are known, to take them out of texts.
// A source may have another one for each message.
const keptTokens = 4

// tokenError is why a service has no token for a call.
type tokenError struct{ cause error }

func (e *tokenError) Error() string {
	return "there is no access token to send with: " + e.cause.Error()
}

func (e *tokenError) Unwrap() error { return e.cause }

// authorize gives a service's request its token.
func (s *call) authorize(ctx context.Context, h http.Header) error {
	if s.client.identity.tokens == nil {
		return nil
	}
	token, err := s.client.identity.tokens.get(ctx)
	if err == nil {
		err = checkToken(token)
	}
	if err != nil {
		return &tokenError{err}
	}
	if len(s.tokens) == 0 || s.tokens[len(s.tokens)-1] != token {
		s.tokens = append(s.tokens[max(0, len(s.tokens)-keptTokens+1):], token)
	}
	h.Set("Authorization", "Bearer "+token)
	return nil
}

// renew reports whether a call that ended with err goes on with another token,
// and makes ready for that. It does when the gateway did not take the token,
// as when that has expired on the way or was revoked, or has denied it
// permission for the first time in a while: once, and after that only
// if there was an answer in between, so that a stream outlives its tokens and a
// gateway that takes none is not asked for ever.
func (s *call) renew(ctx context.Context, err error) bool {
	rpc := answerIn(err)
	if rpc == nil || len(s.tokens) == 0 || s.renewed == s.answers {
		return false
	}
	source := s.client.identity.tokens
	refused := s.tokens[len(s.tokens)-1]
	denied := rpc.Code() == connect.CodePermissionDenied
	switch {
	case rpc.Code() == connect.CodeUnauthenticated, denied && s.client.mayForget():
		source.forget(refused)
	case !denied:
		return false
	}
	if token, err := source.get(ctx); err == nil && token == refused || err != nil && denied {
		return false // the gateway's answer says more than that there is no other
	}
	s.unheard()
	s.renewed, s.start = s.answers, s.next
	return true
}

// mayForget says whether a token that was denied permission is to be forgotten
// for that. Another may be good: old gateways answer so when a token has
// expired, and a client may have been allowed the scope only after it got its
// token. Most often it is not, and so the provider is not asked each time.
func (c *Client) mayForget() bool {
	now, last := time.Now(), c.denied.Load()
	return (last == nil || now.Sub(*last) >= deniedPause) && c.denied.CompareAndSwap(last, &now)
}

// redact takes secrets out of text that came from outside.
func (s *call) redact(text string) string {
	text = s.client.identity.redact(text)
	for _, token := range s.tokens {
		text = strings.ReplaceAll(text, token, "[token]")
	}
	return text
}
