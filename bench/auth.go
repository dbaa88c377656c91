// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"text/tabwriter"
	"time"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/oauth"
	"github.com/telemetrygateway/telemetry/internal/observe"
)

// authentication measures what proving managed services costs, on one goroutine
// of this process, with a provider that is there too.
type authentication struct {
	provider   *provider
	identities *identity.Identities
	stop       func()
}

func newAuthentication() (*authentication, error) {
	p, err := startProvider()
	if err != nil {
		return nil, err
	}
	checks := observe.NewMetrics("bench", "bench").TokenChecks
	identities, err := identity.New(identity.Options{Services: identity.ServiceOptions{
		OAuth: oauth.Options{
			Issuer: p.issuer, IntrospectionURL: p.issuer + introspectionPath, ClientID: "gateway", ClientSecret: "secret",
			Audience: audience, Log: slog.New(slog.DiscardHandler),
			Checked: func(c oauth.Check) { checks.Add(1, c.Method, c.Result) }, // as the gateway counts them
		},
	}})
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	ctx, stop := context.WithCancel(context.Background())
	go identities.Run(ctx)
	return &authentication{p, identities, stop}, nil
}

func (a *authentication) close() error {
	a.stop()
	return a.provider.close()
}

// cells measure the check of each message of a stream and that of a unary call,
// with tokens that were checked lately, beside the least that 500 events take.
func (a *authentication) cells() ([]cell, error) {
	encode, _, _, err := encodings()
	if err != nil {
		return nil, err
	}
	events, err := newMix(1).events(sendEvents)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	service := &pb.Identifier{Identifier: &pb.Identifier_ManagedService{
		ManagedService: &pb.Identifier_ManagedServiceIdentifier{ServiceId: clientID},
	}}
	var dst []byte
	cells := []cell{{"auth/500-events", measured(1, func() error {
		now := time.Now()
		for _, e := range events {
			if dst, err = encode(dst[:0], e, now); err != nil {
				return err
			}
		}
		return nil
	})}}
	for _, kind := range []struct {
		name  string
		token func() (string, error)
	}{{"jwt", a.provider.jwt}, {"opaque", a.provider.opaque}} {
		token, err := kind.token()
		if err != nil {
			return nil, err
		}
		peer := identity.Peer{Address: netip.MustParseAddr("192.0.2.1"), Authorization: []string{"Bearer " + token}}
		sender, err := a.identities.Identify(ctx, service, peer)
		if err != nil {
			return nil, fmt.Errorf("identify a service: %w", err)
		}
		cells = append(cells,
			cell{"auth/message-" + kind.name, measured(1000, func() error { return sender.Recheck(ctx) })},
			cell{"auth/call-" + kind.name, measured(1000, func() error {
				_, err := a.identities.Identify(ctx, service, peer)
				return err
			})})
	}
	return cells, nil
}

// measured calls do for as long as it is told to, and looks at the clock after
// so many times.
func measured(times int, do func() error) func(time.Duration) (sample, error) {
	return func(d time.Duration) (sample, error) {
		runtime.GC()
		before, err := ownUsage()
		if err != nil {
			return sample{}, err
		}
		n := 0
		started := time.Now()
		for time.Since(started) < d {
			for range times {
				if err := do(); err != nil {
					return sample{}, err
				}
			}
			n += times
		}
		took := time.Since(started)
		after, err := ownUsage()
		return newSample(n, took, after.minus(before), nil), err
	}
}

const authLegend = `
Authentication of managed services, on one goroutine: "message" is the check
before each message of a stream, "call" all that a unary call needs to be let in,
both with an access token that was checked lately, as it is for all but one call
in 30 seconds. The provider signs its tokens and is asked about them too; "jwt"
is a signed token, "opaque" a text without meaning. "500-events" is the encoding
of a message of %d events, which is only a part of what the gateway does for one.

  share   of the CPU that 500-events takes
`

func (r *report) printAuth(w io.Writer, rows []*row) {
	fmt.Fprintf(w, authLegend+"\n", sendEvents)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tCPU µs\tallocs\tB\tshare %\t")
	whole := r.row("auth/500-events")
	for _, row := range rows {
		share := ""
		if s := ratio(row, whole); row != whole && s != (spread{}) {
			share = fmt.Sprintf("%.2g (%.2g–%.2g)", s.Median*100, s.Min*100, s.Max*100)
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%s\t\n", row.Name, row.spread(sample.cpu),
			figure(row.spread(func(s sample) float64 { return s.Allocs }).Median),
			figure(row.spread(func(s sample) float64 { return s.Bytes }).Median), share)
	}
	t.Flush()
}
