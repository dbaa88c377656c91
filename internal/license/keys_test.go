// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package license_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/telemetrygateway/telemetry/internal/license"
)

func TestParseKeys(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(string(readFile(t, "testdata/keys/trusted.pub"))), "\n")
	rsa, ed := lines[len(lines)-2], lines[len(lines)-1]
	refused := strings.Split(string(readFile(t, "testdata/keys/refused.pub")), "\n")
	rename := func(line, id string) string {
		f := strings.Fields(line)
		return strings.TrimSpace(f[0] + " " + f[1] + " " + id)
	}
	for _, test := range []struct{ name, data, want string }{
		{"one", ed, ""},
		{"Windows line ends, tabs, comments", "# a\r\n\r\n\t" + ed + "\r\n  # b\r\n" + rsa, ""},
		{"the same key twice", ed + "\n" + rename(ed, "again"), ""},
		{"no key ID", rename(ed, ""), ""},

		{"nothing", "", "there are no public keys"},
		{"comments only", "# none\n\n", "there are no public keys"},
		{"the same ID twice", ed + "\n\n" + rename(rsa, "test-ed25519"), `line 3: the key ID "test-ed25519" is taken`},
		{"the same key twice without ID", rename(ed, "") + "\n" + rename(ed, ""), "line 2: the key ID"},
		{"an ID with spaces", rename(ed, "my key"), "line 1: a key ID has"},
		{"a long ID", rename(ed, strings.Repeat("x", 65)), "line 1: a key ID has"},
		{"options", ed + "\nrestrict " + rsa, "line 2: this is not a public key"},
		{"another type in front", strings.Replace(ed, "ssh-ed25519", "ssh-rsa", 1), "line 1: this is not a public key"},
		{"cut short", ed[:40], "line 1: this is not a public key"},
		{"a word", "\n\n\nkey", "line 4: this is not a public key"},
		{"short RSA", refused[0], "line 1: an RSA key of 1024 bits is too short; it needs 2048"},
		{"DSA", refused[1], "line 1: keys of type ssh-dss are not accepted"},
		{"ECDSA", refused[2], "line 1: keys of type ecdsa-sha2-nistp256 are not accepted"},
		{"a certificate", refused[3], "line 1: keys of type ssh-ed25519-cert-v01@openssh.com are not accepted"},
		{"a private key", string(readFile(t, "testdata/keys/test-only-ed25519.key")), "line 1: this is not a public key"},
		{"a private key's PEM", "-----BEGIN OPENSSH PRIVATE KEY-----", "line 1: this is a private key"},
		{"a public key's PEM", "-----BEGIN PUBLIC KEY-----", "line 1: PEM is not read; convert it with: ssh-keygen"},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys, err := license.ParseKeys([]byte(test.data))
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want == "" && keys.Len() == 0:
				t.Error("no keys")
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestRotation is the life of a key: the next one is trusted beside it, then
// it is trusted no more.
func TestRotation(t *testing.T) {
	next, nextSigner := generate(t, "next")
	old := issue(t, license.Info{CreatedAt: created, ExpiresAt: expires})
	renewed, err := license.Issue(nextSigner, license.Info{CreatedAt: created, ExpiresAt: expires})
	if err != nil {
		t.Fatal(err)
	}
	both := string(signer(t, "ed25519").PublicKey()) + string(next)
	for _, test := range []struct {
		name, keys       string
		wantOld, wantNew error
	}{
		{"before", string(signer(t, "ed25519").PublicKey()), nil, license.ErrUnknownKey},
		{"both", both, nil, nil},
		{"after", string(next), license.ErrUnknownKey, nil},
	} {
		keys, err := license.ParseKeys([]byte(test.keys))
		if err != nil {
			t.Fatal(err)
		}
		_, err = license.Verify(old, keys, license.Options{})
		wantErr(t, err, test.wantOld)
		_, err = license.Verify(renewed, keys, license.Options{})
		wantErr(t, err, test.wantNew)
	}
}

func TestGenerateKey(t *testing.T) {
	for _, id := range []string{"", "prod-2026", "root@build.example.com"} {
		line, s := generate(t, id)
		if id != "" && s.KeyID() != id {
			t.Errorf("key ID %q, want %q", s.KeyID(), id)
		}
		if s.KeyID() == "" || !bytes.HasSuffix(line, []byte(" "+s.KeyID()+"\n")) {
			t.Errorf("public key %q does not end with the key ID %q", line, s.KeyID())
		}
		verifiesWith(t, s, line)
	}
	for _, id := range []string{"a b", "-x", "é", "a\n", strings.Repeat("x", 65)} {
		if _, err := license.GenerateKey(id); err == nil {
			t.Errorf("made a key with the ID %q", id)
		}
	}
}

// TestSignerWithoutComment: where the private key has no comment, issuer and
// verifier make the same ID of the key.
func TestSignerWithoutComment(t *testing.T) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := license.ParseSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	sshKey, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	verifiesWith(t, s, ssh.MarshalAuthorizedKey(sshKey))
}

func TestParseSignerRefuses(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(key, "x", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	spaces, err := ssh.MarshalPrivateKey(key, "my key")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "not a private key"},
		{"a public key", readFile(t, "testdata/keys/trusted.pub"), "not a private key"},
		{"RSA", readFile(t, "testdata/keys/test-only-rsa.key"), "signed with a key of type ssh-ed25519 and not ssh-rsa"},
		{"a passphrase", pem.EncodeToMemory(locked), "has a passphrase"},
		{"a comment that is no key ID", pem.EncodeToMemory(spaces), "a key ID has"},
	} {
		if _, err := license.ParseSigner(test.data); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestRevoked(t *testing.T) {
	verify := func(vector string) *license.License {
		l, err := license.Verify(readVector(t, vector), trusted(t), license.Options{AllowSHA1: true})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	v1, v3, v4 := verify("v1-rsa-sha1"), verify("v3-ed25519"), verify("v4-ed25519")
	for _, test := range []struct {
		name, list string
		want       [3]bool // v1, v3, v4
	}{
		{"nothing", "", [3]bool{}},
		{"comments", "# a\n\n  # b\n", [3]bool{}},
		{"an ID", "# lost\r\n" + v4.ID + "  # reported by mail\r\n", [3]bool{false, false, true}},
		{"an ID in capitals", strings.ToUpper(v4.ID), [3]bool{false, false, true}},
		{"fingerprints", v1.Fingerprint() + "\n" + strings.ToUpper(v4.Fingerprint()), [3]bool{true, false, true}},
		{"another licence", "018df9a4-3b00-7c3d-9e4f-0123456789ac", [3]bool{}},
	} {
		r, err := license.ParseRevoked([]byte(test.list))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := [3]bool{r.Has(v1), r.Has(v3), r.Has(v4)}; got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
	// The SHA-1 and SHA-256 signatures of one info are one licence.
	r, err := license.ParseRevoked([]byte(v1.Fingerprint()))
	if err != nil {
		t.Fatal(err)
	}
	if !r.Has(verify("v1-rsa-sha2-256")) {
		t.Error("signing a licence again slips past its revocation")
	}
	for _, bad := range []string{
		"slk_00", "sha256:", v1.Fingerprint() + "0", v4.ID + " " + v4.ID, "{" + v4.ID + "}",
		strings.ReplaceAll(v4.ID, "-", ""), "urn:uuid:" + v4.ID, strings.TrimSpace(readVector(t, "v4-ed25519")),
	} {
		_, err := license.ParseRevoked([]byte("\n# fine\n" + bad + "\n"))
		if err == nil || !strings.HasPrefix(err.Error(), "line 3: ") {
			t.Errorf("%q: %v", bad, err)
		} else {
			noSecrets(t, err.Error(), readVector(t, "v4-ed25519"))
		}
	}
}

func generate(t *testing.T, id string) (public []byte, s *license.Signer) {
	t.Helper()
	private, err := license.GenerateKey(id)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = license.ParseSigner(private); err != nil {
		t.Fatal(err)
	}
	return s.PublicKey(), s
}

func verifiesWith(t *testing.T, s *license.Signer, line []byte) {
	t.Helper()
	keys, err := license.ParseKeys(line)
	if err != nil {
		t.Fatal(err)
	}
	key, err := license.Issue(s, license.Info{CreatedAt: created, ExpiresAt: expires})
	if err != nil {
		t.Fatal(err)
	}
	l, err := license.Verify(key, keys, license.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if l.KeyID != s.KeyID() {
		t.Errorf("key ID %q, want %q", l.KeyID, s.KeyID())
	}
}
