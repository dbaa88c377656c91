// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// TestShareSizes adds up the shares, of which proven senders have what is left
// after one each for the others.
func TestShareSizes(t *testing.T) {
	b := newBudget(limits.InFlightBytes, nil)
	size := func(of class) int64 { return b.shares[of].receiveMax + b.shares[of].processMax + b.shares[of].proveMax }
	const part = limits.InFlightBytes / limits.UnlicensedShare
	if size(unproven) != part || size(unlicensed) != part || size(proven) != limits.InFlightBytes-2*part {
		t.Errorf("shares are %d, %d and %d", size(unproven), size(unlicensed), size(proven))
	}
}

// patientRecorder takes deadlines, as a connection does, and ignores them.
type patientRecorder struct{ *httptest.ResponseRecorder }

func (patientRecorder) SetReadDeadline(time.Time) error  { return nil }
func (patientRecorder) SetWriteDeadline(time.Time) error { return nil }

// TestMemoryIsWaitedFor shows that a message is not taken before there is
// memory for it, for either of its charges, and then is. A compressed one waits
// until there is room for the largest that it may become.
func TestMemoryIsWaitedFor(t *testing.T) {
	const little = 1 << 20 // more than enough for the message as it is sent
	for _, row := range []struct {
		name             string
		of               class
		receive, process int64 // left free, or all if negative
		stream, gzip     bool
	}{
		{name: "stream, receiving", of: unlicensed, process: -1, stream: true},
		{name: "stream, processing", of: unlicensed, receive: -1, stream: true},
		{name: "batch, receiving", of: unproven, process: -1},
		{name: "batch, processing", of: unproven, receive: -1},
		{name: "compressed batch", of: unproven, receive: -1, process: little, gzip: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ids, err := identity.New(identity.Options{})
				if err != nil {
					t.Fatal(err)
				}
				events := topic.NewMemory(10)
				g := New(Options{Topic: events, DeadLetters: topic.NewMemory(10), Identities: ids, Metrics: newTestMetrics()})
				mux := http.NewServeMux()
				g.Handle(mux)
				s := &g.budget.shares[row.of]
				if row.receive >= 0 && !s.receive.TryAcquire(s.receiveMax-row.receive) ||
					row.process >= 0 && !s.process.TryAcquire(s.processMax-row.process) {
					t.Fatal("the share is not free")
				}
				w, done := patientRecorder{httptest.NewRecorder()}, make(chan struct{})
				r := batchCall(t, row.gzip)
				if row.stream {
					r = streamCall(t)
				}
				go func() {
					defer close(done)
					mux.ServeHTTP(w, r)
				}()
				synctest.Wait()
				select {
				case <-done:
					t.Errorf("the call did not wait for memory: status %d, %q", w.Code, w.Body)
				default:
				}
				if row.receive >= 0 {
					s.receive.Release(s.receiveMax - row.receive)
				}
				if row.process >= 0 {
					s.process.Release(s.processMax - row.process)
				}
				<-done
				messages(t, events, 1)
			})
		})
	}
}

func streamCall(t *testing.T) *http.Request {
	body := append(envelope(marshal(t, metadataMessage(unlicensedMetadata("a")))), envelope(marshal(t, eventsMessage(event("e"))))...)
	r := httptest.NewRequest(http.MethodPost, telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventsProcedure, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/connect+proto")
	r.ProtoMajor, r.ProtoMinor = 2, 0
	return r
}

func batchCall(t *testing.T, compress bool) *http.Request {
	body := bytes.NewBuffer(marshal(t, &pb.RecordEventBatchRequest{Metadata: unlicensedMetadata("a"), Events: []*pb.Event{event("e")}}))
	header := http.Header{"Content-Type": {"application/proto"}}
	if compress {
		header.Set("Content-Encoding", "gzip")
		var small bytes.Buffer
		w := gzip.NewWriter(&small)
		if _, err := body.WriteTo(w); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		body = &small
	}
	r := httptest.NewRequest(http.MethodPost, telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventBatchProcedure, body)
	r.Header = header
	return r
}
