// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// withToken is a call's message with a token.
func withToken[T any](token string, m *T) *connect.Request[T] {
	r := connect.NewRequest(m)
	if token != "" {
		r.Header().Set("Authorization", "Bearer "+token)
	}
	return r
}

func one(service string, e *pb.Event) *pb.RecordEventRequest {
	return &pb.RecordEventRequest{Metadata: managedMetadata(service), Event: e}
}

// detail returns an error's detail of m's type, or nil.
func detail[T proto.Message](t *testing.T, err error) (found T) {
	t.Helper()
	var e *connect.Error
	if errors.As(err, &e) {
		for _, d := range e.Details() {
			v, err := d.Value()
			if err != nil {
				t.Errorf("detail %s: %v", d.Type(), err)
			}
			if m, ok := v.(T); ok {
				found = m
			}
		}
	}
	return found
}

// openAs begins a stream of a service.
func (s *server) openAs(t *testing.T, service, token string) *connect.BidiStreamForClient[pb.RecordEventsRequest, pb.RecordEventsResponse] {
	t.Helper()
	stream := s.connect(t, connect.WithGRPC()).RecordEvents(t.Context())
	stream.RequestHeader().Set("Authorization", "Bearer "+token)
	if err := stream.Send(metadataMessage(managedMetadata(service))); err != nil {
		t.Fatal(err)
	}
	return stream
}

// TestServices has each kind of client make each kind of call as a service, in
// each way in which a token can be proven. The same calls with a token that
// somebody else signed are refused.
func TestServices(t *testing.T) {
	p := startProvider(t)
	both := func(o *Options, i *identity.Options, so *ServeOptions) {
		p.introspection(o, i, so)
		i.Services.OAuth.Issuer = p.URL
	}
	for how, prove := range map[string]func(*Options, *identity.Options, *ServeOptions){
		"introspection": p.introspection, "signatures": p.signatures, "both": both,
	} {
		t.Run(how, func(t *testing.T) {
			s := start(t, prove)
			token := p.token(t, "pings")
			forged := forge(token)
			sent := 0
			run := func(name string, call func(t *testing.T, token, id string) ([]string, error)) {
				sent++
				t.Run(name, func(t *testing.T) {
					if got, err := call(t, token, name); err != nil || fmt.Sprint(got) != "["+name+"]" {
						t.Errorf("succeeded events %v, %v", got, err)
					}
					code := func(err error) connect.Code {
						if s, ok := status.FromError(err); ok && err != nil {
							return connect.Code(s.Code())
						}
						return codeOfError(err)
					}
					if got, err := call(t, forged, "forged"); code(err) != connect.CodeUnauthenticated || got != nil {
						t.Errorf("with a forged token: %v, %v", got, err)
					}
				})
			}
			for wire, options := range map[string][]connect.ClientOption{
				"connect":  nil,
				"json":     {connect.WithProtoJSON()},
				"grpc":     {connect.WithGRPC()},
				"grpc-web": {connect.WithGRPCWeb()},
			} {
				client := s.connect(t, options...)
				run(wire+"-event", func(t *testing.T, token, id string) ([]string, error) {
					r, err := client.RecordEvent(t.Context(), withToken(token, one("pings", event(id))))
					if err != nil {
						return nil, err
					}
					if r.Msg.GetVerdict().GetOutcome() != accepted {
						t.Errorf("verdict %v", r.Msg.GetVerdict())
					}
					return []string{id}, nil
				})
				run(wire+"-batch", func(t *testing.T, token, id string) ([]string, error) {
					r, err := client.RecordEventBatch(t.Context(), withToken(token, &pb.RecordEventBatchRequest{Metadata: managedMetadata("pings"), Events: []*pb.Event{event(id)}}))
					if err != nil {
						return nil, err
					}
					return r.Msg.SucceededEvents, nil
				})
				run(wire+"-stream", func(t *testing.T, token, id string) ([]string, error) {
					stream := client.RecordEvents(t.Context())
					stream.RequestHeader().Set("Authorization", "Bearer "+token)
					for _, m := range []*pb.RecordEventsRequest{metadataMessage(managedMetadata("pings")), eventsMessage(event(id))} {
						if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
							t.Fatal(err)
						}
					}
					if err := stream.CloseRequest(); err != nil {
						t.Error(err)
					}
					r, err := stream.Receive()
					if err != nil {
						return nil, err
					}
					return r.SucceededEvents, nil
				})
			}
			for _, name := range []string{telemetrygatewayv1connect.TelemeteryGatewayServiceName, telemetrygatewayv1connect.TelemetryGatewayServiceName} {
				run("grpc-go-"+name[len("telemetrygateway.v1."):], func(t *testing.T, token, id string) ([]string, error) {
					ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
					err := s.grpc(t).Invoke(ctx, "/"+name+"/RecordEvent", one("pings", event(id)), new(pb.RecordEventResponse))
					if err != nil {
						return nil, err
					}
					return []string{id}, nil
				})
			}
			for _, m := range messages(t, s.topic, sent) {
				published, err := payload.Decode(m.Data)
				if err != nil {
					t.Fatal(err)
				}
				if l := published.Origin.Labels; !strings.HasPrefix(m.Key, "service/pings/") || l["publisher.source"] != "pings" || l["publisher.id"] != "pings" || l["publisher.trust"] != "service" {
					t.Errorf("message %q with %v", m.Key, l)
				}
			}
		})
	}
}

// TestServiceRefused has a row for each way not to be let in, by unary call and
// by stream.
func TestServiceRefused(t *testing.T) {
	p := startProvider(t)
	file := filepath.Join(t.TempDir(), "services.yaml")
	if err := os.WriteFile(file, []byte("services:\n- {client: c-1, service: pings, environments: [prod]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mapped := func(o *Options, i *identity.Options, so *ServeOptions) {
		p.introspection(o, i, so)
		i.Services.File = file
	}
	audience := func(o *Options, i *identity.Options, so *ServeOptions) {
		p.introspection(o, i, so)
		i.Services.OAuth.Audience = "telemetry"
	}
	broken := func(o *Options, i *identity.Options, so *ServeOptions) {
		p.introspection(o, i, so)
		i.Services.OAuth.IntrospectionURL = p.URL + "/nowhere"
	}
	good := func() string { return p.token(t, "pings") }
	revoked := func() string {
		token := p.token(t, "pings")
		p.revoke(token)
		return token
	}
	for _, row := range []struct {
		name    string
		prove   func(*Options, *identity.Options, *ServeOptions)
		token   string
		service string
		env     string
		code    connect.Code // 0 is OK
	}{
		{name: "right", prove: p.introspection, token: good()},
		{name: "right, with an environment", prove: p.introspection, token: good(), env: "prod"},
		{name: "no token", prove: p.introspection, code: connect.CodeUnauthenticated},
		{name: "not a token", prove: p.introspection, token: "a,b", code: connect.CodeUnauthenticated},
		{name: "unknown token", prove: p.introspection, token: "unknown", code: connect.CodeUnauthenticated},
		{name: "revoked", prove: p.introspection, token: revoked(), code: connect.CodeUnauthenticated},
		{name: "expired", prove: p.introspection, token: p.token(t, "pings", func(c *claims) { c.ExpiresAt -= 7200 }), code: connect.CodeUnauthenticated},
		{name: "expired, signed", prove: p.signatures, token: p.token(t, "pings", func(c *claims) { c.ExpiresAt -= 7200 }), code: connect.CodeUnauthenticated},
		{name: "without the scope", prove: p.introspection, token: p.token(t, "pings", func(c *claims) { c.Scope = "openid telemetry_gateway::events::read" }), code: connect.CodePermissionDenied},
		{name: "for another audience", prove: audience, token: p.token(t, "pings", func(c *claims) { c.Audience = []string{"billing"} }), code: connect.CodePermissionDenied},
		{name: "for our audience", prove: audience, token: p.token(t, "pings", func(c *claims) { c.Audience = []string{"billing", "telemetry"} })},
		{name: "of another service", prove: p.introspection, token: good(), service: "pongs", code: connect.CodePermissionDenied},
		{name: "as the mapped service", prove: mapped, token: p.token(t, "c-1"), env: "prod"},
		{name: "not as the client", prove: mapped, token: p.token(t, "c-1"), service: "c-1", code: connect.CodePermissionDenied},
		{name: "another environment", prove: mapped, token: p.token(t, "c-1"), env: "dev", code: connect.CodePermissionDenied},
		{name: "a client that is not mapped", prove: mapped, token: good(), code: connect.CodePermissionDenied},
		{name: "a provider that makes no sense", prove: broken, token: good(), code: connect.CodeUnavailable},
		{name: "no provider", prove: func(*Options, *identity.Options, *ServeOptions) {}, token: good(), code: connect.CodeUnimplemented},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := start(t, row.prove)
			md := managedMetadata("pings")
			if row.service != "" {
				md = managedMetadata(row.service)
			}
			if row.env != "" {
				md.GetIdentifier().GetManagedService().ServiceEnvironment = &row.env
			}
			check := func(err error) {
				t.Helper()
				if code := codeOfError(err); code != row.code {
					t.Fatalf("%v, want %v", err, row.code)
				}
				var e *connect.Error
				if !errors.As(err, &e) {
					return
				}
				if got, want := detail[*errdetails.RetryInfo](t, err) != nil, row.code == connect.CodeUnavailable; got != want {
					t.Errorf("says when to come back: %v, with %v", got, err)
				}
				if strings.Contains(err.Error(), "PROVIDERTEXT") || row.token != "" && strings.Contains(err.Error(), row.token) {
					t.Errorf("the error repeats what it must not: %v", err)
				}
			}
			_, err := s.connect(t).RecordEvent(t.Context(), withToken(row.token, &pb.RecordEventRequest{Metadata: md, Event: event("a")}))
			check(err)
			stream := s.connect(t, connect.WithGRPC()).RecordEvents(t.Context())
			if row.token != "" {
				stream.RequestHeader().Set("Authorization", "Bearer "+row.token)
			}
			for _, m := range []*pb.RecordEventsRequest{metadataMessage(md), eventsMessage(event("b"))} {
				if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			_, err = stream.Receive()
			check(err)
			published := 0
			if row.code == 0 {
				published = 2
			}
			messages(t, s.topic, published)
		})
	}
}

// TestTokenEndsDuringStream has what was true when a stream began become
// untrue. What was sent before is acknowledged, what is sent after is not taken.
func TestTokenEndsDuringStream(t *testing.T) {
	for _, row := range []struct {
		name  string
		prove func(*provider) func(*Options, *identity.Options, *ServeOptions)
		life  time.Duration // of the token
		end   func(p *provider, token string)
		code  connect.Code // 0: the stream goes on
	}{
		{"revoked", introspecting, time.Hour, (*provider).revoke, connect.CodeUnauthenticated},
		{"expired", introspecting, 50 * time.Second, nil, connect.CodeUnauthenticated},
		{"expired by its signature", signing, -50 * time.Second, nil, connect.CodeUnauthenticated}, // with 60 s of skew
		{"provider breaks down", introspecting, time.Hour, func(p *provider, _ string) { p.breakDown(true) }, connect.CodeUnavailable},
		{"nothing", introspecting, time.Hour, nil, 0},
		{"nothing, by its signature", signing, time.Hour, (*provider).revoke, 0}, // which says nothing of revocation
	} {
		t.Run(row.name, func(t *testing.T) {
			p := startProvider(t)
			s := start(t, row.prove(p))
			token := p.token(t, "pings", func(c *claims) { c.ExpiresAt = p.clock.now().Add(row.life).Unix() })
			stream := s.openAs(t, "pings", token)
			for _, id := range []string{"a", "b"} {
				if err := stream.Send(eventsMessage(event(id))); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if r, err := stream.Receive(); err != nil || len(r.SucceededEvents) != 1 {
					t.Fatal(r, err)
				}
			}
			if row.end != nil {
				row.end(p, token)
			}
			p.clock.advance(61 * time.Second)
			if err := stream.Send(eventsMessage(event("after"))); err != nil {
				t.Fatal(err)
			}
			r, err := stream.Receive()
			if code := codeOfError(err); code != row.code {
				t.Fatalf("%v, %v; want %v", r, err, row.code)
			}
			published := 2
			if row.code == 0 {
				published = 3
			}
			messages(t, s.topic, published)
		})
	}
}

func introspecting(p *provider) func(*Options, *identity.Options, *ServeOptions) {
	return p.introspection
}
func signing(p *provider) func(*Options, *identity.Options, *ServeOptions) { return p.signatures }

// TestStopWhileProviderHangs has a call wait for the provider to say who it is,
// and a stream to hear whether that still holds. Neither holds up a gateway
// that stops, and both are told to come again.
func TestStopWhileProviderHangs(t *testing.T) {
	p := startProvider(t)
	s := start(t, p.introspection, func(_ *Options, _ *identity.Options, so *ServeOptions) {
		so.StopTimeout = 4 * time.Second // less than what a check may take
	})
	token := p.token(t, "pings")
	stream := s.openAs(t, "pings", token)
	if err := stream.Send(eventsMessage(event("before"))); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); err != nil {
		t.Fatal(err)
	}
	p.hang()
	p.clock.advance(61 * time.Second)
	other := p.token(t, "pings")
	ended := make(chan error, 2)
	go func() {
		_, err := s.connect(t).RecordEvent(t.Context(), withToken(other, one("pings", event("new"))))
		ended <- err
	}()
	<-p.stuck
	if err := stream.Send(eventsMessage(event("after"))); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := stream.Receive()
		ended <- err
	}()
	<-p.stuck
	s.stop()
	for range 2 {
		if err := <-ended; connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "stopping") {
			t.Errorf("%v, want that the gateway is stopping", err)
		}
	}
	if <-s.served; s.err != nil {
		t.Error(s.err)
	}
	messages(t, s.topic, 1)
}

// TestServicesAreProven shows whose share of memory services take: not that of
// senders who proved nothing.
func TestServicesAreProven(t *testing.T) {
	p := startProvider(t)
	var s *server
	looked := make(chan struct{})
	s = start(t, p.introspection, func(o *Options, _ *identity.Options, _ *ServeOptions) {
		o.Topic = hook{o.Topic, func() {
			nothingHeld(t, s.Gateway, unlicensed)
			if share := &s.budget.shares[proven]; share.process.TryAcquire(share.processMax) {
				t.Error("a service's message is not charged to proven senders")
			}
			close(looked)
		}}
	})
	stream := s.openAs(t, "pings", p.token(t, "pings"))
	if err := stream.Send(eventsMessage(event("a"))); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); err != nil {
		t.Fatal(err)
	}
	<-looked
}

// TestGRPCGoSeesWhy has a stock client read what an error says besides its
// text.
func TestGRPCGoSeesWhy(t *testing.T) {
	p := startProvider(t)
	s := start(t, p.introspection)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+p.token(t, "pings"))
	invoke := func(ctx context.Context, e *pb.Event) *status.Status {
		const method = "/" + telemetrygatewayv1connect.TelemeteryGatewayServiceName + "/RecordEvent"
		err := s.grpc(t).Invoke(ctx, method, one("pings", e), new(pb.RecordEventResponse))
		return status.Convert(err)
	}
	bad := event("a")
	bad.Action = "No Such Form"
	refused := invoke(ctx, bad)
	if refused.Code() != codes.InvalidArgument || len(refused.Details()) != 1 {
		t.Fatalf("%v with %v", refused, refused.Details())
	}
	if v, ok := refused.Details()[0].(*pb.EventVerdict); !ok || v.Outcome != deadLettered || v.Reason != "action_invalid" || v.Field != "action" {
		t.Errorf("detail %v", refused.Details()[0])
	}
	if unknown := invoke(t.Context(), event("b")); unknown.Code() != codes.Unauthenticated {
		t.Errorf("without a token: %v", unknown)
	}
}

// TestFloodOfTokens has few of the calls with made-up tokens reach the
// provider, while a service that is known goes on.
func TestFloodOfTokens(t *testing.T) {
	p := startProvider(t)
	s := start(t, p.introspection)
	client := s.connect(t)
	token := p.token(t, "pings")
	send := func(token string) error {
		_, err := client.RecordEvent(t.Context(), withToken(token, one("pings", event("a"))))
		return err
	}
	if err := send(token); err != nil {
		t.Fatal(err)
	}
	limited := 0
	for i := range 200 { // at one instant: the clock stands still
		switch err := send(fmt.Sprintf("made-up-%d", i)); connect.CodeOf(err) {
		case connect.CodeUnauthenticated:
		case connect.CodeUnavailable, connect.CodeResourceExhausted:
			limited++
			if detail[*errdetails.RetryInfo](t, err) == nil {
				t.Errorf("no time to come back: %v", err)
			}
		default:
			t.Fatalf("let in: %v", err)
		}
		if err := send(token); err != nil {
			t.Fatalf("a service that is known: %v", err)
		}
	}
	if asked := p.asked.Load(); asked < 2 || asked > 50 || limited+int(asked) != 201 {
		t.Errorf("the provider was asked %d times and %d calls were put off", asked, limited)
	}
}
