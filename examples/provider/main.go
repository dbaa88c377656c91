// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Command provider runs a real OAuth provider on this machine, for trying out
// how a managed service proves to a gateway who it is. It is Debian's Glewlwyd,
// with two clients: the gateway, which asks about tokens, and the service, which
// gets them. It is not set up to be reached by anybody else.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/telemetrygateway/telemetry/internal/oauth/glewlwyd"
)

const scope = "telemetry_gateway::events::write"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "provider:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("provider", flag.ExitOnError)
	dir := flags.String("dir", "data/provider", "`folder` of everything that the provider keeps, and of its clients' secrets")
	listen := flags.String("listen", "127.0.0.1:6071", "IPv4 `address` to serve on; port 0 is any free one")
	service := flags.String("service", "polls", "client `ID` of the service")
	audience := flags.String("audience", "", "`URI` of the gateway, if the service's tokens are to be for it alone")
	_ = flags.Parse(args) // it exits
	address, err := netip.ParseAddrPort(*listen)
	if err != nil || !address.Addr().Is4() {
		return fmt.Errorf("-listen %s: want an IPv4 address and a port, such as 127.0.0.1:6071", *listen)
	}
	p, err := glewlwyd.StartAt(*dir, address)
	if err != nil {
		return err
	}
	defer p.Stop()
	clients := []glewlwyd.Client{{ID: "gateway"}, {ID: *service, Scopes: []string{scope}, Audience: *audience}}
	for i := range clients {
		c := &clients[i]
		if c.Secret, err = secret(secretFile(*dir, c.ID)); err != nil {
			return fmt.Errorf("secret of client %s: %w", c.ID, err)
		}
		if err := p.AddClient(*c); err != nil {
			return err
		}
	}
	explain(stdout, p, *dir, *service, *audience)
	select {
	case <-ctx.Done():
		return nil
	case <-p.Ended():
		return fmt.Errorf("the provider ended by itself; its log is %s", filepath.Join(*dir, "log"))
	}
}

func secretFile(dir, client string) string { return filepath.Join(dir, client+".secret") }

// secret reads a secret from a file. It makes one if there is none, so that a
// gateway and a service that were started with it outlive this process.
func secret(file string) (string, error) {
	switch b, err := os.ReadFile(file); {
	case err == nil && strings.TrimSpace(string(b)) != "":
		return strings.TrimSpace(string(b)), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	s := rand.Text()
	return s, os.WriteFile(file, []byte(s+"\n"), 0o600)
}

// explain prints the commands that use the provider. Nothing in them is secret.
func explain(w io.Writer, p *glewlwyd.Provider, dir, service, audience string) {
	gateway, send := "", ""
	if audience != "" {
		gateway, send = " \\\n    -oauth-audience "+audience, " \\\n    -audience "+audience
	}
	fmt.Fprintf(w, `provider ready: %[1]s

A gateway that takes its tokens:

  telemetry gateway -oauth-issuer %[1]s \
    -oauth-introspection-url %[2]s \
    -oauth-client-id gateway -oauth-client-secret-file %[3]s%[4]s

An event from the service %[5]s:

  telemetry send -count 1 -gateway http://127.0.0.1:6080 -service %[5]s \
    -token-url %[6]s \
    -client-id %[5]s -client-secret-file %[7]s%[8]s

Ctrl-C ends the provider, and with it every token.
`, p.Issuer(), p.IntrospectionURL(), secretFile(dir, "gateway"), gateway, service, p.TokenURL(), secretFile(dir, service), send)
}
