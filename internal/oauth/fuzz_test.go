// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// FuzzJWT has keys of every kind published, and nobody who holds their private
// halves: whatever comes is refused. What a token says is checked as well, as
// if it had been signed.
func FuzzJWT(f *testing.F) {
	keys := signingKeys()
	set := &keySet{}
	for _, name := range []string{"rsa", "p256", "p384", "p521", "ed25519"} {
		text, err := json.Marshal(jwk(keys[name], name))
		if err != nil {
			f.Fatal(err)
		}
		k, ok := parseKey(text)
		if !ok {
			f.Fatalf("%s is not taken", text)
		}
		set.keys = append(set.keys, k)
	}
	i := &issuer{now: time.Unix(1_772_366_400, 0)}
	s := newSignatures(Options{Issuer: "https://example.com", Audience: "gateway", Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return i.now }}, nil)
	set.asked, s.demanded = i.now, i.now // nothing is fetched
	s.keys.Store(set)

	claims := object{
		"iss": s.o.Issuer, "aud": []string{"x", "gateway"}, "sub": "subject", "client_id": "client",
		"scope": "a b", "scp": []string{"c"}, "exp": i.now.Unix() + 1, "iat": 1, "nbf": 1.5,
	}
	for algorithm, name := range keyOf {
		for _, id := range []any{name, nil, "unknown"} {
			f.Add(sign(f, algorithm, keys[name+"-other"], object{"alg": algorithm, "typ": "at+jwt"}.with(object{"kid": id}), claims))
		}
	}
	f.Add(sign(f, "none", nil, object{"alg": "none"}, claims))
	f.Add(sign(f, "HS256", []byte("secret"), object{"alg": "HS256", "crit": []string{"b64"}, "jwk": jwk(keys["rsa-other"], "rsa")}, claims))
	f.Add(encode(`{"alg":"RS256","alg":"none"}`) + "." + encode(`{"exp":1e999,"aud":[null],"iss":{}}`) + ".AAAA")
	f.Add(encode(strings.Repeat("[", 9000)) + ".." + "AAAA")
	f.Add("")

	f.Fuzz(func(t *testing.T, token string) {
		got, err := s.verify(t.Context(), token)
		if reasonOf(t, got, err) == "" {
			t.Fatalf("allowed: %+v", got)
		}
		isJWT(token)
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			return
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			return
		}
		c, err := s.claims(payload)
		if err == nil && (c.Issuer != s.o.Issuer || !c.Expires.Add(skew).After(i.now)) {
			t.Errorf("allowed, if it were signed: %+v", c)
		}
	})
}

// FuzzKey reads keys of a provider.
func FuzzKey(f *testing.F) {
	for _, key := range signingKeys() {
		text, err := json.Marshal(jwk(key, "a").with(object{"use": "sig", "key_ops": []string{"verify"}}))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"kty":"oct","k":"AAAA","alg":"HS256"}`))
	f.Add([]byte(`{"kty":"AKP","alg":"ML-DSA-44","pub":"AAAA"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, ok := parseKey(text)
		if !ok {
			return
		}
		switch public := k.public.(type) {
		case *rsa.PublicKey:
			if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
				t.Errorf("an RSA key of %d bits is taken", bits)
			}
		case *ecdsa.PublicKey:
			if _, err := public.Bytes(); err != nil {
				t.Errorf("a key that is none is taken: %v", err)
			}
		case ed25519.PublicKey:
			if len(public) != ed25519.PublicKeySize {
				t.Errorf("an Ed25519 key of %d bytes is taken", len(public))
			}
		default:
			t.Errorf("a key of type %T is taken", public)
		}
		for _, algorithm := range []string{"none", "HS256", "HS384", "HS512", ""} {
			if k.fits(algorithm) {
				t.Errorf("it fits %q", algorithm)
			}
		}
	})
}
