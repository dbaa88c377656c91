// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package license issues and verifies signed licence keys.
//
// Nothing that a key says is returned unless its signature verified over the
// very bytes that say it, with one exception: Claims, which may only be used to
// be stricter. Whether a licence has expired or was revoked is reported and not
// enforced: that is for the caller to decide.
//
// # Format
//
// A key is base64url, without padding, of a JSON object:
//
//	{"sig": {"Format": "ssh-ed25519", "Blob": "…", "Rest": null}, "info": "…"}
//
// sig is an SSH signature. info is base64 of the bytes that were signed, which
// are again a JSON object (see infoJSON). Version 4, the only one that Issue
// makes, is signed with Ed25519 over signedPrefix followed by info. Versions 1
// to 3, of older systems, are signed with RSA or Ed25519 over info alone. Since
// nothing tells that from a signature made for another purpose, a key that
// signs licences should sign nothing else.
package license

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

const (
	// version is the format that Issue makes and the newest that Verify knows.
	version = 4

	// signedPrefix comes before info in what a version 4 signature covers. It
	// names product and purpose, so that a signature which the same key made
	// for anything else can never pass for such a licence, nor the reverse.
	// It ends with a zero byte, so that no such prefix is the beginning of
	// another. It is not the beginning of a JSON value either: what is signed
	// here cannot be presented as the info of a version 1 to 3 key, which has
	// no prefix.
	signedPrefix = "telemetry-gateway/license/v4\x00"

	// fingerprintPrefix does the same for fingerprints.
	fingerprintPrefix = "telemetry-gateway/license-fingerprint/v1\x00"
)

// Why a key does not verify. Errors of Verify wrap one of these. Their texts
// are for whoever sent the key and hold nothing of it but the key ID.
var (
	// ErrMalformed is for a key that is damaged or was never one.
	ErrMalformed = errors.New("the licence key is damaged or cut short; copy the whole key again, unchanged")
	// ErrUnsupported is for a version or kind of signature not known here.
	ErrUnsupported = errors.New("the licence key has a form that this version does not support; ask for a new key, or update the gateway")
	// ErrUnknownKey is for a key ID that is not among the public keys.
	ErrUnknownKey = errors.New("the licence key was signed with a key that is not known here; ask the gateway's operator to add its public key, or ask for a new licence key")
	// ErrSignature is for a signature that none of the public keys made.
	ErrSignature = errors.New("the licence key's signature does not match; copy the whole key again, or ask for a new one")
	// ErrSHA1 is for a signature with SHA-1 where that is not allowed.
	ErrSHA1 = errors.New("the licence key is signed with SHA-1, which is not allowed here; ask for a new key, or have the gateway's operator set -license-allow-sha1")
)

// Info is what an issuer decides about a licence.
type Info struct {
	Tags      []string // such as "plan:enterprise"
	Users     uint64   // how many users are paid for
	CreatedAt time.Time
	ExpiresAt time.Time
	// IDs in Salesforce, or empty.
	SalesforceSubscriptionID string
	SalesforceOpportunityID  string
}

// HasTag reports whether the licence has a tag. Spaces around tags do not
// count: keys in the field have stray ones.
func (i *Info) HasTag(tag string) bool {
	return slices.ContainsFunc(i.Tags, func(t string) bool {
		return strings.TrimSpace(t) == strings.TrimSpace(tag)
	})
}

// Expired reports whether the licence's time was over before now.
func (i *Info) Expired(now time.Time) bool { return i.ExpiresAt.Before(now) }

// License is what a verified key says.
type License struct {
	Info
	// Version is the key's format, 1 to 4.
	Version int
	// ID is a UUIDv7, and empty before version 4.
	ID string
	// KeyID names the public key that verified the signature.
	KeyID string
	// Algorithm is the kind of signature, such as "ssh-ed25519". "ssh-rsa"
	// means RSA with SHA-1.
	Algorithm string

	fingerprint string
}

// Fingerprint names the licence without giving away its key, as "sha256:"
// and 64 hexadecimal digits. Every key text of one licence has the same.
//
// It is taken from the signed bytes and not from the key's text, for two
// reasons. The text can be changed without touching the signature (spaces in
// the JSON, unused bits of the base64), which would slip past a revocation.
// And the SHA-256 of the text, after "slk_", is a bearer token of older
// systems, which must not be published.
func (l *License) Fingerprint() string { return l.fingerprint }

// container is the outer JSON object of a key.
type container struct {
	Signature *ssh.Signature `json:"sig"`
	Info      []byte         `json:"info"`
}

// infoJSON is the inner one: the bytes that are signed.
type infoJSON struct {
	Version   int       `json:"v"`
	ID        string    `json:"id,omitempty"`
	KeyID     string    `json:"kid,omitempty"`
	Nonce     [8]byte   `json:"n"` // makes keys of before version 4 differ
	Tags      []string  `json:"t"`
	Users     uint64    `json:"u"`
	CreatedAt time.Time `json:"c"` // zero in versions 1 and 2
	ExpiresAt time.Time `json:"e"`

	SalesforceSubscriptionID *string `json:"sf_sub_id,omitempty"`
	SalesforceOpportunityID  *string `json:"sf_opp_id,omitempty"`
}

// Options change what Verify accepts.
type Options struct {
	// AllowSHA1 accepts RSA signatures with SHA-1. Collisions of SHA-1 can be
	// had for money, so this is for the time until old keys are replaced.
	AllowSHA1 bool
}

// Verify checks the signature of a key and returns what it says. White space
// anywhere in the key is ignored. Errors wrap one of the Err variables. A
// licence that has expired or was revoked verifies like any other.
func Verify(key string, keys *Keys, o Options) (*License, error) {
	sig, signed, err := decode(key)
	if err != nil {
		return nil, err
	}
	info, err := decodeInfo(signed)
	if err != nil {
		return nil, err
	}
	// Until the signature has been verified, info.Version and info.KeyID may
	// be a forger's. All they choose is how to verify.
	if err := checkAlgorithm(sig.Format, info.Version, o); err != nil {
		return nil, err
	}
	message := signed
	if info.Version >= 4 {
		message = slices.Concat([]byte(signedPrefix), signed)
	}
	keyID, err := keys.verify(info.KeyID, message, sig)
	if err != nil {
		return nil, err
	}
	return newLicense(info, keyID, sig.Format, signed), nil
}

// decode takes a key apart, without trusting any of it.
func decode(key string) (sig *ssh.Signature, signed []byte, err error) {
	if len(key) > limits.LicenseKeyBytes {
		return nil, nil, fmt.Errorf("%w (it has more than %d bytes)", ErrMalformed, limits.LicenseKeyBytes)
	}
	key = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, key)
	if key == "" {
		return nil, nil, fmt.Errorf("%w (it is empty)", ErrMalformed)
	}
	text, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil {
		return nil, nil, fmt.Errorf("%w (it is not base64url without padding)", ErrMalformed)
	}
	var c container
	// Errors of encoding/json can quote what they read, so they stay here.
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, nil, fmt.Errorf("%w (it is not the JSON of a licence key)", ErrMalformed)
	}
	switch {
	case c.Signature == nil || len(c.Signature.Blob) == 0:
		return nil, nil, fmt.Errorf("%w (it has no signature)", ErrMalformed)
	case len(c.Signature.Rest) != 0:
		// Rest carries the flags of hardware keys, which are not used here.
		return nil, nil, fmt.Errorf("%w (its signature has more than one part)", ErrMalformed)
	case len(c.Info) == 0:
		return nil, nil, fmt.Errorf("%w (it has no info)", ErrMalformed)
	}
	return c.Signature, c.Info, nil
}

// decodeInfo reads info, without trusting any of it.
func decodeInfo(signed []byte) (*infoJSON, error) {
	// The version comes first: a newer one may give other fields another form.
	var head struct {
		Version json.RawMessage `json:"v"`
	}
	if err := json.Unmarshal(signed, &head); err != nil {
		return nil, fmt.Errorf("%w (its info is not JSON)", ErrMalformed)
	}
	if v := head.Version; len(v) != 1 || v[0] < '1' || v[0] > '0'+version {
		return nil, fmt.Errorf("%w (only versions 1 to %d)", ErrUnsupported, version)
	}
	var info infoJSON
	if err := json.Unmarshal(signed, &info); err != nil {
		return nil, fmt.Errorf("%w (a field of its info is wrong)", ErrMalformed)
	}
	if info.Version < 4 {
		info.ID, info.KeyID = "", "" // not part of these versions
		return &info, nil
	}
	if id, err := uuid.Parse(info.ID); err != nil || id.String() != info.ID {
		return nil, fmt.Errorf("%w (its licence ID is wrong)", ErrMalformed)
	}
	if checkKeyID(info.KeyID) != nil {
		return nil, fmt.Errorf("%w (its key ID is wrong)", ErrMalformed)
	}
	return &info, nil
}

// checkAlgorithm says whether a kind of signature is accepted at all. That it
// fits the key is for the key to check.
func checkAlgorithm(format string, version int, o Options) error {
	switch {
	case format == ssh.KeyAlgoED25519:
		return nil
	case version >= 4:
		return fmt.Errorf("%w (version %d is signed with Ed25519)", ErrUnsupported, version)
	case format == ssh.KeyAlgoRSASHA256, format == ssh.KeyAlgoRSASHA512:
		return nil
	case format == ssh.KeyAlgoRSA: // as the format of a signature: with SHA-1
		if o.AllowSHA1 {
			return nil
		}
		return ErrSHA1
	}
	return fmt.Errorf("%w (its kind of signature)", ErrUnsupported)
}

// newLicense is called once the signature has been verified over signed.
func newLicense(i *infoJSON, keyID, algorithm string, signed []byte) *License {
	sum := sha256.Sum256(slices.Concat([]byte(fingerprintPrefix), signed))
	l := &License{
		Info: i.info(), ID: i.ID, KeyID: keyID, Algorithm: algorithm,
		fingerprint: "sha256:" + hex.EncodeToString(sum[:]),
	}
	switch {
	case i.Version >= 4:
		l.Version = i.Version
	// Older issuers wrote versions that do not always fit what is there.
	case i.SalesforceSubscriptionID == nil:
		l.Version = 1
	case i.CreatedAt.IsZero():
		l.Version = 2
	default:
		l.Version = 3
	}
	return l
}

func (i *infoJSON) info() Info {
	info := Info{Tags: i.Tags, Users: i.Users, CreatedAt: i.CreatedAt, ExpiresAt: i.ExpiresAt}
	if i.SalesforceSubscriptionID != nil {
		info.SalesforceSubscriptionID = *i.SalesforceSubscriptionID
	}
	if i.SalesforceOpportunityID != nil {
		info.SalesforceOpportunityID = *i.SalesforceOpportunityID
	}
	return info
}
