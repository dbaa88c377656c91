// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
)

// TestTLS streams over HTTP/2 with TLS, and sends a batch over HTTP/1.1 with
// it. In cleartext it is refused.
func TestTLS(t *testing.T) {
	authority := httptest.NewTLSServer(nil)
	defer authority.Close()
	s := start(t, func(_ *Options, _ *identity.Options, o *ServeOptions) {
		o.TLS = &tls.Config{Certificates: authority.TLS.Certificates}
	})
	url := "https://" + s.address
	trusting := authority.Client() // HTTP/1.1
	http1 := telemetrygatewayv1connect.NewTelemetryGatewayServiceClient(trusting, url)
	r, err := http1.RecordEventBatch(t.Context(), connect.NewRequest(&pb.RecordEventBatchRequest{Metadata: s.licensedMetadata(), Events: events("a", 2)}))
	if err != nil || len(r.Msg.SucceededEvents) != 2 {
		t.Fatalf("batch over HTTP/1.1: %v, %v", r, err)
	}

	second := httptest.NewUnstartedServer(nil)
	second.EnableHTTP2 = true
	second.StartTLS()
	defer second.Close()
	stream := telemetrygatewayv1connect.NewTelemetryGatewayServiceClient(second.Client(), url, connect.WithGRPC()).RecordEvents(t.Context())
	for _, m := range []*pb.RecordEventsRequest{metadataMessage(s.licensedMetadata()), eventsMessage(events("b", 3)...)} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := stream.Receive(); err != nil || len(r.SucceededEvents) != 3 {
		t.Fatalf("stream over HTTP/2: %v, %v", r, err)
	}
	if err := stream.CloseRequest(); err != nil {
		t.Error(err)
	}

	if _, err := s.connect(t).RecordEventBatch(t.Context(), connect.NewRequest(&pb.RecordEventBatchRequest{Metadata: s.licensedMetadata()})); err == nil {
		t.Error("a call in cleartext was served")
	}
	messages(t, s.topic, 5)
}
