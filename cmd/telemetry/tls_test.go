// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newCertificate returns the PEM of a certificate for name, and of its key.
func newCertificate(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func writePEM(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// served returns whose certificate a new connection is shown.
func served(t *testing.T, config *tls.Config) string {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go tls.Server(ours, config).Handshake()                             // its error is the client's, too
	client := tls.Client(theirs, &tls.Config{InsecureSkipVerify: true}) // looked at below, not trusted
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	return client.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestCertificateIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		oldCert, oldKey := newCertificate(t, "old.example")
		newCert, newKey := newCertificate(t, "new.example")
		writePEM(t, certFile, oldCert)
		writePEM(t, keyFile, oldKey)
		var log bytes.Buffer
		config, err := serverTLS(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		check := func(when, want string, errorsLogged int) {
			t.Helper()
			log.Reset()
			for range 3 {
				time.Sleep(certificateInterval + 1)
				if got := served(t, config); got != want {
					t.Errorf("%s: %s is served, want %s", when, got, want)
				}
			}
			if n := strings.Count(log.String(), "level=ERROR"); n != errorsLogged {
				t.Errorf("%s: %d errors are logged, want %d: %s", when, n, errorsLogged, &log)
			}
		}

		check("unchanged", "old.example", 0)
		writePEM(t, certFile, newCert[:len(newCert)/2])
		check("certificate half written", "old.example", 1)
		writePEM(t, certFile, newCert)
		check("key not yet written", "old.example", 1)
		writePEM(t, keyFile, nil)
		check("key empty", "old.example", 1)
		if err := os.Remove(keyFile); err != nil {
			t.Fatal(err)
		}
		check("key gone", "old.example", 1)
		writePEM(t, keyFile, newKey)
		check("both written", "new.example", 0)

		writePEM(t, certFile, oldCert)
		writePEM(t, keyFile, oldKey)
		if got := served(t, config); got != "new.example" {
			t.Errorf("the files were read again within %s", certificateInterval)
		}
		check("changed back", "old.example", 0)
	})
}

// TestOldTLSIsRefused does as a peer that knows nothing newer than TLS 1.1.
func TestOldTLSIsRefused(t *testing.T) {
	dir := t.TempDir()
	cert, key := newCertificate(t, "one.example")
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, cert)
	writePEM(t, keyFile, key)
	config, err := serverTLS(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go tls.Server(ours, config).Handshake() // its error is the client's, too
	client := tls.Client(theirs, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err := client.Handshake(); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("handshake with TLS 1.1: %v, want that the version is refused", err)
	}
}

func TestBadCertificateAtStart(t *testing.T) {
	dir := t.TempDir()
	cert, key := newCertificate(t, "one.example")
	_, otherKey := newCertificate(t, "other.example")
	path := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if content != nil {
			writePEM(t, path, content)
		}
		return path
	}
	goodCert, goodKey := path("cert.pem", cert), path("key.pem", key)
	for _, c := range []struct {
		name, cert, key string
		text            []string
	}{
		{"certificate missing", path("gone.pem", nil), goodKey, []string{"gone.pem", "no such file"}},
		{"key missing", goodCert, path("gone.pem", nil), []string{"gone.pem", "no such file"}},
		{"certificate is a folder", dir, goodKey, []string{dir, "is a directory"}},
		{"certificate is not PEM", path("text.pem", []byte("certificate\n")), goodKey, []string{"text.pem", "PEM"}},
		{"swapped", goodKey, goodCert, []string{"cert.pem", "key.pem"}},
		{"another's key", goodCert, path("other.pem", otherKey), []string{"cert.pem", "other.pem", "does not match"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := serverTLS(c.cert, c.key, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("started")
			}
			for _, text := range append(c.text, "TLS certificate") {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error is %q, want %q in it", err, text)
				}
			}
			if strings.Contains(err.Error(), string(key[30:46])) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %q, want one line that holds no key", err)
			}
		})
	}
}
