// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"strings"

	"connectrpc.com/connect"
)

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
		s.tokens = append(s.tokens, token)
	}
	h.Set("Authorization", "Bearer "+token)
	return nil
}

// renew reports whether a call that ended with err goes on with another token,
// and makes ready for that. It does when the gateway did not take the token,
// as when that has expired on the way or was revoked: once, and after that only
// if there was an answer in between, so that a stream outlives its tokens and a
// gateway that takes none is not asked for ever.
func (s *call) renew(ctx context.Context, err error) bool {
	rpc := answerIn(err)
	if rpc == nil || rpc.Code() != connect.CodeUnauthenticated || len(s.tokens) == 0 || s.renewed == s.answers {
		return false
	}
	source := s.client.identity.tokens
	refused := s.tokens[len(s.tokens)-1]
	source.forget(refused)
	if token, err := source.get(ctx); err == nil && token == refused {
		return false // the gateway's answer says more than that there is no other
	}
	s.unheard()
	s.renewed, s.start = s.answers, s.next
	return true
}

// redact takes secrets out of text that came from outside.
func (s *call) redact(text string) string {
	text = s.client.identity.redact(text)
	for _, token := range s.tokens {
		text = strings.ReplaceAll(text, token, "[token]")
	}
	return text
}
