// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json" // exact: a name that is there twice, or in other case, is not taken

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// fetchHeaderBytes is the most that the headers of an answer may be.
const fetchHeaderBytes = 64 << 10

// errNoAnswer is in the errors of exchanges that the provider did not answer
// at all, which says more about the provider than about what it was asked.
var errNoAnswer = errors.New("the provider does not answer")

// fetcher talks to the provider, and trusts it with nothing: it follows no
// redirects, and bounds how long an answer takes and how large it gets. Its
// errors hold nothing of what was asked or answered.
type fetcher struct {
	client *http.Client
}

func newFetcher(o Options) *fetcher {
	return &fetcher{&http.Client{
		Timeout: limits.TokenTimeout,
		Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			DialContext:       o.dial,
			TLSClientConfig:   &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true,
			// Or a connection that died in silence would be used for as long as the
			// kernel keeps it, which is a quarter of an hour.
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: limits.TokenTimeout, PingTimeout: limits.TokenTimeout},
			MaxIdleConnsPerHost:    2 * limits.TokenChecks,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: fetchHeaderBytes,
			// What is compressed has no bound that a reader of the code could see.
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// getJSON decodes a JSON object of at most max bytes.
func (f *fetcher) getJSON(ctx context.Context, url string, max int64, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return errors.New("the provider's URL cannot be understood")
	}
	return f.do(r, max, into)
}

// postForm sends a form as the client user, and decodes a JSON object of at
// most max bytes. It may send it again after a connection broke off.
func (f *fetcher) postForm(ctx context.Context, to string, form url.Values, basicUser, basicPassword string, max int64, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return errors.New("the provider's URL cannot be understood")
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// RFC 6749, section 2.3.1, encodes both before they become Basic.
	r.SetBasicAuth(url.QueryEscape(basicUser), url.QueryEscape(basicPassword))
	// Empty, so that it is not sent; it tells the transport that the request may
	// be repeated on another connection when an idle one was closed meanwhile.
	r.Header["Idempotency-Key"] = nil
	return f.do(r, max, into)
}

func (f *fetcher) do(r *http.Request, max int64, into any) error {
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "telemetry-gateway")
	resp, err := f.client.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %s", errNoAnswer, plain(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider's answer has status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s", errNoAnswer, plain(err))
	case int64(len(body)) > max:
		return fmt.Errorf("the provider's answer has more than %d bytes", max)
	case json.Unmarshal(body, into) != nil:
		return errors.New("the provider's answer is not the JSON object it should be")
	}
	return nil
}

// plain says why an exchange failed. It repeats the texts of only such errors
// as are known to hold nothing of the exchange.
func plain(err error) string {
	var timeout interface{ Timeout() bool }
	var network *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no whole answer within %v", limits.TokenTimeout)
	case errors.As(err, &certificate):
		return certificate.Error()
	case errors.As(err, &network):
		return network.Error()
	default:
		return "what it sends breaks off, or is not HTTP"
	}
}
