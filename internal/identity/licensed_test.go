// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/telemetrygateway/telemetry/internal/license"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// An issuer issues licences, in today's format and in that of before.
type issuer struct {
	signer *license.Signer
	old    ssh.AlgorithmSigner
	public string
}

func newIssuer(t testing.TB, id string) issuer {
	t.Helper()
	private, err := license.GenerateKey(id)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := license.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ssh.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{signer, old.(ssh.AlgorithmSigner), string(signer.PublicKey())}
}

// newRSAIssuer has a key that only old licences are signed with.
func newRSAIssuer(t testing.TB) issuer {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{old: old.(ssh.AlgorithmSigner), public: string(ssh.MarshalAuthorizedKey(old.PublicKey()))}
}

// issue returns a key for a licence with so much time left.
func (i issuer) issue(t testing.TB, left time.Duration) string {
	t.Helper()
	key, err := license.Issue(i.signer, license.Info{
		Tags: []string{"plan:enterprise"}, Users: 10, CreatedAt: today.AddDate(-1, 0, 0), ExpiresAt: today.Add(left),
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (i issuer) issueOld(t testing.TB, left time.Duration) string {
	t.Helper()
	return i.issueOldWith(t, left, i.old.PublicKey().Type())
}

// issueOldWith returns a key of version 1, which has no ID.
func (i issuer) issueOldWith(t testing.TB, left time.Duration, algorithm string) string {
	t.Helper()
	// Two licences with one nonce would have one fingerprint.
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails
	info, err := json.Marshal(map[string]any{
		"v": 1, "n": nonce, "t": []string{"plan:old"}, "u": 5, "e": today.Add(left),
	})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := i.old.SignWithAlgorithm(rand.Reader, info, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	key, err := json.Marshal(map[string]any{"sig": sig, "info": info})
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(key)
}

func (i issuer) verify(t testing.TB, key string) *license.License {
	t.Helper()
	keys, err := license.ParseKeys([]byte(i.public))
	if err != nil {
		t.Fatal(err)
	}
	l, err := license.Verify(key, keys, license.Options{AllowSHA1: true})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (i issuer) idOf(t testing.TB, key string) string { return i.verify(t, key).ID }

// writeFile returns the path of a new file.
func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// forge returns a key in which one byte of what was signed is another.
func forge(t testing.TB, key string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	var parts struct {
		Sig  json.RawMessage `json:"sig"`
		Info []byte          `json:"info"`
	}
	if err := json.Unmarshal(text, &parts); err != nil {
		t.Fatal(err)
	}
	parts.Info = []byte(strings.Replace(string(parts.Info), `"u":`, `"u":9`, 1))
	forged, err := json.Marshal(parts)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(forged)
}

func TestLicensed(t *testing.T) {
	vendor, second, stranger, rsaVendor := newIssuer(t, "vendor"), newIssuer(t, "second"), newIssuer(t, "stranger"), newRSAIssuer(t)
	valid, byID, byFingerprint := vendor.issue(t, time.Hour), vendor.issue(t, time.Hour), vendor.issueOld(t, time.Hour)
	sha1 := rsaVendor.issueOldWith(t, time.Hour, ssh.KeyAlgoRSA)
	trusting := LicenseOptions{
		KeysFile:    writeFile(t, "keys", "# ours\n"+vendor.public+"\n"+second.public+rsaVendor.public),
		RevokedFile: writeFile(t, "revoked", vendor.idOf(t, byID)+" # stolen\n"+vendor.verify(t, byFingerprint).Fingerprint()+"\n"),
	}
	denyExpired, allowSHA1 := trusting, trusting
	denyExpired.DenyExpired = true
	allowSHA1.AllowSHA1 = true

	for _, c := range []struct {
		name    string
		o       LicenseOptions
		key     string
		keyID   string // of who is let in
		status  string
		refused Reason
		text    string
	}{
		{name: "valid", o: trusting, key: valid, keyID: "vendor", status: "valid"},
		{name: "white space does not count", o: trusting, key: " " + valid[:20] + "\n" + valid[20:] + "\n", keyID: "vendor", status: "valid"},
		{name: "second public key", o: trusting, key: second.issue(t, time.Hour), keyID: "second", status: "valid"},
		{name: "old", o: trusting, key: vendor.issueOld(t, time.Hour), keyID: "vendor", status: "valid"},
		{name: "expires today, not yet", o: denyExpired, key: vendor.issue(t, 0), keyID: "vendor", status: "valid"},
		{name: "expired", o: trusting, key: vendor.issue(t, -time.Second), keyID: "vendor", status: "expired"},
		{name: "expired, denied", o: denyExpired, key: vendor.issue(t, -24*time.Hour), refused: Expired, text: "expired on 2026-11-20"},
		{name: "revoked by ID", o: trusting, key: byID, refused: Revoked, text: "has been revoked"},
		{name: "revoked by fingerprint", o: trusting, key: byFingerprint, refused: Revoked, text: "has been revoked"},
		{name: "revoked, with other white space", o: trusting, key: byFingerprint[:9] + "\t" + byFingerprint[9:], refused: Revoked, text: "has been revoked"},
		{name: "unknown public key", o: trusting, key: stranger.issue(t, time.Hour), refused: BadSignature, text: "not known here"},
		{name: "old, unknown public key", o: trusting, key: stranger.issueOld(t, time.Hour), refused: BadSignature, text: "signature does not match"},
		{name: "forged", o: trusting, key: forge(t, valid), refused: BadSignature, text: "signature does not match"},
		{name: "signed by another key of that name", o: trusting, key: newIssuer(t, "vendor").issue(t, time.Hour), refused: BadSignature, text: "signature does not match"},
		{name: "RSA with SHA-2", o: trusting, key: rsaVendor.issueOldWith(t, time.Hour, ssh.KeyAlgoRSASHA512), status: "valid"},
		{name: "RSA with SHA-1", o: trusting, key: sha1, refused: BadSignature, text: "-license-allow-sha1"},
		{name: "RSA with SHA-1, allowed", o: allowSHA1, key: sha1, status: "valid"},
		{name: "empty", o: trusting, key: "", refused: Malformed, text: "empty"},
		{name: "not base64", o: trusting, key: "?", refused: Malformed, text: "base64url"},
		{name: "cut short", o: trusting, key: valid[:len(valid)/2], refused: Malformed, text: "copy the whole key"},
		{name: "without a signature", o: trusting, key: base64.RawURLEncoding.EncodeToString([]byte(`{"info":"e30"}`)), refused: Malformed, text: "licence key"},
		{name: "too long", o: trusting, key: valid + strings.Repeat(" ", limits.LicenseKeyBytes), refused: Malformed, text: "at most 16384"},
		{name: "without public keys", o: LicenseOptions{}, key: valid, refused: Unsupported, text: "-license-keys"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids := newIdentities(t, Options{Licenses: c.o})
			s, err := ids.Identify(t.Context(), licensedID(c.key, "site", ""), somewhere)
			if c.refused != "" {
				if r := wantRefusal(t, err, c.refused); !strings.Contains(r.Message, c.text) {
					t.Errorf("text is %q, want %q in it", r, c.text)
				}
				return
			}
			if err != nil {
				t.Fatalf("refused: %v", err)
			}
			if s.Kind != LicensedInstance || s.LicenseStatus != c.status || c.keyID != "" && s.License.KeyID != c.keyID {
				t.Errorf("is %s, %s, by %q; want %s, %s, by %q", s.Kind, s.LicenseStatus, s.License.KeyID, LicensedInstance, c.status, c.keyID)
			}
			if err := s.Admit(limits.EventsPerMessage); err != nil {
				t.Errorf("not admitted: %v", err)
			}
		})
	}
}

func TestLicensedMayHaveNoInstanceID(t *testing.T) {
	vendor := newIssuer(t, "vendor")
	ids := newIdentities(t, Options{Licenses: LicenseOptions{KeysFile: writeFile(t, "keys", vendor.public)}})
	key := vendor.issue(t, time.Hour)
	nameless := mustIdentify(t, ids, licensedID(key, "", ""), somewhere)
	if named := mustIdentify(t, ids, licensedID(key, "site", ""), somewhere); nameless.Scope == named.Scope {
		t.Errorf("both have the scope %q", named.Scope)
	}
}

func TestExpiryDuringASession(t *testing.T) {
	for _, deny := range []bool{false, true} {
		vendor := newIssuer(t, "vendor")
		now := today
		ids := newIdentities(t, Options{
			Licenses: LicenseOptions{KeysFile: writeFile(t, "keys", vendor.public), DenyExpired: deny},
			Now:      func() time.Time { return now },
		})
		s := mustIdentify(t, ids, licensedID(vendor.issue(t, time.Hour), "site", ""), somewhere)
		now = now.Add(time.Hour)
		if err := s.Recheck(t.Context()); err != nil {
			t.Errorf("refused at its last moment: %v", err)
		}
		now = now.Add(time.Nanosecond)
		if err := s.Recheck(t.Context()); deny {
			wantRefusal(t, err, Expired)
		} else if err != nil {
			t.Errorf("refused although expired licences are allowed: %v", err)
		}
	}
}

// No text that leaves the package holds as much as a piece of a licence key.
func TestErrorsHoldNoKey(t *testing.T) {
	const piece = 16
	vendor, stranger := newIssuer(t, "vendor"), newIssuer(t, "stranger")
	revoked := vendor.issue(t, time.Hour)
	ids := newIdentities(t, Options{
		Licenses: LicenseOptions{
			KeysFile: writeFile(t, "keys", vendor.public), RevokedFile: writeFile(t, "revoked", vendor.idOf(t, revoked)), DenyExpired: true,
		},
		Unlicensed: UnlicensedOptions{Burst: 1},
	})
	noKeys := newIdentities(t, Options{})
	keys := []string{
		revoked, vendor.issue(t, time.Hour), vendor.issue(t, -time.Hour), vendor.issueOld(t, -time.Hour), stranger.issue(t, time.Hour),
		newRSAIssuer(t).issueOldWith(t, time.Hour, ssh.KeyAlgoRSA),
	}
	random := mathrand.New(mathrand.NewPCG(3, 4))
	refusals := 0
	for range 2000 {
		key := keys[random.IntN(len(keys))]
		switch i, j := random.IntN(len(key)), random.IntN(len(key)); random.IntN(6) {
		case 0: // as it is
		case 1:
			key = key[min(i, j):max(i, j)]
		case 2:
			key = key[:i] + string("aZ9_- ?"[random.IntN(7)]) + key[i+1:]
		case 3:
			key = key[:i] + key[j:]
		case 4:
			key = strings.Repeat(key, 1+limits.LicenseKeyBytes/len(key))
		case 5:
			key = "\x00" + key
		}
		for _, who := range []*Identities{ids, noKeys} {
			for _, id := range []struct{ key, instance, url string }{
				{key, "site", ""},
				{"", key, ""}, // as if pasted into the wrong field
				{"", "site", key},
				{key, key, key},
			} {
				texts := ""
				if _, err := who.Identify(t.Context(), licensedID(id.key, id.instance, id.url), somewhere); err != nil {
					texts += err.Error()
					refusals++
				}
				if _, err := who.Identify(t.Context(), unlicensedID(id.instance, id.url), somewhere); err != nil {
					texts += "\n" + err.Error()
				}
				for i := 0; i+piece <= len(key); i++ {
					if strings.Contains(texts, key[i:i+piece]) {
						t.Fatalf("a piece of the key is in %q", texts)
					}
				}
			}
		}
	}
	if refusals < 1000 {
		t.Errorf("only %d refusals were looked at", refusals)
	}
}

func TestLicenseFilesAtStart(t *testing.T) {
	vendor := newIssuer(t, "vendor")
	good := writeFile(t, "keys", vendor.public)
	gone := filepath.Join(t.TempDir(), "gone")
	private, err := license.GenerateKey("vendor")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		o    LicenseOptions
		text []string
	}{
		{"keys missing", LicenseOptions{KeysFile: gone}, []string{"keys", gone, "no such file"}},
		{"keys are a folder", LicenseOptions{KeysFile: t.TempDir()}, []string{"keys", "is a directory"}},
		{"keys empty", LicenseOptions{KeysFile: writeFile(t, "empty", "\n# none\n")}, []string{"empty", "license.pub"}},
		{"keys damaged", LicenseOptions{KeysFile: writeFile(t, "damaged", vendor.public+"ssh-ed25519 AAAA\n")}, []string{"damaged", "line 2"}},
		{"a private key", LicenseOptions{KeysFile: writeFile(t, "private", string(private))}, []string{"private key"}},
		{"revoked missing", LicenseOptions{KeysFile: good, RevokedFile: gone}, []string{"revoked", gone, "no such file"}},
		{"revoked damaged", LicenseOptions{KeysFile: good, RevokedFile: writeFile(t, "list", "\nnot an ID\n")}, []string{"list", "line 2"}},
		{"revoked without keys", LicenseOptions{RevokedFile: good}, []string{"-license-keys"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(Options{Licenses: c.o})
			if err == nil {
				t.Fatal("started")
			}
			for _, text := range c.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error is %q, want %q in it", err, text)
				}
			}
		})
	}
}
