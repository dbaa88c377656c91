// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package license

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Issue returns a new licence key, signed by s, with an ID of its own.
func Issue(s *Signer, i Info) (string, error) {
	if !i.ExpiresAt.After(i.CreatedAt) {
		return "", errors.New("issue licence: it must expire after it was created")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("issue licence: make ID: %w", err)
	}
	info := infoJSON{
		Version: version, ID: id.String(), KeyID: s.id, Tags: i.Tags, Users: i.Users,
		CreatedAt: i.CreatedAt.UTC(), ExpiresAt: i.ExpiresAt.UTC(),
	}
	rand.Read(info.Nonce[:])
	if i.SalesforceSubscriptionID != "" {
		info.SalesforceSubscriptionID = &i.SalesforceSubscriptionID
	}
	if i.SalesforceOpportunityID != "" {
		info.SalesforceOpportunityID = &i.SalesforceOpportunityID
	}
	signed, err := json.Marshal(info)
	if err != nil {
		return "", fmt.Errorf("issue licence: %w", err)
	}
	sig, err := s.key.Sign(rand.Reader, slices.Concat([]byte(signedPrefix), signed))
	if err != nil {
		return "", fmt.Errorf("issue licence: sign: %w", err)
	}
	c, err := json.Marshal(container{Signature: sig, Info: signed})
	if err != nil {
		return "", fmt.Errorf("issue licence: %w", err)
	}
	key := base64.RawURLEncoding.EncodeToString(c)
	if len(key) > limits.LicenseKeyBytes {
		return "", fmt.Errorf("issue licence: the key would have %d bytes, more than %d; use fewer or shorter tags", len(key), limits.LicenseKeyBytes)
	}
	return key, nil
}

// Signer signs licences.
type Signer struct {
	id  string
	key ssh.Signer
}

// KeyID returns the ID that issued licences name.
func (s *Signer) KeyID() string { return s.id }

// PublicKey returns the line that ParseKeys needs to verify issued licences.
func (s *Signer) PublicKey() []byte {
	line := bytes.TrimSuffix(ssh.MarshalAuthorizedKey(s.key.PublicKey()), []byte("\n"))
	return fmt.Appendf(line, " %s\n", s.id)
}

// GenerateKey makes a private key in OpenSSH's format, to be given to
// ParseSigner. If id is empty the key's ID is made from the key.
func GenerateKey(id string) (private []byte, err error) {
	if id != "" {
		if err := checkKeyID(id); err != nil {
			return nil, err
		}
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, id)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// ParseSigner reads an Ed25519 private key. Its ID is the comment inside
// OpenSSH's format, which is also what ssh-keygen writes into the public key;
// other formats and empty comments give the ID that ParseKeys would make.
func ParseSigner(private []byte) (*Signer, error) {
	key, err := ssh.ParsePrivateKey(private)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, errors.New("it has a passphrase; remove it from a copy with: ssh-keygen -p -N '' -f FILE")
	} else if err != nil {
		return nil, errors.New("this is not a private key; make one with: telemetry license keygen -out DIR")
	}
	if t := key.PublicKey().Type(); t != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("new licences are signed with a key of type %s and not %s; make a key with: telemetry license keygen -out DIR", ssh.KeyAlgoED25519, t)
	}
	id := privateKeyComment(private)
	if id == "" {
		id = defaultKeyID(key.PublicKey())
	}
	if err := checkKeyID(id); err != nil {
		return nil, err
	}
	return &Signer{id, key}, nil
}

// privateKeyComment returns the comment of an Ed25519 key in OpenSSH's format,
// which the ssh package reads over. Its layout is in PROTOCOL.key of OpenSSH.
func privateKeyComment(private []byte) string {
	block, _ := pem.Decode(private)
	if block == nil {
		return ""
	}
	data, ok := bytes.CutPrefix(block.Bytes, []byte("openssh-key-v1\x00"))
	var file struct {
		Cipher, KDF, KDFOptions string
		Keys                    uint32
		Public, Private         []byte
		Rest                    []byte `ssh:"rest"`
	}
	var key struct {
		Check1, Check2  uint32
		Type            string
		Public, Private []byte
		Comment         string
		Padding         []byte `ssh:"rest"`
	}
	if !ok || ssh.Unmarshal(data, &file) != nil || ssh.Unmarshal(file.Private, &key) != nil {
		return ""
	}
	return key.Comment
}
