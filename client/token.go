// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// TokenSource gives out the access tokens with which a service proves who it
// is. ClientCredentials makes one for any OAuth 2.0 provider; write one for
// tokens that come from elsewhere, such as a file that a platform renews.
//
// If it also has a method Forget(token string), that is called when the gateway
// does not take a token. The next Token should then be another one.
type TokenSource interface {
	// Token returns a token that is good now. It is called before every call to
	// the gateway, so it must be quick as long as nothing has expired, and it
	// must not hang. It may be called by several goroutines at once.
	Token(ctx context.Context) (string, error)
}

const (
	// tokenTimeout is how long a provider may take to answer.
	tokenTimeout = 10 * time.Second
	// tokenPause is the least time between two requests for a token that follow a
	// failure, or that a refusal of the gateway brings about. Of the latter, it
	// doubles with each that soon follows another, up to maxTokenPause: a gateway
	// may take no token at all, or not for a while after it was made.
	tokenPause    = time.Second
	maxTokenPause = time.Minute
	// renewBefore is how long before its end a token is renewed, at most; of a
	// short life it is the last fifth.
	renewBefore = time.Minute
)

// credentialTokens gets tokens with client credentials, and keeps the last one
// for as long as it is good.
type credentialTokens struct {
	provider string // its host
	config   clientcredentials.Config
	http     *http.Client
	inBody   bool // the provider wants ID and secret there; of the one request under way

	mu    sync.Mutex
	token string
	// renew is when to ask for the next token, and expires when this one is no
	// good any more; zero if the provider did not say.
	renew, expires time.Time
	request        *tokenRequest // under way, or nil
	failure        error         // of the last request, which ended at failed
	failed         time.Time
	forgot         time.Time     // when Forget last did
	keep           time.Duration // how long after that it does nothing
}

// tokenRequest is one request for a token, shared by everyone who waits.
type tokenRequest struct {
	done  chan struct{} // closed when there is what follows
	token string
	err   error
}

// String names the provider, and no secret.
func (s *credentialTokens) String() string { return "tokens of " + s.provider }

// Format is String, for every verb.
func (s *credentialTokens) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// Token returns the present token, or waits for a new one.
func (s *credentialTokens) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	now := time.Now()
	good := s.token != "" && (s.expires.IsZero() || now.Before(s.expires))
	if due := !good || !s.renew.IsZero() && !now.Before(s.renew); due && s.request == nil {
		if s.failure == nil || now.Sub(s.failed) >= tokenPause {
			s.request = &tokenRequest{done: make(chan struct{})}
			go s.ask(s.request)
		} else if !good {
			defer s.mu.Unlock()
			return "", s.failure
		}
	}
	token, request := s.token, s.request
	s.mu.Unlock()
	if good {
		return token, nil
	}
	select {
	case <-request.done:
		return request.token, request.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Forget says that a token is not taken. A gateway that takes none at all must
// not make its senders a burden for the provider, so this has an effect once in
// a while only.
func (s *credentialTokens) Forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := time.Since(s.forgot)
	switch {
	case token != s.token || since < s.keep:
		return
	case since > 2*maxTokenPause:
		s.keep = tokenPause
	default:
		s.keep = min(2*s.keep, maxTokenPause)
	}
	s.token, s.forgot = "", time.Now()
}

// ask makes one request. It does not end with whoever was the first to want a
// token, because others wait as well.
func (s *credentialTokens) ask(r *tokenRequest) {
	ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
	defer cancel()
	t, err := s.retrieve(context.WithValue(ctx, oauth2.HTTPClient, s.http))
	switch {
	case err != nil:
		err = explainToken(ctx, err)
	case t.Type() != "Bearer":
		err = errors.New("it gave a token that is not of the type Bearer")
	default:
		err = checkToken(t.AccessToken)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.request, s.failure = nil, nil
	if err != nil {
		s.failure = fmt.Errorf("get a token from %s: %w", s.provider, err)
		s.failed = time.Now()
	} else {
		s.token, s.renew, s.expires = t.AccessToken, time.Time{}, time.Time{}
		// One that has ended when it is given out is not meant: some providers
		// write -1 for no end.
		if life := time.Until(t.Expiry); life > 0 {
			s.renew, s.expires = t.Expiry.Add(-min(renewBefore, life/5)), t.Expiry
		}
		r.token = s.token
	}
	r.err = s.failure
	close(r.done)
}

// retrieve asks for a token, with ID and secret where the provider wants them.
// RFC 6749 says in the header; there are providers, and clients configured at
// others, for which they must be in the body.
func (s *credentialTokens) retrieve(ctx context.Context) (*oauth2.Token, error) {
	inHeader, inBody := s.config, s.config
	inHeader.AuthStyle, inBody.AuthStyle = oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams
	if s.inBody {
		return inBody.Token(ctx)
	}
	t, err := inHeader.Token(ctx)
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) || answer.Response.StatusCode != http.StatusUnauthorized && answer.Response.StatusCode != http.StatusBadRequest {
		return t, err
	}
	if t, bodyErr := inBody.Token(ctx); bodyErr == nil {
		s.inBody = true
		return t, nil
	}
	return nil, err
}

// tokenRefusals has what to do about the errors of RFC 6749 §5.2 and RFC 8707.
var tokenRefusals = map[string]string{
	"invalid_client":         "check the client ID and its secret",
	"unauthorized_client":    "the client must be allowed the grant client_credentials there",
	"unsupported_grant_type": "the provider must have the grant client_credentials switched on",
	"invalid_scope":          "the client must be allowed the scope there",
	"invalid_target":         "the client must be allowed the audience there",
	"invalid_grant":          "check the client at the provider",
	"invalid_request":        "check the token URL and the parameters",
}

// tokenRefusal is that the provider refused the client, and will again.
type tokenRefusal struct{ text string }

func (e *tokenRefusal) Error() string { return e.text }

// explainToken says why there is no token, without a word of the provider's,
// which has just been told the secret.
func explainToken(ctx context.Context, err error) error {
	var answer *oauth2.RetrieveError
	if errors.As(err, &answer) {
		if what, known := tokenRefusals[answer.ErrorCode]; known {
			return &tokenRefusal{fmt.Sprintf("it refused (%s): %s", answer.ErrorCode, what)}
		}
		// Some providers say no more than that.
		if status := answer.Response.StatusCode; status == http.StatusUnauthorized || status == http.StatusForbidden {
			return &tokenRefusal{fmt.Sprintf("it refused (HTTP status %d): check the client ID, its secret, and what the client is allowed there", status)}
		}
	}
	return errors.New(noToken(ctx, err))
}

// noToken says what kept the provider from answering.
func noToken(ctx context.Context, err error) string {
	var (
		answer *oauth2.RetrieveError
		verify *tls.CertificateVerificationError
		notTLS tls.RecordHeaderError
		dns    *net.DNSError
		op     *net.OpError
	)
	switch {
	case errors.As(err, &answer):
		status := answer.Response.StatusCode
		if status >= 300 && status < 400 {
			return fmt.Sprintf("it redirects elsewhere (HTTP status %d), which is not followed: check the token URL", status)
		}
		return fmt.Sprintf("it answered with HTTP status %d and no token: check the token URL", status)
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("it has not answered within %s", tokenTimeout)
	case errors.As(err, &verify):
		return "its certificate cannot be verified: " + verify.Err.Error()
	case errors.As(err, &notTLS), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it does not speak TLS on this port: check the token URL"
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "cannot reach the proxy that is set for it: check HTTPS_PROXY and HTTP_PROXY"
	case errors.As(err, &dns):
		return "cannot find it: " + dns.Error()
	case errors.As(err, &op) && op.Op == "dial":
		return "cannot reach it: " + op.Error()
	case strings.HasPrefix(err.Error(), "oauth2: "):
		return "what it answered is no token: check the token URL"
	default:
		return "the connection broke, or it does not speak HTTP: check the token URL"
	}
}

// maxTokenBytes is the longest token that gateways take.
const maxTokenBytes = 16 << 10

// checkToken checks the form that RFC 6750 gives tokens.
func checkToken(token string) error {
	const also = "-._~+/"
	body := strings.TrimRight(token, "=")
	switch {
	case token == "":
		return errors.New("the token is empty")
	case len(token) > maxTokenBytes:
		return fmt.Errorf("the token has %d bytes, and gateways take %d", len(token), maxTokenBytes)
	case body == "" || strings.ContainsFunc(body, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune(also, r)
	}):
		return errors.New("the token has characters that no bearer token has")
	}
	return nil
}
