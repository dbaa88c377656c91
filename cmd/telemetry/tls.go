// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/telemetrygateway/telemetry/internal/command"
)

// certificateInterval is how often the files of a certificate are looked at,
// at most: when a connection begins.
const certificateInterval = 10 * time.Second

// certificate is read again when its files change, so that renewing one needs
// no restart. While the files do not fit each other it stays as it is.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	checked time.Time
	cert    []byte
	key     []byte
	current *tls.Certificate
	failing string // the error already logged
}

func serverTLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("read TLS certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) > certificateInterval {
		c.reload()
	}
	return c.current, nil
}

// reload logs each error once: unnoticed, the certificate in use would expire.
func (c *certificate) reload() {
	failing := ""
	if err := c.read(); err != nil {
		failing = err.Error()
	}
	if failing != "" && failing != c.failing {
		c.log.Error("TLS certificate cannot be read again; the one from before stays in use", "error", failing)
	}
	c.failing = failing
}

func (c *certificate) read() error {
	c.checked = time.Now()
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return err
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s and %s: %w", c.certFile, c.keyFile, err)
	}
	c.cert, c.key, c.current = cert, key, &pair
	return nil
}

// trusting returns the configuration of a client that trusts, besides the
// system's authorities, those in the file of the flag -ca.
func trusting(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, command.BadConfig("read -ca: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, command.BadConfig("-ca: there is no certificate in %s: it must be PEM", file)
	}
	return &tls.Config{RootCAs: roots}, nil
}
