// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/telemetrygateway/telemetry/client"
)

const (
	clientID     = "pings of/Köln"
	clientSecret = "s3cret+/=: of the service"
)

// provider is the token endpoint of an OAuth 2.0 provider.
type provider struct {
	life   int  // seconds; 0 is not said
	inBody bool // it wants ID and secret there
	// before, if set, is called for each request, counted from 1, and says
	// whether it has answered.
	before func(n int, w http.ResponseWriter, r *http.Request) bool

	mu    sync.Mutex
	n     int
	forms []url.Values
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	p.mu.Lock()
	p.n++
	n := p.n
	p.forms = append(p.forms, r.PostForm)
	p.mu.Unlock()
	if p.before != nil && p.before(n, w, r) {
		return
	}
	id, secret, _ := r.BasicAuth()
	id, _ = url.QueryUnescape(id) // as RFC 6749 §2.3.1 has it
	secret, _ = url.QueryUnescape(secret)
	if p.inBody {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	w.Header().Set("Content-Type", "application/json")
	if id != clientID || secret != clientSecret || r.PostForm.Get("grant_type") != "client_credentials" {
		w.WriteHeader(http.StatusUnauthorized)
		// As bad providers do, it says more than it should.
		fmt.Fprintf(w, `{"error": "invalid_client", "error_description": %q}`, "not "+secret+" "+r.Header.Get("Authorization"))
		return
	}
	answer := map[string]any{"access_token": fmt.Sprintf("token-%d", n), "token_type": "bearer"}
	if p.life != 0 {
		answer["expires_in"] = p.life
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (p *provider) requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// serve serves p over HTTP/1.1 until the test ends.
func (p *provider) serve(t testing.TB) string {
	t.Helper()
	ts := httptest.NewUnstartedServer(p)
	ts.Config.ErrorLog = log.New(io.Discard, "", 0)
	ts.Start()
	t.Cleanup(ts.Close)
	return ts.URL + "/token"
}

func credentials(tokenURL string) client.ClientCredentials {
	return client.ClientCredentials{TokenURL: tokenURL, ClientID: clientID, ClientSecret: clientSecret}
}

func newSource(t testing.TB, c client.ClientCredentials) client.TokenSource {
	t.Helper()
	s, err := c.TokenSource()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantNoSecret checks that a text has no form of the secret in it.
func wantNoSecret(t testing.TB, text string) {
	t.Helper()
	escaped := url.QueryEscape(clientSecret)
	for _, secret := range []string{
		clientSecret, escaped, url.PathEscape(clientSecret), "s3cret",
		base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(clientID) + ":" + escaped)), "token-1", "token-2",
	} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("a secret is in … %q …", text[max(0, i-100):min(len(text), i+100)])
		}
	}
}

func TestTokenRequest(t *testing.T) {
	for _, inBody := range []bool{false, true} {
		p := &provider{inBody: inBody}
		c := credentials(p.serve(t))
		c.Audience = "gateway"
		c.Params = url.Values{"resource": {"https://telemetry.example.com"}}
		s := newSource(t, c)
		want := "token-1"
		if inBody {
			want = "token-2" // it was found out
		}
		for range 3 {
			if token, err := s.Token(t.Context()); token != want || err != nil {
				t.Fatalf("token %q, %v; want %q", token, err, want)
			}
		}
		form := p.forms[len(p.forms)-1]
		if form.Get("scope") != client.DefaultScope || form.Get("audience") != "gateway" || form.Get("resource") != "https://telemetry.example.com" {
			t.Errorf("asked for with %v", form)
		}
		if !inBody && form.Has("client_secret") {
			t.Error("the secret is in the body too")
		}
		// Once it is known where the secret goes, one request is enough.
		before := p.requests()
		s.(interface{ Forget(string) }).Forget(want)
		if _, err := s.Token(t.Context()); err != nil || p.requests() != before+1 {
			t.Errorf("%v, after %d more requests", err, p.requests()-before)
		}
	}
}

// Whatever the provider does, there is an error within bounds, and what the
// provider says, which knows the secret, is not in it.
func TestTokenErrors(t *testing.T) {
	elsewhere := &provider{}
	elsewhereURL := elsewhere.serve(t)
	answer := func(status int, contentType, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_ = r.ParseForm()
			body := strings.ReplaceAll(body, "SECRET", clientSecret+r.Header.Get("Authorization")+r.PostForm.Get("client_secret"))
			_, _ = io.WriteString(w, body)
		}
	}
	endless := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for zeros, n := make([]byte, 1<<16), 0; n < 1<<30; n += len(zeros) {
			if _, err := w.Write(zeros); err != nil {
				return
			}
		}
	}
	redirect := func(status int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhereURL, status) }
	}
	raw := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = io.WriteString(conn, strings.ReplaceAll(text, "SECRET", r.Header.Get("Authorization")+clientSecret))
			conn.Close()
		}
	}
	for _, tt := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request)
		text   string
		kind   client.Kind // of the error of a call that needs a token
	}{
		{"wrong secret", answer(401, "application/json", `{"error": "invalid_client", "error_description": "SECRET"}`), "refused (invalid_client): check the client ID and its secret", client.Refused},
		{"no such scope", answer(400, "application/json", `{"error": "invalid_scope"}`), "must be allowed the scope", client.Refused},
		{"not allowed", answer(403, "application/json", `{"error": "unauthorized_client"}`), "client_credentials", client.Refused},
		{"error with status 200", answer(200, "application/json", `{"error": "invalid_target"}`), "audience", client.Refused},
		{"wrong secret, and not a word", answer(403, "", ""), "refused (HTTP status 403)", client.Refused},
		{"an error of its own", answer(400, "application/json", `{"error": "SECRET", "error_uri": "SECRET"}`), "HTTP status 400", client.NoToken},
		{"a page", answer(404, "text/html", `<h1>SECRET</h1>`), "HTTP status 404", client.NoToken},
		{"down behind a proxy", answer(503, "text/plain", `SECRET`), "HTTP status 503", client.NoToken},
		{"garbage", answer(200, "application/json", `SECRET`), "no token", client.NoToken},
		{"garbage as a form", answer(200, "text/plain", `%%SECRET`), "no token", client.NoToken},
		{"wrong type", answer(200, "application/json", `[1, "SECRET"]`), "no token", client.NoToken},
		{"nothing", answer(200, "application/json", ``), "no token", client.NoToken},
		{"no token", answer(200, "application/json", `{"token_type": "bearer"}`), "no token", client.NoToken},
		{"a token of another type", answer(200, "application/json", `{"access_token": "x", "token_type": "SECRET"}`), "not of the type Bearer", client.NoToken},
		{"a token with a line break", answer(200, "application/json", `{"access_token": "x\r\nHost: evil", "token_type": "bearer"}`), "characters", client.NoToken},
		{"a long token", answer(200, "application/json", `{"access_token": "`+strings.Repeat("x", 20_000)+`", "token_type": "bearer"}`), "20000 bytes", client.NoToken},
		{"a large answer", endless, "no token", client.NoToken},
		{"redirect, method kept", redirect(http.StatusTemporaryRedirect), "redirects elsewhere (HTTP status 307)", client.NoToken},
		{"redirect", redirect(http.StatusFound), "redirects elsewhere (HTTP status 302)", client.NoToken},
		{"cut off", raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nSECRET"), "no token", client.NoToken},
		{"not HTTP", raw("SECRET\r\n\r\n"), "does not speak HTTP", client.NoToken},
		{"a header that is none", raw("HTTP/1.1 200 OK\r\nSECRET SECRET\r\n\r\n"), "does not speak HTTP", client.NoToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ts := httptest.NewUnstartedServer(http.HandlerFunc(tt.answer))
			ts.Config.ErrorLog = log.New(io.Discard, "", 0)
			ts.Start()
			defer ts.Close()
			_, err := newSource(t, credentials(ts.URL)).Token(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want one with %q", err, tt.text)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				wantNoSecret(t, fmt.Sprintf("%v %+v %#v", e, e, e))
			}
			c := newClient(t, "http://"+closedPort(t), client.Service("pings", "", newSource(t, credentials(ts.URL))), client.Options{})
			_, err = c.Send(t.Context(), numbered(1, 0)...)
			if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != tt.kind {
				t.Errorf("a call's error is %v, want one of the kind %s", err, tt.kind)
			}
		})
	}
	if elsewhere.requests() != 0 {
		t.Error("a redirect was followed, and took the secret along")
	}

	untrusted := httptest.NewUnstartedServer(new(provider))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	cleartext := strings.Replace(elsewhereURL, "http:", "https:", 1)
	for name, tt := range map[string]struct{ url, text string }{
		"down":           {"http://" + closedPort(t), "cannot reach it"},
		"no such host":   {"https://provider.invalid", "cannot find it"},
		"not trusted":    {untrusted.URL, "certificate cannot be verified"},
		"without TLS":    {cleartext, "does not speak TLS"},
		"speaks earlier": {"http://" + greeter(t), "does not speak HTTP"},
	} {
		_, err := newSource(t, credentials(tt.url)).Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.text)
		}
	}
}

func TestTokenOverTLS(t *testing.T) {
	url, roots := peer(t, new(provider), true, both)
	c := credentials(url)
	c.TLS = roots
	if token, err := newSource(t, c).Token(t.Context()); token != "token-1" || err != nil {
		t.Errorf("%q, %v", token, err)
	}
}

func TestTokenSourceRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*client.ClientCredentials)
		text   string
	}{
		{"no URL", func(c *client.ClientCredentials) { c.TokenURL = "" }, "token URL"},
		{"no scheme", func(c *client.ClientCredentials) { c.TokenURL = "accounts.example.com/token" }, "token URL"},
		{"unparsable", func(c *client.ClientCredentials) { c.TokenURL = "https://me:s3cret@accounts.example.com:%" }, "cannot be parsed"},
		{"password", func(c *client.ClientCredentials) { c.TokenURL = "https://me:s3cret@accounts.example.com" }, "must not hold"},
		{"no ID", func(c *client.ClientCredentials) { c.ClientID = "" }, "client ID is empty"},
		{"no secret", func(c *client.ClientCredentials) { c.ClientSecret = "" }, "client secret is empty"},
		{"a file's last line", func(c *client.ClientCredentials) { c.ClientSecret += "\n" }, "white space"},
		{"cleartext", func(c *client.ClientCredentials) { c.TokenURL = "http://accounts.example.com/token" }, "use https"},
		{"cleartext to a proxy", func(c *client.ClientCredentials) {
			c.TokenURL = "http://127.0.0.1/token"
			c.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.example.com"})
		}, "use https"},
		{"proxy", func(c *client.ClientCredentials) {
			c.Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("s3cret") }
		}, "proxy"},
	} {
		c := credentials("https://accounts.example.com/token")
		tt.change(&c)
		_, err := c.TokenSource()
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.text)
		} else {
			wantNoSecret(t, err.Error())
		}
	}
	c := credentials("http://accounts.example.com/token")
	c.AllowCleartext = true
	if _, err := c.TokenSource(); err != nil {
		t.Error(err)
	}
}

// Whatever holds the credentials, or a token, can be formatted and logged.
func TestCredentialsHideTheSecret(t *testing.T) {
	c := credentials(new(provider).serve(t))
	c.TLS = new(tls.Config)
	s := newSource(t, c)
	if _, err := s.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := client.Service("pings", "prod", s)
	fixed := client.Service("pings", "prod", fixedToken("token-1"))
	cl := newClient(t, "http://127.0.0.1", fixed, client.Options{})
	var text strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		for _, value := range []any{c, &c, []any{c}, s, id, &id, fixed, []client.Identity{fixed}, cl} {
			fmt.Fprintf(&text, verb, value)
		}
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&text, nil), slog.NewJSONHandler(&text, nil)} {
		slog.New(h).Info("x", "credentials", c, "pointer", &c, "source", s, "identity", id, "fixed", fixed)
	}
	_ = json.NewEncoder(&text).Encode(client.ClientCredentials{ClientSecret: clientSecret, Params: url.Values{"client_assertion": {clientSecret}}})
	wantNoSecret(t, text.String())
	if !strings.Contains(text.String(), `service "pings"`) || !strings.Contains(text.String(), `client "pings of/Köln" at 127.0.0.1:`) {
		t.Error("nor does it say who it is")
	}
}
