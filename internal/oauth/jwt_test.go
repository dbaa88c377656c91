// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keyOf is the kind of key that an algorithm signs with.
var keyOf = map[string]string{
	"RS256": "rsa", "RS384": "rsa", "RS512": "rsa",
	"PS256": "rsa", "PS384": "rsa", "PS512": "rsa",
	"ES256": "p256", "ES384": "p384", "ES512": "p521",
	"EdDSA": "ed25519",
}

func TestAlgorithms(t *testing.T) {
	keys := signingKeys()
	var published []object
	for _, name := range []string{"rsa", "p256", "p384", "p521", "ed25519"} {
		published = append(published, jwk(keys[name], name))
	}
	i := newIssuer(t, published...)
	s := i.signatures("gateway")
	want := &Claims{
		ClientID: "client", Subject: "subject", Issuer: i.URL, Audience: []string{"gateway"},
		Scopes: []string{"other", "telemetry_gateway::events::write"}, Expires: i.now.Add(10 * time.Minute),
	}
	if len(keyOf) != len(algorithms) {
		t.Fatalf("%d algorithms are tested, and %d are allowed", len(keyOf), len(algorithms))
	}
	for algorithm, name := range keyOf {
		for _, id := range []any{name, nil} {
			head := object{"alg": algorithm, "typ": "at+jwt"}.with(object{"kid": id})
			good := sign(t, algorithm, keys[name], head, i.claims())
			got, err := s.verify(t.Context(), good)
			if err != nil {
				t.Errorf("%s, kid %v: a good token is refused: %v", algorithm, id, err)
				continue
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: claims (-want +got):\n%s", algorithm, diff)
			}

			parts := strings.Split(good, ".")
			flipped := []byte(parts[2])
			if flipped[10]++; flipped[10] > 'z' || flipped[10] == '[' || flipped[10] == ':' {
				flipped[10] = 'A' // another digit in any case
			}
			for what, token := range map[string]string{
				"another's signature":  sign(t, algorithm, keys[name+"-other"], head, i.claims()),
				"other claims":         parts[0] + "." + encode(i.claims().with(object{"client_id": "admin"})) + "." + parts[2],
				"another header":       encode(head.with(object{"x": 1})) + "." + parts[1] + "." + parts[2],
				"a bit flipped":        parts[0] + "." + parts[1] + "." + string(flipped),
				"no signature":         parts[0] + "." + parts[1] + ".",
				"half a signature":     parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])/2],
				"a signature of zeros": parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])),
			} {
				claims, err := s.verify(t.Context(), token)
				if got := reasonOf(t, claims, err); got != Inactive {
					t.Errorf("%s, kid %v, %s: the reason is %q, want %q", algorithm, id, what, got, Inactive)
				}
			}
			// The same key under the name of another algorithm.
			for other, otherKey := range keyOf {
				if other == algorithm {
					continue
				}
				token := encode(head.with(object{"alg": other})) + "." + parts[1] + "." + parts[2]
				if otherKey == name { // signed for real, which only the key's owner can do
					token = sign(t, algorithm, keys[name], head.with(object{"alg": other}), i.claims())
				}
				claims, err := s.verify(t.Context(), token)
				if got := reasonOf(t, claims, err); got != Inactive {
					t.Errorf("%s as %s: the reason is %q, want %q", algorithm, other, got, Inactive)
				}
			}
		}
	}
}

// TestToken changes one thing at a time about a token that is good.
func TestToken(t *testing.T) {
	key := signingKeys()["p256"]
	i := newIssuer(t, jwk(key, "a"))
	good := i.claims()
	at := func(d time.Duration) float64 { return float64(i.now.Add(d).UnixMicro()) / 1e6 }
	deep := func(start string, n int) string {
		return start + `,"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}"
	}
	start := `{"exp":4102444800,"aud":"gateway","iss":"` + i.URL + `"`
	for name, row := range map[string]struct {
		header any // fields that differ, or all of it as JSON
		claims any
		want   Reason
	}{
		"unchanged": {},

		"type: JWT":                  {header: object{"typ": "JWT"}},
		"type: other case":           {header: object{"typ": "AT+JWT"}},
		"type: in full":              {header: object{"typ": "application/at+jwt"}},
		"type: absent":               {header: object{"typ": nil}},
		"type: an ID token's":        {header: object{"typ": "id+jwt"}, want: Inactive},
		"type: a logout token's":     {header: object{"typ": "logout+jwt"}, want: Inactive},
		"type: not a text":           {header: object{"typ": 1}, want: Inactive},
		"algorithm: absent":          {header: object{"alg": nil}, want: Inactive},
		"algorithm: other case":      {header: object{"alg": "es256"}, want: Inactive},
		"algorithm: a space":         {header: object{"alg": "ES256 "}, want: Inactive},
		"algorithm: not a text":      {header: object{"alg": []string{"ES256"}}, want: Inactive},
		"algorithm: twice":           {header: `{"alg":"none","alg":"ES256","kid":"a"}`, want: Inactive},
		"algorithm: in two cases":    {header: `{"alg":"ES256","ALG":"none","kid":"a"}`}, // names are exact: this one is not known
		"key ID: absent":             {header: object{"kid": nil}},
		"key ID: unknown":            {header: object{"kid": "b"}, want: Inactive},
		"key ID: a path":             {header: object{"kid": "../../dev/null"}, want: Inactive},
		"key ID: not a text":         {header: object{"kid": 1}, want: Inactive},
		"critical: a known field":    {header: object{"crit": []string{"exp"}, "exp": 1}, want: Inactive},
		"critical: payload as it is": {header: object{"crit": []string{"b64"}, "b64": true}, want: Inactive},
		"critical: nothing":          {header: object{"crit": []string{}}, want: Inactive},
		"critical: null":             {header: `{"alg":"ES256","kid":"a","crit":null}`, want: Inactive},
		"key: its own":               {header: object{"jwk": jwk(key, "a")}, want: Inactive},
		"key: its own certificates":  {header: object{"x5c": []string{}}, want: Inactive},
		"header: not an object":      {header: `["ES256"]`, want: Inactive},
		"header: two objects":        {header: `{"alg":"ES256"}{"alg":"ES256"}`, want: Inactive},
		"header: empty":              {header: ``, want: Inactive},
		"header: nested":             {header: deep(`{"alg":"ES256"`, 9000)},
		"header: nested too deep":    {header: deep(`{"alg":"ES256"`, 100_000), want: Inactive},

		"issuer: another":             {claims: object{"iss": "https://example.com"}, want: Inactive},
		"issuer: absent":              {claims: object{"iss": nil}, want: Inactive},
		"issuer: with a slash":        {claims: object{"iss": i.URL + "/"}, want: Inactive},
		"issuer: begins alike":        {claims: object{"iss": i.URL + ".example.com"}, want: Inactive},
		"issuer: a list":              {claims: object{"iss": []string{i.URL}}, want: Inactive},
		"audience: among others":      {claims: object{"aud": []string{"x", "gateway"}}},
		"audience: another":           {claims: object{"aud": "gateway2"}, want: WrongAudience},
		"audience: others":            {claims: object{"aud": []string{"x", "y"}}, want: WrongAudience},
		"audience: none":              {claims: object{"aud": []string{}}, want: WrongAudience},
		"audience: absent":            {claims: object{"aud": nil}, want: WrongAudience},
		"audience: several in a text": {claims: object{"aud": "x gateway"}, want: WrongAudience},
		"audience: other case":        {claims: object{"aud": "Gateway"}, want: WrongAudience},
		"audience: a number":          {claims: object{"aud": 1}, want: Inactive},

		"expires: a minute ago":         {claims: object{"exp": at(-time.Minute)}, want: Inactive},
		"expires: almost a minute ago":  {claims: object{"exp": at(-time.Minute + time.Millisecond)}},
		"expires: an hour ago":          {claims: object{"exp": at(-time.Hour)}, want: Inactive},
		"expires: never":                {claims: object{"exp": nil}, want: Inactive},
		"expires: null":                 {claims: object{"exp": json.RawMessage("null")}, want: Inactive},
		"expires: as a text":            {claims: object{"exp": "4102444800"}, want: Inactive},
		"expires: in a number's end":    {claims: object{"exp": json.RawMessage("9223372036854775807")}},
		"expires: beyond":               {claims: object{"exp": json.RawMessage("1e400")}, want: Inactive},
		"expires: far beyond a time":    {claims: object{"exp": json.RawMessage("1e300")}},
		"expires: before time":          {claims: object{"exp": json.RawMessage("-1e300")}, want: Inactive},
		"expires: twice":                {claims: start + `,"exp":1}`, want: Inactive},
		"expires: once":                 {claims: start + "}"},
		"valid: in a minute":            {claims: object{"nbf": at(time.Minute)}},
		"valid: in more":                {claims: object{"nbf": at(time.Minute + time.Millisecond)}, want: Inactive},
		"valid: no number":              {claims: object{"nbf": "soon"}, want: Inactive},
		"issued: in a minute":           {claims: object{"iat": at(time.Minute)}},
		"issued: in more":               {claims: object{"iat": at(time.Minute + time.Millisecond)}, want: Inactive},
		"issued: unsaid":                {claims: object{"iat": nil}},
		"bound: to a key":               {claims: object{"cnf": object{"jkt": "x"}}, want: Inactive},
		"bound: to none":                {claims: object{"cnf": nil}},
		"use: access":                   {claims: object{"token_use": "access", "typ": "Bearer"}},
		"use: an ID token's":            {claims: object{"token_use": "id"}, want: Inactive},
		"use: an ID token's, as typ":    {claims: object{"typ": "ID"}, want: Inactive},
		"use: a refresh token's":        {claims: object{"token_use": "refresh"}, want: Inactive},
		"use: a refresh token's, typ":   {claims: object{"typ": "Refresh"}, want: Inactive},
		"use: a logout token's, as typ": {claims: object{"typ": "Logout"}, want: Inactive},
		"claims: not an object":         {claims: `"claims"`, want: Inactive},
		"claims: an array":              {claims: `[]`, want: Inactive},
		"claims: null":                  {claims: `null`, want: Inactive},
		"claims: none":                  {claims: ``, want: Inactive},
		"claims: nested":                {claims: deep(start, 9000)},
		"claims: nested too deep":       {claims: deep(start, 1_000_000), want: Inactive},
		"claims: huge":                  {claims: object{"x": strings.Repeat("x", 1<<20)}}, // Verify bounds tokens
		"scope: a number":               {claims: object{"scope": 1}, want: Inactive},
	} {
		t.Run(name, func(t *testing.T) {
			header := merge(object{"alg": "ES256", "kid": "a", "typ": "at+jwt"}, row.header)
			claims, err := i.signatures("gateway").verify(t.Context(), sign(t, "ES256", key, header, merge(good, row.claims)))
			if got := reasonOf(t, claims, err); got != row.want {
				t.Errorf("the reason is %q, want %q", got, row.want)
			}
		})
	}
}

// merge is what a row of a table says, on top of what is usual.
func merge(usual object, row any) any {
	if fields, ok := row.(object); ok {
		return usual.with(fields)
	}
	if row == nil {
		return usual
	}
	return row
}

func TestClaims(t *testing.T) {
	key := signingKeys()["p256"]
	i := newIssuer(t, jwk(key, "a"))
	for name, row := range map[string]struct {
		claims object
		client string
		scopes []string
	}{
		"scope as a text":             {object{"scope": "a b"}, "client", []string{"a", "b"}},
		"scope with spaces":           {object{"scope": "  a   b "}, "client", []string{"a", "b"}},
		"scope as an array":           {object{"scope": []string{"a", "b"}}, "client", []string{"a", "b"}},
		"scp as a text":               {object{"scope": nil, "scp": "a b"}, "client", []string{"a", "b"}},
		"scp as an array":             {object{"scope": nil, "scp": []string{"a", "b"}}, "client", []string{"a", "b"}},
		"scope before scp":            {object{"scope": "a", "scp": "b"}, "client", []string{"a"}},
		"an empty scope before scp":   {object{"scope": "", "scp": "b"}, "client", nil},
		"no scope":                    {object{"scope": nil}, "client", nil},
		"azp for client_id":           {object{"scope": "a", "client_id": nil, "azp": "party"}, "party", []string{"a"}},
		"client_id before azp":        {object{"scope": "a", "azp": "party"}, "client", []string{"a"}},
		"neither: not the subject":    {object{"scope": "a", "client_id": nil}, "", []string{"a"}},
		"other white space is not it": {object{"scope": "a\tb\u00a0c"}, "client", []string{"a\tb\u00a0c"}},
	} {
		got, err := i.signatures("").verify(t.Context(), sign(t, "ES256", key, object{"alg": "ES256"}, i.claims().with(row.claims)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.ClientID != row.client || !cmp.Equal(got.Scopes, row.scopes) {
			t.Errorf("%s: client %q with scopes %q, want %q with %q", name, got.ClientID, got.Scopes, row.client, row.scopes)
		}
	}
}

// TestForgeries has tokens of someone who knows everything that is public, and
// can publish things of their own.
func TestForgeries(t *testing.T) {
	keys := signingKeys()
	real, own := keys["rsa"].(*rsa.PrivateKey), keys["rsa-other"].(*rsa.PrivateKey)
	i := newIssuer(t, jwk(real, "a"))
	s := i.signatures("gateway")
	asked := false
	attacker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked = true
		json.NewEncoder(w).Encode(object{"keys": []object{jwk(own, "a")}})
	}))
	t.Cleanup(attacker.Close)

	head := object{"alg": "RS256", "kid": "a", "typ": "at+jwt"}
	if claims, err := s.verify(t.Context(), sign(t, "RS256", real, head, i.claims())); err != nil || claims.ClientID != "client" {
		t.Fatalf("the real one: %v, %v", claims, err)
	}

	tokens := map[string]string{
		"jwk":       sign(t, "RS256", own, head.with(object{"jwk": jwk(own, "a")}), i.claims()),
		"jku":       sign(t, "RS256", own, head.with(object{"jku": attacker.URL}), i.claims()),
		"x5u":       sign(t, "RS256", own, head.with(object{"x5u": attacker.URL}), i.claims()),
		"x5c":       sign(t, "RS256", own, head.with(object{"x5c": []string{"AAAA"}}), i.claims()),
		"json form": `{"payload":"e30","signatures":[]}`,
		"encrypted": "a.b.c.d.e",
		"opaque":    "0123456789",
		"empty":     "",
		"dots":      "..",
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", ""} {
		header := head.with(object{"alg": none})
		tokens["unsigned: "+none] = sign(t, "none", nil, header, i.claims())
		tokens["signed: "+none] = sign(t, "RS256", own, header, i.claims())
		tokens["unnamed: "+none] = sign(t, "none", nil, header.with(object{"kid": nil}), i.claims())
	}
	der, err := x509.MarshalPKIXPublicKey(&real.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	oldDER := x509.MarshalPKCS1PublicKey(&real.PublicKey)
	asJWK, err := json.Marshal(jwk(real, "a"))
	if err != nil {
		t.Fatal(err)
	}
	for form, secret := range map[string][]byte{
		"PEM":                     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"PEM without its end":     []byte(strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))),
		"DER":                     der,
		"PKCS 1 PEM":              pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: oldDER}),
		"PKCS 1 DER":              oldDER,
		"JWK":                     asJWK,
		"modulus":                 real.N.Bytes(),
		"modulus as it is in JWK": []byte(jwk(real, "a")["n"].(string)),
		"nothing":                 {},
	} {
		for _, id := range []any{"a", nil} {
			tokens["HS256 with the public key as "+form] = sign(t, "HS256", secret, head.with(object{"alg": "HS256", "kid": id}), i.claims())
			tokens["RS256 in name, with the public key as "+form] = sign(t, "HS256", secret, head.with(object{"kid": id}), i.claims())
		}
	}
	for name, token := range tokens {
		claims, err := s.verify(t.Context(), token)
		if got := reasonOf(t, claims, err); got != Inactive {
			t.Errorf("%s: the reason is %q, want %q", name, got, Inactive)
		}
	}
	if asked {
		t.Error("a token made us ask someone else")
	}
	// Providers that say where their keys are do not lose by it.
	for _, field := range []string{"jku", "x5u", "x5t"} {
		claims, err := s.verify(t.Context(), sign(t, "RS256", real, head.with(object{field: attacker.URL}), i.claims()))
		if got := reasonOf(t, claims, err); got != "" || asked {
			t.Errorf("%s in a good token: the reason is %q, and the place was asked: %v", field, got, asked)
		}
	}
}

func TestIsJWT(t *testing.T) {
	for token, want := range map[string]bool{
		encode(`{"alg":"RS256"}`) + ".e30.AAAA":    true,
		encode(`{"alg":"none"}`) + ".e30.":         true, // to be refused as one
		encode(`{"alg":"dir"}`) + ".a.b.c.d":       false,
		encode(`{"typ":"JWT"}`) + ".e30.AAAA":      false,
		encode(`{"alg":1}`) + ".e30.AAAA":          false,
		encode(`{"alg":"RS256"}`) + ".e30":         false,
		"v1.local.AAAA":                            false,
		"":                                         false,
		"..":                                       false,
		strings.Repeat("a", 16<<10):                false,
		strings.Repeat(".", 16<<10):                false,
		encode(strings.Repeat("[", 9000)) + ".a.b": false,
	} {
		if got := isJWT(token); got != want {
			t.Errorf("isJWT(%.40q) is %v, want %v", token, got, want)
		}
	}
}
