// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package license_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/telemetrygateway/telemetry/internal/license"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

func TestIssueThenVerify(t *testing.T) {
	want := license.Info{
		Tags: []string{"plan:enterprise", "<é&>"}, Users: 7, CreatedAt: created, ExpiresAt: expires,
		SalesforceSubscriptionID: "sub", SalesforceOpportunityID: "opp",
	}
	key := issue(t, want)
	l, err := license.Verify(key, trusted(t), license.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, l.Info); diff != "" {
		t.Errorf("info (-issued +verified):\n%s", diff)
	}
	if l.Version != 4 || l.KeyID != "test-ed25519" || l.Algorithm != "ssh-ed25519" {
		t.Errorf("got %+v", l)
	}
	if id, err := uuid.Parse(l.ID); err != nil || id.Version() != 7 {
		t.Errorf("licence ID %q is no UUIDv7", l.ID)
	}

	// The outside is the original's: the same names, n as a list of 8 numbers.
	var c struct {
		Sig  map[string]any `json:"sig"`
		Info []byte         `json:"info"`
	}
	var info map[string]any
	mustDecode(t, unpack(t, key), &c)
	mustDecode(t, c.Info, &info)
	if nonce, ok := info["n"].([]any); !ok || len(nonce) != 8 {
		t.Errorf("n is %v", info["n"])
	}
	for _, name := range []string{"v", "id", "kid", "t", "u", "c", "e", "sf_sub_id", "sf_opp_id"} {
		if _, ok := info[name]; !ok {
			t.Errorf("info has no %q", name)
		}
	}
	if c.Sig["Format"] != "ssh-ed25519" || c.Sig["Blob"] == "" {
		t.Errorf("sig is %v", c.Sig)
	}

	again, err := license.Verify(issue(t, want), trusted(t), license.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if again.ID == l.ID || again.Fingerprint() == l.Fingerprint() {
		t.Error("two licences have the same name")
	}
}

func TestIssueRefuses(t *testing.T) {
	for name, i := range map[string]license.Info{
		"no expiry":      {CreatedAt: created},
		"expired before": {CreatedAt: created, ExpiresAt: created},
		"too long":       {CreatedAt: created, ExpiresAt: expires, Tags: []string{strings.Repeat("x", limits.LicenseKeyBytes)}},
	} {
		if key, err := license.Issue(signer(t, "ed25519"), i); err == nil {
			t.Errorf("%s: issued a key of %d bytes", name, len(key))
		}
	}
}

// TestNoKeys has nothing to verify with.
func TestNoKeys(t *testing.T) {
	_, err := license.Verify(readVector(t, "v4-ed25519"), new(license.Keys), license.Options{})
	wantErr(t, err, license.ErrUnknownKey)
	_, err = license.Verify(readVector(t, "v3-ed25519"), new(license.Keys), license.Options{})
	wantErr(t, err, license.ErrSignature)
}

// TestKeyTextIsMalleable shows why the fingerprint is not taken from the text:
// all these texts are the same licence.
func TestKeyTextIsMalleable(t *testing.T) {
	key := strings.TrimSpace(readVector(t, "v4-ed25519"))
	want, err := license.Verify(key, trusted(t), license.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text := string(unpack(t, key))
	revoked, err := license.ParseRevoked([]byte(want.Fingerprint()))
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]string{
		"line breaks":      strings.Join(strings.Split(key, ""), "\r\n\u2003"),
		"spaces in JSON":   pack(t, strings.ReplaceAll(text, ",", " , ")),
		"one more field":   pack(t, strings.TrimSuffix(text, "}")+`,"x":1}`),
		"in other letters": pack(t, strings.Replace(text, `"sig"`, `"SIG"`, 1)),
		"unused bits":      unusedBits(t, key),
		"a field twice":    pack(t, strings.TrimSuffix(text, "}")+`,"info":"`+base64.StdEncoding.EncodeToString(infoV4)+`"}`),
	} {
		if other == key {
			t.Fatalf("%s: the text is the same", name)
		}
		got, err := license.Verify(other, trusted(t), license.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(license.License{})); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if !revoked.Has(got) {
			t.Errorf("%s: slips past the revocation", name)
		}
	}
}

func TestVersionOfOldKeys(t *testing.T) {
	for _, test := range []struct {
		info string
		want int
	}{
		{`{"v":3,"c":"2024-01-01T00:00:00Z"}`, 1},
		{`{"v":1,"sf_sub_id":"s"}`, 2},
		{`{"v":1,"sf_sub_id":"s","c":null}`, 2},
		{`{"v":1,"sf_sub_id":"s","c":"0001-01-01T00:00:00Z"}`, 2},
		{`{"v":1,"sf_sub_id":"s","c":"2024-01-01T00:00:00Z"}`, 3},
		{`{"v":2,"sf_sub_id":"","c":"2024-01-01T00:00:00Z"}`, 3},
		{`{"v":2,"sf_sub_id":null}`, 1},
	} {
		key := pack(t, originalContainer{sign(t, "rsa", ssh.KeyAlgoRSASHA256, test.info), []byte(test.info)})
		l, err := license.Verify(key, trusted(t), license.Options{})
		if err != nil {
			t.Errorf("%s: %v", test.info, err)
		} else if l.Version != test.want {
			t.Errorf("%s: version %d, want %d", test.info, l.Version, test.want)
		}
	}
}

// TestOldKeysHaveNoID: before version 4, id and kid meant nothing.
func TestOldKeysHaveNoID(t *testing.T) {
	info := `{"v":3,"id":"018df9a4-3b00-7c3d-9e4f-0123456789ab","kid":"nobody"}`
	key := pack(t, originalContainer{sign(t, "rsa", ssh.KeyAlgoRSASHA256, info), []byte(info)})
	l, err := license.Verify(key, trusted(t), license.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if l.ID != "" || l.KeyID != "test-rsa" {
		t.Errorf("ID %q, key ID %q", l.ID, l.KeyID)
	}
}

func TestExpired(t *testing.T) {
	i := license.Info{ExpiresAt: expires}
	for now, want := range map[time.Time]bool{
		expires.Add(-1): false,
		expires:         false,
		expires.Add(1):  true,
	} {
		if got := i.Expired(now); got != want {
			t.Errorf("expired at %v: %v", now, got)
		}
	}
	if !new(license.Info).Expired(created) {
		t.Error("a licence without an end never expires")
	}
}

func TestHasTag(t *testing.T) {
	i := license.Info{Tags: []string{"plan:enterprise", " allow-air-gapped\t"}}
	for tag, want := range map[string]bool{
		"plan:enterprise": true, "allow-air-gapped": true, " allow-air-gapped": true,
		"plan": false, "": false, "Plan:enterprise": false,
	} {
		if got := i.HasTag(tag); got != want {
			t.Errorf("HasTag(%q) = %v", tag, got)
		}
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// unusedBits sets bits of the last base64 digit that mean nothing. Spaces are
// added to the JSON until there are such bits.
func unusedBits(t *testing.T, key string) string {
	t.Helper()
	text := string(unpack(t, key))
	for len(text)%3 != 1 {
		text += " "
	}
	key = pack(t, text)
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(digits, key[len(key)-1])
	return key[:len(key)-1] + digits[last+1:last+2]
}

func unpack(t testing.TB, key string) []byte {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mustDecode(t testing.TB, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func signer(t testing.TB, name string) *license.Signer {
	t.Helper()
	s, err := license.ParseSigner(readFile(t, "testdata/keys/test-only-"+name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func issue(t testing.TB, i license.Info) string {
	t.Helper()
	key, err := license.Issue(signer(t, "ed25519"), i)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
