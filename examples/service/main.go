// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Command service is a small product to copy from: a page on which people ask
// each other things, its backend, and telemetry of both.
//
//	app.ts ─► Connect ─► intake ─┐                ┌ buffer ┐
//	                             ├─► recorder ─►──┤        ├─► gateway
//	app.ts ─► api.go ────────────┘                └ queue ─┘
//	          visitor.go: who acts               road.go: with our credentials
//
// It imports only public packages. Read this file first, then visitor.go, api.go
// and road.go; polls.go and page.go are the product's own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/intake"
)

const (
	version     = "1.0.0"
	stopTimeout = 10 * time.Second // for requests under way, and again for events
)

type config struct {
	listen, publicURL                        string
	gateway, service, environment, db        string
	tokenURL, clientID, secretFile, audience string
}

func main() {
	var c config
	flag.StringVar(&c.listen, "listen", "127.0.0.1:6070", "`address` to serve the page on")
	flag.StringVar(&c.publicURL, "public-url", "", "`URL` that people reach the page at; with https cookies are Secure")
	flag.StringVar(&c.gateway, "gateway", "http://127.0.0.1:6080", "`URL` of the telemetry gateway")
	flag.StringVar(&c.service, "service", "polls", "`ID` that the gateway knows this service by")
	flag.StringVar(&c.environment, "environment", "dev", "`name` of this deployment, such as dev or prod")
	flag.StringVar(&c.tokenURL, "token-url", "", "`URL` at which the OAuth provider gives out tokens")
	flag.StringVar(&c.clientID, "client-id", "", "`ID` that the provider knows this service by")
	flag.StringVar(&c.secretFile, "client-secret-file", "", "`file` with the secret for -client-id")
	flag.StringVar(&c.audience, "audience", "", "`URI` of the gateway at the provider, if its tokens are for one")
	flag.StringVar(&c.db, "db", "", "SQLite `file` that keeps events until they are sent; without it they are kept in memory, and a crash loses some")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), `A page on which people ask each other things. What they do is sent to a telemetry
gateway, by a client ID and secret of an OAuth 2.0 provider:

  service -gateway https://telemetry.example.com -service polls -environment prod \
    -token-url https://login.example.com/oauth/token -client-id ID -client-secret-file secret

make example starts it together with a gateway and a provider.

`)
		flag.PrintDefaults()
	}
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	if err := run(ctx, c, log); err != nil {
		log.Error("the service ended", "error", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. It stops in the order in which events flow:
// requests, then sending.
func run(ctx context.Context, c config, log *slog.Logger) error {
	site, err := page()
	if err != nil {
		return err
	}
	id, err := identity(c)
	if err != nil {
		return err
	}
	way, err := newRoad(ctx, c, id, log)
	if err != nil {
		return fmt.Errorf("prepare to send events: %w", err)
	}
	// Every event goes past the visitor's consent, whoever recorded it.
	recorder := telemetry.New(telemetry.Options{
		ServerVersion: version,
		OnError:       func(_ context.Context, err error) { log.Warn("not recorded", "error", err) },
	}, consenting{way.store})

	listener, err := net.Listen("tcp", c.listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes(c, site, recorder, log), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	sent := make(chan error, 1)
	go func() { sent <- way.run(sending) }()
	log.Info("service started", "listen", listener.Addr().String(), "gateway", c.gateway, "service", c.service, "environment", c.environment)

	select {
	case err = <-served: // it does not end by itself, unless something is wrong
	case <-ctx.Done():
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = server.Shutdown(bound)
	}
	// Whatever was recorded is recorded. Send the rest.
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	stopSending()
	err = errors.Join(err, <-sent, way.finish(bound))
	log.Info("service stopped")
	return err
}

// routes are all that this service answers.
func routes(c config, site http.Handler, recorder *telemetry.Recorder, log *slog.Logger) http.Handler {
	product := http.NewServeMux()
	(&api{polls: newPolls(), recorder: recorder}).handle(product)
	// The page's own events arrive at this door. It has limits and origin rules
	// of its own; who acts is what visitors puts into the context.
	door, events := intake.Connect(recorder, intake.Options{Logger: log})

	secure := strings.HasPrefix(c.publicURL, "https:")
	mux := http.NewServeMux()
	mux.Handle("/", visitors(secure, site))
	mux.Handle("/api/", visitors(secure, http.NewCrossOriginProtection().Handler(product)))
	mux.Handle(door, visitors(secure, events))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

// identity is who this service is to the gateway, and how it proves that. A
// token is fetched when it is needed, and renewed before it expires.
func identity(c config) (client.Identity, error) {
	if c.tokenURL == "" || c.clientID == "" || c.secretFile == "" {
		return client.Identity{}, errors.New("set -token-url, -client-id and -client-secret-file, which the OAuth provider's operator gives you; or run make example, which has a provider")
	}
	secret, err := os.ReadFile(c.secretFile)
	if err != nil {
		return client.Identity{}, fmt.Errorf("read -client-secret-file: %w", err)
	}
	credentials := client.ClientCredentials{
		TokenURL: c.tokenURL, ClientID: c.clientID, ClientSecret: strings.TrimSpace(string(secret)),
	}
	if c.audience != "" {
		credentials.Params = url.Values{"resource": {c.audience}} // RFC 8707; some providers want Audience instead
	}
	tokens, err := credentials.TokenSource()
	if err != nil {
		return client.Identity{}, fmt.Errorf("-token-url, -client-id: %w", err)
	}
	return client.Service(c.service, c.environment, tokens), nil
}
