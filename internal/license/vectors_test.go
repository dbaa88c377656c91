// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package license_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/telemetrygateway/telemetry/internal/golden"
	"github.com/telemetrygateway/telemetry/internal/license"
)

// originalInfo and originalContainer are what the original system encodes.
type originalInfo struct {
	Version                  int       `json:"v"`
	Nonce                    [8]byte   `json:"n"`
	Tags                     []string  `json:"t"`
	Users                    uint      `json:"u"`
	CreatedAt                time.Time `json:"c"`
	ExpiresAt                time.Time `json:"e"`
	SalesforceSubscriptionID *string   `json:"sf_sub_id,omitempty"`
	SalesforceOpportunityID  *string   `json:"sf_opp_id,omitempty"`
}

type originalContainer struct {
	Signature *ssh.Signature `json:"sig"`
	Info      []byte         `json:"info"`
}

// v4Prefix is written out again, so that a change of the format is seen.
const v4Prefix = "telemetry-gateway/license/v4\x00"

var (
	created = time.Date(2024, 3, 1, 9, 30, 0, 0, time.UTC)
	expires = time.Date(2027, 3, 1, 9, 30, 0, 0, time.UTC)

	infoV1 = encode(originalInfo{
		Version: 1, Nonce: [8]byte{1, 2, 3, 4, 5, 6, 7, 250}, Tags: []string{"plan:enterprise", " stray "}, Users: 25, ExpiresAt: expires,
	})
	infoV2 = encode(originalInfo{
		Version: 2, Nonce: [8]byte{2}, Tags: []string{"plan:enterprise"}, Users: 50, ExpiresAt: expires, SalesforceSubscriptionID: new("a1a-sub"),
	})
	infoV3 = encode(originalInfo{
		Version: 3, Nonce: [8]byte{3}, Tags: nil, Users: 0, CreatedAt: created, ExpiresAt: expires,
		SalesforceSubscriptionID: new("a1a-sub"), SalesforceOpportunityID: new("006-opp"),
	})
	infoV4 = []byte(`{"v":4,"id":"018df9a4-3b00-7c3d-9e4f-0123456789ab","kid":"test-ed25519","n":[4,0,0,0,0,0,0,0],"t":["plan:enterprise"],"u":100,` +
		`"c":"2024-03-01T09:30:00Z","e":"2027-03-01T09:30:00Z","sf_sub_id":"a1a-sub"}`)
)

type vector struct {
	name, signer, algorithm, prefix string
	info                            []byte
}

// vectors are the keys in testdata/vectors.
var vectors = []vector{
	{"v1-rsa-sha1", "rsa", ssh.KeyAlgoRSA, "", infoV1},
	{"v1-rsa-sha2-256", "rsa", ssh.KeyAlgoRSASHA256, "", infoV1},
	{"v2-rsa-sha1", "rsa", ssh.KeyAlgoRSA, "", infoV2},
	{"v2-rsa-sha2-512", "rsa", ssh.KeyAlgoRSASHA512, "", infoV2},
	{"v3-rsa-sha1", "rsa", ssh.KeyAlgoRSA, "", infoV3},
	{"v3-rsa-sha2-256", "rsa", ssh.KeyAlgoRSASHA256, "", infoV3},
	{"v3-rsa-sha2-512", "rsa", ssh.KeyAlgoRSASHA512, "", infoV3},
	{"v3-ed25519", "ed25519", ssh.KeyAlgoED25519, "", infoV3},
	{"v4-ed25519", "ed25519", ssh.KeyAlgoED25519, v4Prefix, infoV4},
}

// TestVectors holds the formats: what was issued once must verify, and mean
// the same, for ever. Both kinds of signature are deterministic, so the keys
// can also be made again from the code above.
func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			key := pack(t, originalContainer{sign(t, v.signer, v.algorithm, v.prefix+string(v.info)), v.info})
			golden.Check(t, []byte(key+"\n"), filepath.Join("testdata/vectors", v.name+".key"))

			l, err := license.Verify(readVector(t, v.name), trusted(t), license.Options{AllowSHA1: true})
			if err != nil {
				t.Fatal(err)
			}
			got := encodeIndented(struct {
				*license.License
				Fingerprint string
			}{l, l.Fingerprint()})
			golden.Check(t, got, filepath.Join("testdata/vectors", v.name+".json"))

			_, err = license.Verify(readVector(t, v.name), trusted(t), license.Options{})
			if v.algorithm == ssh.KeyAlgoRSA {
				wantErr(t, err, license.ErrSHA1)
			} else if err != nil {
				t.Errorf("without AllowSHA1: %v", err)
			}
		})
	}
}

// TestWrittenByHand verifies a key whose container owes nothing to the JSON
// encoder that Verify's decoder comes with.
func TestWrittenByHand(t *testing.T) {
	info := `{"v":1,"n":[1,2,3,4,5,6,7,8],"t":["a"],"u":3,"c":"0001-01-01T00:00:00Z","e":"2020-01-01T00:00:00Z"}`
	sig := sign(t, "rsa", ssh.KeyAlgoRSA, info)
	key := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sig":{"Format":"ssh-rsa","Blob":"%s","Rest":null},"info":"%s"}`,
		base64.StdEncoding.EncodeToString(sig.Blob), base64.StdEncoding.EncodeToString([]byte(info))))
	l, err := license.Verify(key, trusted(t), license.Options{AllowSHA1: true})
	if err != nil {
		t.Fatal(err)
	}
	if l.Version != 1 || l.Users != 3 || !l.CreatedAt.IsZero() || l.ExpiresAt.Year() != 2020 || l.KeyID != "test-rsa" {
		t.Errorf("got %+v", l)
	}
}

func readVector(t testing.TB, name string) string {
	t.Helper()
	return string(readFile(t, "testdata/vectors/"+name+".key"))
}

func trusted(t testing.TB) *license.Keys {
	t.Helper()
	keys, err := license.ParseKeys(readFile(t, "testdata/keys/trusted.pub"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// sign signs with one of the keys in testdata/keys, and with nothing of the
// package under test.
func sign(t testing.TB, signer, algorithm, message string) *ssh.Signature {
	t.Helper()
	key, err := ssh.ParsePrivateKey(readFile(t, "testdata/keys/test-only-"+signer+".key"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := key.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, []byte(message), algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// pack makes a key of a container, which may be text that is already JSON.
func pack(t testing.TB, container any) string {
	t.Helper()
	text, ok := container.(string)
	if !ok {
		text = string(encode(container))
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func encodeIndented(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err)
	}
	return append(b, '\n')
}

func readFile(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
