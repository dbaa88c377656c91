// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/oauth2/clientcredentials"
)

// TestProvider starts the provider twice: what it prints and writes gets a
// service a token, and a service that kept its secret gets one from the second.
func TestProvider(t *testing.T) {
	dir := t.TempDir()
	var first []byte
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		out, in := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			err := run(ctx, []string{"-dir", dir, "-listen", "127.0.0.1:0", "-service", "pings", "-audience", "https://telemetry.example.com"}, in)
			in.CloseWithError(err)
			ended <- err
		}()
		printed := make([]byte, 4096) // what is written at once is read at once
		n, err := out.Read(printed)
		if err != nil {
			t.Fatal(err)
		}
		printed = printed[:n]
		tokenURL := regexp.MustCompile(`-token-url (\S+)`).FindSubmatch(printed)
		file := filepath.Join(dir, "pings.secret")
		if tokenURL == nil || !bytes.Contains(printed, []byte(file)) {
			t.Fatalf("it prints:\n%s", printed)
		}
		secret, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("the secret's file has the permissions %v", info.Mode())
		}
		if bytes.Contains(printed, bytes.TrimSpace(secret)) {
			t.Errorf("it prints a secret:\n%s", printed)
		}
		if first != nil && !bytes.Equal(secret, first) {
			t.Error("started again, it has another secret")
		}
		first = secret
		config := clientcredentials.Config{
			TokenURL: string(tokenURL[1]), ClientID: "pings", ClientSecret: string(bytes.TrimSpace(secret)), Scopes: []string{scope},
			EndpointParams: url.Values{"resource": {"https://telemetry.example.com"}},
		}
		if _, err := config.Token(t.Context()); err != nil {
			t.Errorf("a token: %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it ends with %v", err)
		}
	}
}
