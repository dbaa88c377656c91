// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"bytes"
	"crypto"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestDiscovery(t *testing.T) {
	key := signingKeys()["p256"]
	for name, row := range map[string]struct{ issuer, at string }{
		"OpenID":                      {"", "/.well-known/openid-configuration"},
		"OpenID with a path":          {"/realms/a", "/realms/a/.well-known/openid-configuration"},
		"OpenID with a slash":         {"/realms/a/", "/realms/a/.well-known/openid-configuration"},
		"RFC 8414":                    {"", "/.well-known/oauth-authorization-server"},
		"RFC 8414 with a path":        {"/realms/a", "/.well-known/oauth-authorization-server/realms/a"},
		"RFC 8414 with a slash":       {"/realms/a/", "/.well-known/oauth-authorization-server/realms/a"},
		"RFC 8414 with a bare slash":  {"/", "/.well-known/oauth-authorization-server"},
		"OpenID with escaped letters": {"/a%2Fb", "/a%2Fb/.well-known/openid-configuration"},
	} {
		i := newIssuer(t)
		i.answer(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.EscapedPath() {
			case row.at:
				json.NewEncoder(w).Encode(object{"issuer": i.URL + row.issuer, "jwks_uri": i.URL + "/keys"})
			case "/keys":
				json.NewEncoder(w).Encode(object{"keys": []object{jwk(key, "a")}})
			default:
				http.NotFound(w, r)
			}
		})
		s := i.signatures("")
		s.o.Issuer += row.issuer
		token := sign(t, "ES256", key, object{"alg": "ES256", "kid": "a"}, i.claims().with(object{"iss": s.o.Issuer}))
		if _, err := s.verify(t.Context(), token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := &signatures{o: Options{Issuer: "https://example.com"}}
	if err := s.checkDiscovered("https://example.com", "https://keys.example.com/"); err != nil {
		t.Errorf("keys on another host: %v", err)
	}
	if err := s.checkDiscovered("https://example.com", "http://example.com/keys"); err == nil {
		t.Error("keys that anyone on the way can replace are taken")
	}
}

// TestKeysThatCannotBeHad has a provider that was never reached: nobody is let
// in, and everyone is as soon as it is well.
func TestKeysThatCannotBeHad(t *testing.T) {
	key := signingKeys()["p256"]
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = true
		json.NewEncoder(w).Encode(object{"keys": []object{jwk(key, "a")}})
	}))
	t.Cleanup(other.Close)
	var i *issuer
	discovered := func(doc object) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			json.NewEncoder(w).Encode(object{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "keys": []object{jwk(key, "a")}}.with(doc))
		}
	}
	keys := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				io.WriteString(w, answer)
				return
			}
			discovered(nil)(w, r)
		}
	}
	for name, row := range map[string]struct {
		answer http.HandlerFunc
		log    string
	}{
		"nothing":                    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "does not answer"},
		"500":                        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "status 500"},
		"not found":                  {http.NotFound, "status 404"},
		"garbage":                    {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "garbage") }, "not the JSON object"},
		"redirect":                   {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }, "status 302"},
		"another's document":         {discovered(object{"issuer": "https://example.com"}), `calls itself \"https://example.com\"`},
		"a document without issuer":  {discovered(object{"issuer": nil}), "calls itself"},
		"a document without keys":    {discovered(object{"jwks_uri": nil}), "publishes no keys"},
		"keys at no URL":             {discovered(object{"jwks_uri": "/keys"}), "not a URL"},
		"keys in a file":             {discovered(object{"jwks_uri": "file:///etc/passwd"}), "not a URL"},
		"keys nowhere":               {discovered(object{"jwks_uri": "http://\x00"}), "not a URL"},
		"keys: garbage":              {keys("garbage"), "not the JSON object"},
		"keys: none":                 {keys(`{"keys":[]}`), "none of them"},
		"keys: no list":              {keys(`{"keys":{}}`), "not the JSON object"},
		"keys: no field":             {keys(`{}`), "has no keys"},
		"keys: nothing one can use":  {keys(`{"keys":[null,1,"a",{},[],{"kty":"RSA"}]}`), "none of them"},
		"keys: too many":             {keys(`{"keys":[` + strings.Repeat("{},", maxKeys) + `{}]}`), "at most 100"},
		"keys: more than a megabyte": {keys(`{"keys":[],"x":"` + strings.Repeat("x", 1<<20) + `"}`), "more than"},
		"keys: without end": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/keys" {
				discovered(nil)(w, r)
				return
			}
			for line := bytes.Repeat([]byte(" "), 1<<16); ; {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		}, "more than"},
		"keys: redirect": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
				return
			}
			discovered(nil)(w, r)
		}, "status 307"},
	} {
		t.Run(name, func(t *testing.T) {
			i = newIssuer(t, jwk(key, "a"))
			i.answer(row.answer)
			s := i.signatures("")
			var log bytes.Buffer
			s.o.Log = slog.New(slog.NewTextHandler(&log, nil))
			token := i.token(t, "p256", "a")
			for range 3 { // the first alone asks
				claims, err := s.verify(t.Context(), token)
				if got := reasonOf(t, claims, err); got != Unavailable || err.(*Error).RetryAfter <= 0 {
					t.Errorf("error is %#v, want that of a provider that cannot be asked", err)
				}
			}
			if s.current() != nil {
				t.Error("keys are known")
			}
			if asked {
				t.Error("a redirect was followed")
			}
			i.now = i.now.Add(retryInterval)
			expect(t, s, token, Unavailable)
			if strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), row.log) {
				t.Errorf("want one warning with %q, got %s", row.log, log.String())
			}
			i.answer(nil)
			expect(t, s, token, Unavailable) // too early
			i.now = i.now.Add(retryInterval)
			expect(t, s, token, "")
			if s.current() == nil || strings.Count(log.String(), "have been fetched") != 1 {
				t.Errorf("keys are %v; log: %s", s.current(), log.String())
			}
		})
	}
}

// TestKeysThatDoNotCount has good tokens, and a published key that is not for
// them.
func TestKeysThatDoNotCount(t *testing.T) {
	keys := signingKeys()
	for name, row := range map[string]struct {
		key       crypto.Signer
		algorithm string
		published object
		want      Reason
	}{
		"a plain key":                 {keys["rsa"], "RS256", nil, ""},
		"for signatures":              {keys["rsa"], "RS256", object{"use": "sig"}, ""},
		"for encryption":              {keys["rsa"], "RS256", object{"use": "enc"}, Inactive},
		"for verifying":               {keys["rsa"], "RS256", object{"key_ops": []string{"verify"}}, ""},
		"for other things":            {keys["rsa"], "RS256", object{"key_ops": []string{"encrypt", "wrapKey"}}, Inactive},
		"for nothing":                 {keys["rsa"], "RS256", object{"key_ops": []string{}}, Inactive},
		"of the algorithm":            {keys["rsa"], "RS256", object{"alg": "RS256"}, ""},
		"of another algorithm":        {keys["rsa"], "RS256", object{"alg": "PS256"}, Inactive},
		"of an encryption":            {keys["rsa"], "RS256", object{"alg": "RSA-OAEP"}, Inactive},
		"with certificates":           {keys["rsa"], "RS256", object{"x5c": []string{"AAAA"}, "x5t": "broken"}, ""},
		"with its private part":       {keys["rsa"], "RS256", object{"d": "AAAA"}, Inactive},
		"too small":                   {keys["rsa-small"], "RS256", nil, Inactive},
		"of another type":             {keys["p256"], "ES256", object{"kty": "RSA"}, Inactive},
		"of an unknown type":          {keys["p256"], "ES256", object{"kty": "PQ"}, Inactive},
		"of no type":                  {keys["p256"], "ES256", object{"kty": nil}, Inactive},
		"not on its curve":            {keys["p256"], "ES256", object{"x": strings.Repeat("A", 43)}, Inactive},
		"of another curve":            {keys["p256"], "ES256", object{"crv": "P-384"}, Inactive},
		"of an unknown curve":         {keys["ed25519"], "EdDSA", object{"crv": "Ed448"}, Inactive},
		"of half the length":          {keys["ed25519"], "EdDSA", object{"x": strings.Repeat("A", 21)}, Inactive},
		"with a large exponent":       {keys["rsa"], "RS256", object{"e": strings.Repeat("_", 40)}, Inactive},
		"with an exponent of one":     {keys["rsa"], "RS256", object{"e": "AQ"}, Inactive},
		"with a huge modulus":         {keys["rsa"], "RS256", object{"n": strings.Repeat("_", 100_000)}, Inactive},
		"a shared secret of the name": {keys["rsa"], "RS256", object{"kty": "oct", "k": "AAAA"}, Inactive},
	} {
		t.Run(name, func(t *testing.T) {
			// Another key, so that the set is never empty.
			i := newIssuer(t, jwk(keys["p521"], "b"), jwk(row.key, "a").with(row.published))
			claims, err := i.signatures("").verify(t.Context(), sign(t, row.algorithm, row.key, object{"alg": row.algorithm, "kid": "a"}, i.claims()))
			if got := reasonOf(t, claims, err); got != row.want {
				t.Errorf("the reason is %q, want %q", got, row.want)
			}
		})
	}
}
