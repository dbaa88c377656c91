// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/oauth"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
)

// TestServiceInTheField sends as services in the field do, which need no change:
// grpc-go over TLS, a source of tokens that gives each call its header, pings on
// idle connections, and either name of the service.
func TestServiceInTheField(t *testing.T) {
	authority := httptest.NewTLSServer(nil)
	defer authority.Close()
	p := startProvider(t)
	s := start(t, p.introspection, func(_ *Options, _ *identity.Options, o *ServeOptions) {
		o.TLS = &tls.Config{Certificates: authority.TLS.Certificates}
	})
	roots := x509.NewCertPool()
	roots.AddCert(authority.Certificate())
	dial := func(token *oauth2.Token) *grpc.ClientConn {
		conn, err := grpc.NewClient(s.address,
			grpc.WithPerRPCCredentials(oauth.TokenSource{TokenSource: oauth2.StaticTokenSource(token)}),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
			grpc.WithIdleTimeout(time.Minute),
			grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, "example.com")))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	record := func(conn *grpc.ClientConn, service, id string) error {
		return conn.Invoke(t.Context(), "/"+service+"/RecordEvent", one("pings", event(id)), new(pb.RecordEventResponse))
	}
	expiry := p.clock.now().Add(time.Hour)
	conn := dial(&oauth2.Token{AccessToken: p.token(t, "pings"), TokenType: "bearer", Expiry: expiry})
	for _, service := range []string{telemetrygatewayv1connect.TelemetryGatewayServiceName, telemetrygatewayv1connect.TelemeteryGatewayServiceName} {
		if err := record(conn, service, "unary"); err != nil {
			t.Errorf("%s: %v", service, err)
		}
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+service+"/RecordEvents")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*pb.RecordEventsRequest{metadataMessage(managedMetadata("pings")), eventsMessage(event("a"), event("b"))} {
			if err := stream.SendMsg(m); err != nil {
				t.Fatal(err)
			}
		}
		var r pb.RecordEventsResponse
		if err := stream.RecvMsg(&r); err != nil || fmt.Sprint(r.SucceededEvents) != "[a b]" {
			t.Errorf("%s: %v, %v", service, r.SucceededEvents, err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
	}
	forged := dial(&oauth2.Token{AccessToken: forge(p.token(t, "pings")), Expiry: expiry})
	if err := record(forged, telemetrygatewayv1connect.TelemetryGatewayServiceName, "forged"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("with a forged token: %v", err)
	}
	messages(t, s.topic, 6)
}
