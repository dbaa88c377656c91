// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// TestSendAllThenReadWithSmallWindow does the same with a stock client whose
// window, 64 KiB, is smaller than the first response: the rest of what it sends
// must still be received while that response waits.
func TestSendAllThenReadWithSmallWindow(t *testing.T) {
	s := start(t)
	const window = 65_535
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limits.StallTimeout)
	defer cancel()
	stream, err := conn.NewStream(ctx, recordEventsDesc, telemetrygatewayv1connect.TelemeteryGatewayServiceRecordEventsProcedure, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	const batches, size = 5, 2000
	send := [][]byte{marshal(t, metadataMessage(s.licensedMetadata()))}
	for i := range batches {
		send = append(send, marshal(t, eventsMessage(events(fmt.Sprintf("%d-%s", i, strings.Repeat("x", 34)), size)...)))
	}
	for i, m := range send {
		if err := stream.SendMsg(m); err != nil {
			t.Fatalf("send message %d: %v", i, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got, err := receive(t, stream)
	if err != nil || len(got) != batches {
		t.Fatalf("%d responses, %v", len(got), err)
	}
	for i, r := range got {
		if len(r.SucceededEvents) != size {
			t.Errorf("response %d has %d events", i, len(r.SucceededEvents))
		}
	}
}
