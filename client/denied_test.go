// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/telemetrygateway/telemetry/client"
)

var errDenied = connect.NewError(connect.CodePermissionDenied, errors.New("not with this token"))

// Old gateways deny permission when a token is not good any more, and all do
// when it was made before the client was allowed the scope. Another token may
// help, so one is asked for; but not at every call, because it may as well not.
func TestTokenIsDenied(t *testing.T) {
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect, client.Auto} {
		for _, n := range []int{1, 100} {
			t.Run(fmt.Sprintf("protocol %d, %d events", protocol, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					takes := "good-2"
					s := &server{event: acceptOne, admit: func(a string) error {
						if a != "Bearer "+takes {
							return errDenied
						}
						return nil
					}}
					source := new(numberedTokens)
					c, _ := connectedAs(t, s.handler(), "http://gateway.example.com", client.Service("pings", "", source), client.Options{
						Protocol: protocol, AllowCleartextToken: true,
					})
					if r, err := c.Send(t.Context(), numbered(n, 0)...); err != nil || r.Count(client.Accepted) != n {
						t.Errorf("%v, %v", outcomes(r), err)
					}
					takes = "none"
					began := time.Now()
					for time.Since(began) < 10*time.Minute-time.Second {
						_, err := c.Send(t.Context(), numbered(n, 0)...)
						if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != client.Refused {
							t.Fatal(err)
						}
						time.Sleep(time.Second)
					}
					if got := source.forgotten.Load(); got != 10 {
						t.Errorf("asked for another token %d times in ten minutes, want once a minute", got)
					}
					c.Close()
				})
			})
		}
	}
}

// What is denied while no other token can be had is said, and not that.
func TestDeniedWithoutAnotherToken(t *testing.T) {
	s := &server{event: acceptOne, admit: func(string) error { return errDenied }}
	c := newClient(t, s.serve(t), client.Service("pings", "", &failsAfter{1, errors.New("the provider is down")}), client.Options{})
	_, err := c.Send(t.Context(), numbered(1, 0)...)
	if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != client.Refused {
		t.Errorf("error %v, want that of the gateway", err)
	}
}
