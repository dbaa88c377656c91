// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package license

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"golang.org/x/crypto/ssh"
)

// minRSABits is the shortest RSA key that is trusted.
const minRSABits = 2048

// Keys are the public keys that licences are verified with. The zero value
// has none. They do not change after ParseKeys.
type Keys struct{ all []publicKey }

type publicKey struct {
	id  string
	key ssh.PublicKey
}

// Len is how many keys there are.
func (ks *Keys) Len() int { return len(ks.all) }

// ParseKeys reads public keys, one a line as in OpenSSH's authorized_keys:
// type, base64, key ID. A line without a key ID gets one made from the key.
// Empty lines and lines that begin with # are skipped. Errors name the line.
func ParseKeys(data []byte) (*Keys, error) {
	ks := &Keys{}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		k, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if ks.has(k.id) {
			return nil, fmt.Errorf("line %d: the key ID %q is taken by a line above", n, k.id)
		}
		ks.all = append(ks.all, k)
	}
	if len(ks.all) == 0 {
		return nil, errors.New("there are no public keys; put the line of a license.pub here")
	}
	return ks, nil
}

func parseKey(line []byte) (publicKey, error) {
	switch {
	case bytes.Contains(line, []byte("PRIVATE KEY")):
		return publicKey{}, errors.New("this is a private key; keep it where licences are issued, and put the line of its license.pub here")
	case bytes.HasPrefix(line, []byte("-----BEGIN")):
		return publicKey{}, errors.New("PEM is not read; convert it with: ssh-keygen -i -m PKCS8 -f FILE")
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil || len(options) != 0 {
		return publicKey{}, errors.New("this is not a public key; a line is a type, the key in base64, and a key ID, as in license.pub")
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519:
	case ssh.KeyAlgoRSA:
		bits := key.(ssh.CryptoPublicKey).CryptoPublicKey().(*rsa.PublicKey).N.BitLen()
		if bits < minRSABits {
			return publicKey{}, fmt.Errorf("an RSA key of %d bits is too short; it needs %d", bits, minRSABits)
		}
	default:
		return publicKey{}, fmt.Errorf("keys of type %s are not accepted, only %s and %s", key.Type(), ssh.KeyAlgoED25519, ssh.KeyAlgoRSA)
	}
	if comment == "" {
		comment = defaultKeyID(key)
	}
	return publicKey{comment, key}, checkKeyID(comment)
}

func (ks *Keys) has(id string) bool {
	return slices.ContainsFunc(ks.all, func(k publicKey) bool { return k.id == id })
}

// verify returns the ID of the key that made the signature. If id is not empty
// only the key with that ID counts.
func (ks *Keys) verify(id string, message []byte, sig *ssh.Signature) (string, error) {
	if id != "" && !ks.has(id) {
		return "", fmt.Errorf("%w (key ID %q)", ErrUnknownKey, id)
	}
	for _, k := range ks.all {
		if (id == "" || id == k.id) && k.key.Verify(message, sig) == nil {
			return k.id, nil
		}
	}
	return "", ErrSignature
}

// defaultKeyID makes a key ID from a public key.
func defaultKeyID(key ssh.PublicKey) string {
	sum := sha256.Sum256(key.Marshal())
	return hex.EncodeToString(sum[:8])
}

var keyIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

func checkKeyID(id string) error {
	if !keyIDForm.MatchString(id) {
		return errors.New("a key ID has 1 to 64 letters, digits, dots, dashes, underscores and at signs, and begins with a letter or digit")
	}
	return nil
}
