// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/license"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// A server is a gateway on loopback whose topics are in memory.
type server struct {
	*Gateway
	address      string
	topic, dead  *topic.Memory
	metrics      *observe.Metrics
	license      string
	stop         context.CancelFunc
	served       chan struct{} // closed when Serve has returned err
	err          error
	revokedFile  string
	publicKeys   string
	licenseOther string // signed with a key that the gateway does not know
}

func start(t *testing.T, change ...func(*Options, *identity.Options, *ServeOptions)) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{
		topic: topic.NewMemory(200_000), dead: topic.NewMemory(200_000), metrics: newTestMetrics(),
		served: make(chan struct{}), revokedFile: filepath.Join(dir, "revoked"), publicKeys: filepath.Join(dir, "keys"),
	}
	var public []byte
	s.license, public = issue(t, "vendor-2026")
	s.licenseOther, _ = issue(t, "someone-else")
	for file, data := range map[string][]byte{s.publicKeys: public, s.revokedFile: nil} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Topic: s.topic, DeadLetters: s.dead, Metrics: s.metrics}
	io := identity.Options{Licenses: identity.LicenseOptions{KeysFile: s.publicKeys, RevokedFile: s.revokedFile}}
	so := ServeOptions{Log: discardLog}
	for _, f := range change {
		f(&o, &io, &so)
	}
	var err error
	if o.Identities, err = identity.New(io); err != nil {
		t.Fatal(err)
	}
	s.Gateway = New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	mux := http.NewServeMux()
	s.Handle(mux)
	so.Stop = s.Stop
	go func() {
		defer close(s.served)
		s.err = Serve(ctx, l, mux, so)
	}()
	t.Cleanup(func() { cancel(); <-s.served })
	return s
}

// issue makes a licence key and the line of its public key.
func issue(t testing.TB, id string) (key string, public []byte) {
	t.Helper()
	private, err := license.GenerateKey(id)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := license.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err = license.Issue(signer, license.Info{Tags: []string{"plan:test"}, Users: 10, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return key, signer.PublicKey()
}

func newTestMetrics() *observe.Metrics { return observe.NewMetrics("test", "test") }

func (s *server) url() string { return "http://" + s.address }

// h2c is a client that speaks HTTP/2 in cleartext.
func h2c(t testing.TB) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: p}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *server) connect(t testing.TB, o ...connect.ClientOption) telemetrygatewayv1connect.TelemetryGatewayServiceClient {
	return telemetrygatewayv1connect.NewTelemetryGatewayServiceClient(h2c(t), s.url(), o...)
}

func (s *server) grpc(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func unlicensedMetadata(id string) *pb.RecordEventsRequestMetadata {
	return &pb.RecordEventsRequestMetadata{RequestId: "request", Identifier: &pb.Identifier{Identifier: &pb.Identifier_UnlicensedInstance{
		UnlicensedInstance: &pb.Identifier_UnlicensedInstanceIdentifier{InstanceId: id},
	}}}
}

func (s *server) licensedMetadata() *pb.RecordEventsRequestMetadata {
	return licensedMetadata(s.license)
}

func licensedMetadata(key string) *pb.RecordEventsRequestMetadata {
	return &pb.RecordEventsRequestMetadata{RequestId: "request", Identifier: &pb.Identifier{Identifier: &pb.Identifier_LicensedInstance{
		LicensedInstance: &pb.Identifier_LicensedInstanceIdentifier{LicenseKey: key, InstanceId: "site", ExternalUrl: "https://site.example"},
	}}}
}

func event(id string) *pb.Event {
	return &pb.Event{
		Id: id, Timestamp: timestamppb.New(time.Unix(1_700_000_000, 0)), Feature: "codeSearch", Action: "executed",
		Source:     &pb.EventSource{Server: &pb.EventSource_Server{Version: "1.2.3"}},
		Parameters: &pb.EventParameters{Metadata: map[string]float64{"results": 3}},
	}
}

func events(prefix string, n int) []*pb.Event {
	var es []*pb.Event
	for i := range n {
		es = append(es, event(fmt.Sprintf("%s-%d", prefix, i)))
	}
	return es
}

func metadataMessage(md *pb.RecordEventsRequestMetadata) *pb.RecordEventsRequest {
	return &pb.RecordEventsRequest{Payload: &pb.RecordEventsRequest_Metadata{Metadata: md}}
}

func eventsMessage(es ...*pb.Event) *pb.RecordEventsRequest {
	return &pb.RecordEventsRequest{Payload: &pb.RecordEventsRequest_Events{Events: &pb.RecordEventsRequest_EventsPayload{Events: es}}}
}

// messages returns the n messages that a topic holds, and fails if it holds
// another number.
func messages(t testing.TB, m *topic.Memory, n int) []topic.Message {
	t.Helper()
	var got []topic.Message
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// One more message than is asked for marks the end.
	if errs := m.Publish(ctx, []topic.Message{{Key: endMark}}); errs != nil {
		t.Fatal(errs)
	}
	err := m.Subscribe(t.Name(), topic.BatchOptions{}).Receive(ctx, func(_ context.Context, ms []topic.Message) error {
		for _, m := range ms {
			if m.Key == endMark {
				cancel()
				continue
			}
			got = append(got, topic.Message{Key: m.Key, Data: append([]byte(nil), m.Data...), Attributes: append([]topic.Attribute(nil), m.Attributes...)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != n {
		t.Fatalf("the topic holds %d messages, want %d", len(got), n)
	}
	return got
}

const endMark = "(end)"

func attribute(m topic.Message, key string) string {
	for _, a := range m.Attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}
