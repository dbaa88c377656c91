// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package license_test

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/telemetrygateway/telemetry/internal/license"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// TestForgeries has keys that must not verify, and why they do not.
func TestForgeries(t *testing.T) {
	const ed, rsa1, rsa256 = ssh.KeyAlgoED25519, ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256
	v1, v3, v4 := string(infoV1), string(infoV3), string(infoV4)
	replace := func(s, old, new string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("no %q in %s", old, s)
		}
		return strings.Replace(s, old, new, 1)
	}
	key := func(sig *ssh.Signature, info string) string { return pack(t, originalContainer{sig, []byte(info)}) }
	good := sign(t, "ed25519", ed, v4Prefix+v4)
	v4Signed := func(info string) string { return key(sign(t, "ed25519", ed, v4Prefix+info), info) }
	b64 := base64.StdEncoding.EncodeToString

	for _, test := range []struct {
		name, key string
		want      error
	}{
		{"empty", "", license.ErrMalformed},
		{"only spaces", " \n\t", license.ErrMalformed},
		{"not base64", "!!!", license.ErrMalformed},
		{"padded", padded(originalContainer{good, infoV4}), license.ErrMalformed},
		{"the other alphabet", "ab+/", license.ErrMalformed},
		{"cut short", pack(t, originalContainer{good, infoV4})[:200], license.ErrMalformed},
		{"with something after", pack(t, string(encode(originalContainer{good, infoV4}))+"{}"), license.ErrMalformed},
		{"huge", strings.Repeat("e", limits.LicenseKeyBytes+1), license.ErrMalformed},
		{"good but huge", pack(t, originalContainer{good, infoV4}) + strings.Repeat(" ", limits.LicenseKeyBytes), license.ErrMalformed},

		{"null", pack(t, `null`), license.ErrMalformed},
		{"a list", pack(t, `[]`), license.ErrMalformed},
		{"nothing in it", pack(t, `{}`), license.ErrMalformed},
		{"no sig", pack(t, `{"info":"`+b64(infoV1)+`"}`), license.ErrMalformed},
		{"sig null", pack(t, `{"sig":null,"info":"`+b64(infoV1)+`"}`), license.ErrMalformed},
		{"sig a string", pack(t, `{"sig":"ssh-rsa","info":"`+b64(infoV1)+`"}`), license.ErrMalformed},
		{"sig empty", pack(t, `{"sig":{},"info":"`+b64(infoV1)+`"}`), license.ErrMalformed},
		{"Blob null", pack(t, `{"sig":{"Format":"ssh-ed25519","Blob":null},"info":"`+b64(infoV4)+`"}`), license.ErrMalformed},
		{"Blob empty", key(&ssh.Signature{Format: ed, Blob: []byte{}}, v4), license.ErrMalformed},
		{"Blob a number", pack(t, `{"sig":{"Format":"ssh-ed25519","Blob":1},"info":"`+b64(infoV4)+`"}`), license.ErrMalformed},
		{"Rest not empty", key(&ssh.Signature{Format: ed, Blob: good.Blob, Rest: []byte{0}}, v4), license.ErrMalformed},
		{"no info", pack(t, originalContainer{Signature: good}), license.ErrMalformed},
		{"info an object", pack(t, `{"sig":{"Format":"ssh-ed25519","Blob":"AAAA"},"info":`+v4+`}`), license.ErrMalformed},
		{"info not JSON", v4Signed("licence"), license.ErrMalformed},
		{"info null", v4Signed("null"), license.ErrUnsupported},
		{"info a list", v4Signed("[]"), license.ErrMalformed},

		{"v missing", v4Signed(replace(v4, `"v":4,`, ``)), license.ErrUnsupported},
		{"v null", v4Signed(replace(v4, `"v":4`, `"v":null`)), license.ErrUnsupported},
		{"v 0", v4Signed(replace(v4, `"v":4`, `"v":0`)), license.ErrUnsupported},
		{"v 5", v4Signed(replace(v4, `"v":4`, `"v":5`)), license.ErrUnsupported},
		{"v 5 and otherwise different", v4Signed(`{"v":5,"t":{"plan":1}}`), license.ErrUnsupported},
		{"v -1", v4Signed(replace(v4, `"v":4`, `"v":-1`)), license.ErrUnsupported},
		{"v 4.0", v4Signed(replace(v4, `"v":4`, `"v":4.0`)), license.ErrUnsupported},
		{"v enormous", v4Signed(replace(v4, `"v":4`, `"v":1e400`)), license.ErrUnsupported},
		{"v a string", v4Signed(replace(v4, `"v":4`, `"v":"4"`)), license.ErrUnsupported},
		{"a field of the wrong type", v4Signed(replace(v4, `"u":100`, `"u":-1`)), license.ErrMalformed},
		{"no licence ID", v4Signed(replace(v4, `"id":"018df9a4-3b00-7c3d-9e4f-0123456789ab",`, ``)), license.ErrMalformed},
		{"an ID that a revocation would miss", v4Signed(replace(v4, `018df9a4-3b00`, `018DF9A4-3B00`)), license.ErrMalformed},
		{"no key ID", v4Signed(replace(v4, `"kid":"test-ed25519",`, ``)), license.ErrMalformed},
		{"a strange key ID", v4Signed(replace(v4, `"kid":"test-ed25519"`, `"kid":"a b"`)), license.ErrMalformed},

		{"one bit of info flipped", key(good, replace(v4, `"u":100`, `"u":101`)), license.ErrSignature},
		{"a space added to info", key(good, v4+" "), license.ErrSignature},
		{"one bit of the signature flipped", key(flip(good), v4), license.ErrSignature},
		{"the signature cut", key(&ssh.Signature{Format: ed, Blob: good.Blob[:63]}, v4), license.ErrSignature},
		{"one bit of old info flipped", key(sign(t, "rsa", rsa1, v1), replace(v1, `"u":25`, `"u":24`)), license.ErrSignature},
		{"signed by another Ed25519 key", key(sign(t, "ed25519-other", ed, v4Prefix+v4), v4), license.ErrSignature},
		{"signed by another RSA key", key(sign(t, "rsa-other", rsa256, v3), v3), license.ErrSignature},
		{"the key ID of a key not known", v4Signed(replace(v4, `"kid":"test-ed25519"`, `"kid":"next"`)), license.ErrUnknownKey},
		{"the key ID of another key", v4Signed(replace(v4, `"kid":"test-ed25519"`, `"kid":"test-rsa"`)), license.ErrSignature},

		{"version 4 signed without the prefix", key(sign(t, "ed25519", ed, v4), v4), license.ErrSignature},
		{"version 3 signed with the prefix", key(sign(t, "ed25519", ed, v4Prefix+v3), v3), license.ErrSignature},
		{"version 4 with its prefix shown as info", key(good, v4Prefix+v4), license.ErrMalformed},
		{"version 4 made 3", key(good, replace(v4, `"v":4`, `"v":3`)), license.ErrSignature},
		{"version 3 made 4", key(sign(t, "ed25519", ed, v3), replace(v3, `"v":3`, `"v":4,"id":"018df9a4-3b00-7c3d-9e4f-0123456789ab","kid":"test-ed25519"`)), license.ErrSignature},
		{"signed for another purpose", key(sign(t, "ed25519", ed, "telemetry-gateway/other/v1\x00"+v4), v4), license.ErrSignature},
		{"version 4 signed with RSA", key(sign(t, "rsa", rsa256, v4Prefix+v4), v4), license.ErrUnsupported},
		{"version 4 signed with SHA-1", key(sign(t, "rsa", rsa1, v4Prefix+v4), v4), license.ErrUnsupported},

		{"RSA said to be Ed25519", key(&ssh.Signature{Format: ed, Blob: sign(t, "rsa", rsa256, v3).Blob}, v3), license.ErrSignature},
		{"Ed25519 said to be RSA", key(&ssh.Signature{Format: rsa256, Blob: good.Blob}, v3), license.ErrSignature},
		{"SHA-1 said to be SHA-256", key(&ssh.Signature{Format: rsa256, Blob: sign(t, "rsa", rsa1, v3).Blob}, v3), license.ErrSignature},
		{"an RSA signature of zero", key(&ssh.Signature{Format: rsa256, Blob: make([]byte, 256)}, v3), license.ErrSignature},
		{"no Format", key(&ssh.Signature{Blob: good.Blob}, v4), license.ErrUnsupported},
		{"DSA", key(&ssh.Signature{Format: "ssh-dss", Blob: make([]byte, 40)}, v3), license.ErrUnsupported},
		{"ECDSA", key(&ssh.Signature{Format: ssh.KeyAlgoECDSA256, Blob: make([]byte, 64)}, v3), license.ErrUnsupported},
		{"a certificate", key(&ssh.Signature{Format: ssh.CertAlgoED25519v01, Blob: good.Blob}, v4), license.ErrUnsupported},
		{"a hardware key", key(&ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: good.Blob}, v4), license.ErrUnsupported},

		{"other info first", pack(t, `{"info":"`+b64([]byte(replace(v4, `"u":100`, `"u":9`)))+`","sig":`+string(encode(good))+`,"info":"`+b64([]byte(replace(v4, `"u":100`, `"u":8`)))+`"}`), license.ErrSignature},
		{"other info last", pack(t, `{"info":"`+b64(infoV4)+`","sig":`+string(encode(good))+`,"info":"`+b64([]byte(replace(v4, `"u":100`, `"u":8`)))+`"}`), license.ErrSignature},
		{"other info in other letters", pack(t, `{"info":"`+b64(infoV4)+`","sig":`+string(encode(good))+`,"INFO":"`+b64([]byte(replace(v4, `"u":100`, `"u":8`)))+`"}`), license.ErrSignature},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := license.Verify(test.key, trusted(t), license.Options{AllowSHA1: true})
			wantErr(t, err, test.want)
			if l != nil {
				t.Errorf("returned %+v with the error", l)
			}
			if err != nil {
				noSecrets(t, err.Error(), test.key, v1, v3, v4)
			}
		})
	}
}

// noSecrets fails if the error quotes the key, or what is in it, for more than
// a few bytes.
func noSecrets(t *testing.T, text string, secrets ...string) {
	t.Helper()
	const n = 12
	for _, s := range secrets {
		s = strings.ReplaceAll(s, "test-ed25519", "") // the key ID is public
		for i := 0; i+n <= len(s); i++ {
			if strings.TrimSpace(s[i:i+n]) != "" && strings.Contains(text, s[i:i+n]) {
				t.Errorf("the error quotes %q: %s", s[i:i+n], text)
				return
			}
		}
	}
}

func flip(sig *ssh.Signature) *ssh.Signature {
	blob := slices.Clone(sig.Blob)
	blob[len(blob)/2] ^= 1
	return &ssh.Signature{Format: sig.Format, Blob: blob}
}

// padded makes a key with padding, which the original does not take either.
func padded(c originalContainer) string {
	text := encode(c)
	for len(text)%3 == 0 {
		text = append(text, ' ')
	}
	return base64.URLEncoding.EncodeToString(text)
}

// FuzzVerify: whatever comes in, nothing panics, and nothing verifies but the
// infos that were signed.
func FuzzVerify(f *testing.F) {
	for _, v := range vectors {
		key := strings.TrimSpace(readVector(f, v.name))
		f.Add(key)
		f.Add(key[:len(key)/2])
		f.Add(pack(f, string(unpack(f, key))+" "))
		f.Add(string(unpack(f, key)))
	}
	for _, text := range []string{``, `null`, `{}`, `{"sig":null,"info":null}`, `{"sig":{"Format":"ssh-rsa","Blob":"AAAA","Rest":"AA=="},"info":"e30="}`} {
		f.Add(pack(f, text))
	}
	keys := trusted(f)
	f.Fuzz(func(t *testing.T, key string) {
		// The fuzzer changes both a key's text and, where the input is a
		// container, what is inside.
		for _, k := range []string{key, base64.RawURLEncoding.EncodeToString([]byte(key))} {
			l, err := license.Verify(k, keys, license.Options{AllowSHA1: true})
			if (l == nil) == (err == nil) {
				t.Fatalf("%v and %v", l, err)
			}
			if err != nil {
				if !slices.ContainsFunc(sentinels, func(s error) bool { return errors.Is(err, s) }) {
					t.Errorf("an error of no kind: %v", err)
				}
				continue
			}
			var c originalContainer
			mustDecode(t, unpack(t, strings.Join(strings.Fields(k), "")), &c)
			if !slices.ContainsFunc(vectors, func(v vector) bool { return string(v.info) == string(c.Info) }) {
				t.Errorf("verified what was never signed: %q", c.Info)
			}
		}
	})
}

var sentinels = []error{license.ErrMalformed, license.ErrUnsupported, license.ErrUnknownKey, license.ErrSignature, license.ErrSHA1}
