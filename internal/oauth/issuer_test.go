// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// signingKeys are made once, because RSA keys take a while.
var signingKeys = sync.OnceValue(func() map[string]crypto.Signer {
	keys := map[string]crypto.Signer{}
	for name, make := range map[string]func() (crypto.Signer, error){
		"rsa":       func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"rsa-other": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"rsa-small": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 1024) },
		"p256":      func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"p256-other": func() (crypto.Signer, error) {
			return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		},
		"p384": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"p384-other": func() (crypto.Signer, error) {
			return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		},
		"p521": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"p521-other": func() (crypto.Signer, error) {
			return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		},
		"ed25519": func() (crypto.Signer, error) {
			_, k, err := ed25519.GenerateKey(rand.Reader)
			return k, err
		},
		"ed25519-other": func() (crypto.Signer, error) {
			_, k, err := ed25519.GenerateKey(rand.Reader)
			return k, err
		},
	} {
		key, err := make()
		if err != nil {
			panic(err)
		}
		keys[name] = key
	}
	return keys
})

// object is a JSON object in the making. A field that is nil is left out.
type object map[string]any

// with returns o with other fields.
func (o object) with(fields object) object {
	all := maps.Clone(o)
	for name, value := range fields {
		if value == nil {
			delete(all, name)
		} else {
			all[name] = value
		}
	}
	return all
}

func encode(v any) string {
	text, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		text = string(b)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// sign makes a token with nothing but the standard library, so that what
// checks it cannot agree with itself. header and claims are objects or JSON; a
// key that is a byte slice is a shared secret, and nil leaves the signature out.
func sign(t testing.TB, algorithm string, key any, header, claims any) string {
	t.Helper()
	input := encode(header) + "." + encode(claims)
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[algorithm[2:]]
	var digest []byte
	if hash != 0 {
		h := hash.New()
		io.WriteString(h, input)
		digest = h.Sum(nil)
	}
	var signature []byte
	var err error
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if algorithm[:2] == "PS" {
			signature, err = rsa.SignPSS(rand.Reader, key, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			signature, err = rsa.SignPKCS1v15(rand.Reader, key, hash, digest)
		}
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, key, digest); err == nil {
			size := (key.Curve.Params().BitSize + 7) / 8
			signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	case ed25519.PrivateKey:
		signature = ed25519.Sign(key, []byte(input))
	case []byte:
		mac := hmac.New(sha256.New, key)
		io.WriteString(mac, input)
		signature = mac.Sum(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// jwk is a public key as a provider publishes it.
func jwk(key crypto.Signer, id string) object {
	text := base64.RawURLEncoding.EncodeToString
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		return object{"kty": "RSA", "kid": id, "n": text(public.N.Bytes()), "e": text(big.NewInt(int64(public.E)).Bytes())}
	case *ecdsa.PublicKey:
		size := (public.Curve.Params().BitSize + 7) / 8
		point, err := public.Bytes()
		if err != nil {
			panic(err)
		}
		return object{"kty": "EC", "kid": id, "crv": public.Curve.Params().Name, "x": text(point[1 : 1+size]), "y": text(point[1+size:])}
	default:
		return object{"kty": "OKP", "kid": id, "crv": "Ed25519", "x": text(public.(ed25519.PublicKey))}
	}
}

// An issuer is a provider that publishes keys, over real HTTP, and the clock
// of whoever checks its tokens.
type issuer struct {
	*httptest.Server
	now time.Time

	mu      sync.Mutex
	keys    []object
	asked   map[string]int // requests by path
	instead http.HandlerFunc
}

func newIssuer(t testing.TB, keys ...object) *issuer {
	i := &issuer{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), keys: keys, asked: map[string]int{}}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.asked[r.URL.Path]++
	keys, instead := i.keys, i.instead
	i.mu.Unlock()
	switch {
	case instead != nil:
		instead(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		json.NewEncoder(w).Encode(object{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	case r.URL.Path == "/keys":
		json.NewEncoder(w).Encode(object{"keys": keys})
	default:
		http.NotFound(w, r)
	}
}

// publish replaces the issuer's keys.
func (i *issuer) publish(keys ...object) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

// answer has the issuer answer otherwise; nil ends that.
func (i *issuer) answer(instead http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.instead = instead
}

// fetches is how often the keys were asked for.
func (i *issuer) fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked["/keys"]
}

// signatures checks tokens of the issuer at its clock.
func (i *issuer) signatures(audience string) *signatures {
	o := Options{
		Issuer: i.URL, Audience: audience,
		Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return i.now },
	}
	return newSignatures(o, newFetcher(o))
}

// claims are those of a token that is good.
func (i *issuer) claims() object {
	return object{
		"iss": i.URL, "sub": "subject", "client_id": "client", "aud": "gateway",
		"scope": "other telemetry_gateway::events::write",
		"iat":   i.now.Unix(), "exp": i.now.Add(10 * time.Minute).Unix(),
	}
}

// network is one in memory, because a bubble of synctest sees when everyone
// waits for it. It carries one provider.
type network struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (n network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case n.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n network) Close() error {
	close(n.closed)
	return nil
}

func (n network) Addr() net.Addr { return &net.UnixAddr{} }

// inBubble runs a test with a fake clock, and with the issuer on a network in
// memory.
func inBubble(t *testing.T, test func(t *testing.T, i *issuer, s *signatures)) {
	signingKeys()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{Server: &httptest.Server{URL: "http://localhost"}, now: time.Now(), asked: map[string]int{}}
		n := network{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{Handler: i}
		go server.Serve(n)
		o := Options{Issuer: i.URL, Log: slog.New(slog.DiscardHandler), Now: time.Now, dial: n.dial}
		s := newSignatures(o, newFetcher(o))
		test(t, i, s)
		s.f.client.CloseIdleConnections()
		server.Close()
	})
}

// reasonOf is why a token was refused; empty if it was not.
func reasonOf(t testing.TB, claims *Claims, err error) Reason {
	t.Helper()
	if err == nil {
		if claims == nil {
			t.Fatal("neither claims nor an error")
		}
		return ""
	}
	e, ok := err.(*Error)
	if !ok || claims != nil {
		t.Fatalf("error is %#v with claims %v, want an *Error alone", err, claims)
	}
	return e.Reason
}
