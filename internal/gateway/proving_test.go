// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// TestClientIsUnlistedDuringStream takes a client from the services file while
// it has a stream open. Its next message is not taken.
func TestClientIsUnlistedDuringStream(t *testing.T) {
	p := startProvider(t)
	file := filepath.Join(t.TempDir(), "services.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("services: [{client: c-1, service: pings}, {client: c-2, service: pings}]")
	s := start(t, p.introspection, func(_ *Options, i *identity.Options, _ *ServeOptions) {
		i.Services.File = file
	})
	unlisted, listed := s.openAs(t, "pings", p.token(t, "c-1")), s.openAs(t, "pings", p.token(t, "c-2"))
	send := func(stream *connect.BidiStreamForClient[pb.RecordEventsRequest, pb.RecordEventsResponse], id string) error {
		if err := stream.Send(eventsMessage(event(id))); err != nil {
			t.Fatal(err)
		}
		_, err := stream.Receive()
		return err
	}
	if err := errors.Join(send(unlisted, "a"), send(listed, "b")); err != nil {
		t.Fatal(err)
	}
	write("services: [{client: c-2, service: pings}]")
	if err := s.o.Identities.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := send(unlisted, "c"); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a client that is not listed any more: %v", err)
	}
	if err := send(listed, "d"); err != nil {
		t.Errorf("a client that still is: %v", err)
	}
	messages(t, s.topic, 3)
}

// TestInstancesNeedNoToken has instances send an authorization header, as one
// may that stands behind a proxy. It is nobody's business, least of all the
// provider's.
func TestInstancesNeedNoToken(t *testing.T) {
	p := startProvider(t)
	s := start(t, p.introspection)
	for name, md := range map[string]*pb.RecordEventsRequestMetadata{"licensed": s.licensedMetadata(), "unlicensed": unlicensedMetadata("site")} {
		r := withToken("made-up", &pb.RecordEventBatchRequest{Metadata: md, Events: []*pb.Event{event(name)}})
		if _, err := s.connect(t).RecordEventBatch(t.Context(), r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		stream := s.connect(t, connect.WithGRPC()).RecordEvents(t.Context())
		stream.RequestHeader().Set("Authorization", "Bearer made-up")
		for _, m := range []*pb.RecordEventsRequest{metadataMessage(md), eventsMessage(event(name))} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := stream.Receive(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := p.asked.Load(); n > 0 {
		t.Errorf("the provider was asked %d times", n)
	}
	messages(t, s.topic, 4)
}

// TestProvingHoldsUpNobody has calls of services wait for the provider with
// messages that take all the memory there is for unary calls. An instance,
// which needs no provider, is served meanwhile; and when too many wait already,
// the next does not.
func TestProvingHoldsUpNobody(t *testing.T) {
	p := startProvider(t)
	s := start(t, p.introspection, func(o *Options, _ *identity.Options, _ *ServeOptions) {
		o.InFlightBytes = limits.InFlightMinBytes
	})
	p.hang()
	send := func(token string) error {
		_, err := s.connect(t).RecordEvent(t.Context(), withToken(token, one("pings", large("large", 1<<20))))
		return err
	}
	ended := make(chan error, 1)
	first, second := p.token(t, "pings"), p.token(t, "pings")
	go func() { ended <- send(first) }()
	<-p.stuck
	if _, err := s.connect(t).RecordEventBatch(t.Context(), connect.NewRequest(&pb.RecordEventBatchRequest{
		Metadata: unlicensedMetadata("site"), Events: []*pb.Event{event("a")},
	})); err != nil {
		t.Error(err)
	}
	if err := send(second); connect.CodeOf(err) != connect.CodeUnavailable || detail[*errdetails.RetryInfo](t, err) == nil {
		t.Errorf("one too many: %v, want to be told when to come back", err)
	}
	if len(ended) > 0 {
		t.Fatalf("the others were served after the first had ended: %v", <-ended)
	}
	p.answer()
	if err := <-ended; err != nil {
		t.Errorf("who waited: %v", err)
	}
	if err := send("made-up"); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("who waited in vain: %v", err)
	}
	messages(t, s.topic, 2)
	s.stop()
	<-s.served
	nothingHeld(t, s.Gateway, unproven)
}
