// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/license"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/watch"
)

// LicenseOptions says which licence keys are trusted.
type LicenseOptions struct {
	// KeysFile holds the public keys. Without one, no licensed instance is let
	// in. RevokedFile, if set, holds what is no longer trusted. Both are read
	// again when they change, and should be changed by renaming a new file over
	// the old one: one that is cut off at the end of a line looks whole.
	KeysFile, RevokedFile string
	// AllowSHA1 accepts signatures of the form ssh-rsa.
	AllowSHA1 bool
	// DenyExpired refuses expired licences, which are otherwise let in and
	// labelled.
	DenyExpired bool
	// Log is told about files that changed or cannot be read again. Loaded, if
	// set, is called after every look at a file, "keys" or "revoked", with how
	// many entries it has, or with what is wrong with it.
	Log    *slog.Logger
	Loaded func(file string, entries int, err error)
}

// reloadInterval is how often files are looked at. A revocation takes this
// long to work.
const reloadInterval = 5 * time.Second

// licensed lets in instances with a licence key.
type licensed struct {
	o       LicenseOptions
	now     func() time.Time
	keys    atomic.Pointer[license.Keys] // nil without KeysFile
	revoked atomic.Pointer[license.Revoked]

	mu    sync.Mutex // for files
	files []*watch.File
}

func newLicensed(o LicenseOptions, now func() time.Time) (*licensed, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Loaded == nil {
		o.Loaded = func(string, int, error) {}
	}
	if o.KeysFile == "" && o.RevokedFile != "" {
		return nil, errors.New("revoked licences without licence keys: set -license-keys too, or drop -license-revoked")
	}
	l := &licensed{o: o, now: now}
	l.revoked.Store(new(license.Revoked))
	if o.KeysFile != "" {
		if err := l.watch("keys", o.KeysFile, l.takeKeys); err != nil {
			return nil, err
		}
	}
	if o.RevokedFile != "" {
		if err := l.watch("revoked", o.RevokedFile, l.takeRevoked); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// watch reads a file, and again when it changes. take returns how many entries
// it has.
func (l *licensed) watch(name, path string, take func([]byte) (int, error)) error {
	entries := 0
	f := &watch.File{
		Path: path,
		Take: func(content []byte) error {
			n, err := take(content)
			if err == nil {
				entries = n
			}
			return err
		},
		Looked: func(err error) {
			if err != nil {
				l.o.Loaded(name, 0, err)
				return
			}
			l.o.Loaded(name, entries, nil)
		},
	}
	if _, err := f.Read(); err != nil {
		return fmt.Errorf("licence files: read %s: %w", name, err)
	}
	l.files = append(l.files, f)
	return nil
}

func (l *licensed) takeKeys(content []byte) (int, error) {
	keys, err := license.ParseKeys(content)
	if err != nil {
		return 0, err
	}
	l.keys.Store(keys)
	return keys.Len(), nil
}

func (l *licensed) takeRevoked(content []byte) (int, error) {
	revoked, err := license.ParseRevoked(content)
	if err != nil {
		return 0, err
	}
	l.revoked.Store(revoked)
	return revoked.Len(), nil
}

// run rereads the files until ctx ends.
func (l *licensed) run(ctx context.Context) {
	tick := time.NewTicker(reloadInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_ = l.reload() // which has logged it
	}
}

func (l *licensed) reload() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, f := range l.files {
		_, err := f.Reload(l.o.Log)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (l *licensed) identify(id *telemetrygatewayv1.Identifier_LicensedInstanceIdentifier) (*Sender, error) {
	if err := checkInstance("licensed_instance", id.GetInstanceId(), id.GetExternalUrl()); err != nil {
		return nil, err
	}
	key := id.GetLicenseKey()
	if len(key) > limits.LicenseKeyBytes {
		return nil, refuse(Malformed, "licensed_instance.license_key has %d bytes; at most %d are allowed", len(key), limits.LicenseKeyBytes)
	}
	keys := l.keys.Load()
	if keys == nil {
		return nil, refuse(Unsupported, "this gateway was started without -license-keys and cannot check licence keys; send as an unlicensed instance, or ask its operator")
	}
	lic, err := l.verify(key, keys)
	if err != nil {
		return nil, err
	}
	if err := l.check(lic); err != nil {
		return nil, err
	}
	status := "valid"
	if lic.Expired(l.now()) {
		status = "expired"
	}
	name := lic.ID
	if name == "" {
		name = lic.Fingerprint()
	}
	return &Sender{
		Kind:          LicensedInstance,
		ID:            id.GetInstanceId(),
		Scope:         "license/" + url.PathEscape(name) + "/" + url.PathEscape(id.GetInstanceId()),
		License:       lic,
		LicenseStatus: status,
		recheck: func(context.Context) error {
			if now := l.keys.Load(); now != keys { // it may be our key that was removed
				if _, err := l.verify(key, now); err != nil {
					return err
				}
			}
			return l.check(lic)
		},
	}, nil
}

func (l *licensed) verify(key string, keys *license.Keys) (*license.License, error) {
	lic, err := license.Verify(key, keys, license.Options{AllowSHA1: l.o.AllowSHA1})
	switch {
	case errors.Is(err, license.ErrMalformed), errors.Is(err, license.ErrUnsupported):
		return nil, refuse(Malformed, "%v", err)
	case err != nil:
		return nil, refuse(BadSignature, "%v", err)
	}
	return lic, nil
}

// check refuses a licence, known to be real, that does not count any more.
func (l *licensed) check(lic *license.License) error {
	if l.revoked.Load().Has(lic) {
		return refuse(Revoked, "this licence has been revoked; ask the vendor for a new key")
	}
	if l.o.DenyExpired && lic.Expired(l.now()) {
		return refuse(Expired, "this licence expired on %s; ask the vendor for a new key", lic.ExpiresAt.UTC().Format(time.DateOnly))
	}
	return nil
}
