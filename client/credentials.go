// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2/clientcredentials"
)

// DefaultScope is what a token must be good for, unless the gateway's operator
// has chosen another scope.
const DefaultScope = "telemetry_gateway::events::write"

// ClientCredentials are what a service has got from an OAuth 2.0 provider, to
// get access tokens with (RFC 6749 §4.4). Their formatted form does not show
// the secret.
type ClientCredentials struct {
	// TokenURL is the provider's token endpoint. It must be an https URL, or an
	// http URL of this machine.
	TokenURL string
	// ClientID and ClientSecret are what the provider knows the service by. They
	// are sent with HTTP Basic, and where the provider does not take that in the
	// request's body.
	ClientID     string
	ClientSecret string `json:"-"`
	// Scopes are what is asked for: DefaultScope if nil.
	Scopes []string
	// Audience is asked for, unless it is empty: in the parameter audience, which
	// many providers know, and if it is a URI also in the standard's, which is
	// resource (RFC 8707). A provider ignores the one that it does not know.
	Audience string
	// Params are sent along with each request for a token.
	Params url.Values `json:"-"`
	// TLS is for https providers: extra roots, client certificates. Nil means
	// the system's roots.
	TLS *tls.Config `json:"-"`
	// Proxy returns the proxy for a request, or nil for none:
	// http.ProxyFromEnvironment if unset.
	Proxy func(*http.Request) (*url.URL, error) `json:"-"`
	// AllowCleartext lets the secret travel over http to other machines, where
	// whoever carries it can read and use it.
	AllowCleartext bool
}

// String names the client without its secret.
func (c ClientCredentials) String() string {
	host := "?"
	if u, err := url.Parse(c.TokenURL); err == nil {
		host = u.Host // what else a URL may hold is left out
	}
	return fmt.Sprintf("client %q at %s", c.ClientID, host)
}

// Format is String, for every verb.
func (c ClientCredentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// TokenSource returns a source of tokens from the provider. It does not
// connect: the first use does.
//
// It asks for a token once for all who use it at the same time, keeps it, and
// asks for the next one before it expires, while the present one is still used.
// A provider has 10 seconds to answer, and a megabyte; where it redirects to is
// not followed. The source's errors hold nothing that the provider said, other
// than the codes of RFC 6749, because it knows the secret.
func (c ClientCredentials) TokenSource() (TokenSource, error) {
	u, err := url.Parse(c.TokenURL)
	switch {
	case err != nil:
		// The error of url.Parse quotes the URL, which may hold a password.
		return nil, errors.New("token URL cannot be parsed: give one such as https://accounts.example.com/oauth/token")
	case u.User != nil:
		return nil, errors.New("token URL must not hold a user or password: give the client's ID and secret")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Fragment != "":
		return nil, errors.New("token URL: give one such as https://accounts.example.com/oauth/token")
	case c.ClientID == "":
		return nil, errors.New("the client ID is empty: give the one that the provider knows the service by")
	case c.ClientSecret == "":
		return nil, errors.New("the client secret is empty: give the one that belongs to the client ID")
	case strings.TrimSpace(c.ClientSecret) != c.ClientSecret:
		return nil, errors.New("the client secret begins or ends with white space, as of a file's last line: remove it")
	}
	if c.Proxy == nil {
		c.Proxy = http.ProxyFromEnvironment
	}
	proxy, err := c.Proxy(&http.Request{URL: u})
	if err != nil {
		// The error quotes the proxy's URL, which may hold a password.
		return nil, errors.New("the proxy for the token URL cannot be parsed: check HTTPS_PROXY and HTTP_PROXY")
	}
	if exposed(u, proxy) && !c.AllowCleartext {
		return nil, errors.New("the token URL is http, over which anyone on the way can read the client secret: use https")
	}
	params := url.Values{}
	for name, values := range c.Params {
		params[name] = values
	}
	if c.Audience != "" {
		params.Set("audience", c.Audience)
		if a, err := url.Parse(c.Audience); err == nil && a.IsAbs() && a.Fragment == "" && !params.Has("resource") {
			params.Set("resource", c.Audience)
		}
	}
	if c.Scopes == nil {
		c.Scopes = []string{DefaultScope}
	}
	return &credentialTokens{
		provider: u.Host,
		config: clientcredentials.Config{
			ClientID: c.ClientID, ClientSecret: c.ClientSecret, TokenURL: c.TokenURL, Scopes: c.Scopes, EndpointParams: params,
		},
		http: c.http(),
	}, nil
}

func (c ClientCredentials) http() *http.Client {
	t := &http.Transport{
		Proxy:       c.Proxy,
		DialContext: (&net.Dialer{Timeout: tokenTimeout}).DialContext,
		// A connection that is used every few minutes is not worth keeping, and
		// so there is nothing to close.
		DisableKeepAlives:      true,
		DisableCompression:     true,
		TLSHandshakeTimeout:    tokenTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
	if c.TLS != nil {
		t.TLSClientConfig = c.TLS.Clone()
	}
	return &http.Client{
		Transport: t,
		// Following a redirect would hand the secret to someone else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// exposed reports whether what is sent to u can be read on its way between
// machines.
func exposed(u, proxy *url.URL) bool {
	return u.Scheme == "http" && !(isLoopback(u.Hostname()) && (proxy == nil || isLoopback(proxy.Hostname())))
}

// isLoopback reports whether a host is this machine.
func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}
