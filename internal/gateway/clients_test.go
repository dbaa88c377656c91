// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/protobuf/proto"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestClients sends the same batch, with one event that breaks a rule, through
// every kind of client, all to the same port.
func TestClients(t *testing.T) {
	s := start(t)
	batch := func(name string) []*pb.Event {
		es := events(name, 3)
		es[1].Feature = "No Such Form"
		return es
	}
	check := func(t *testing.T, name string, succeeded []string, verdicts []*pb.EventVerdict) {
		t.Helper()
		if want := fmt.Sprintf("[%s-0 %s-1 %s-2]", name, name, name); fmt.Sprint(succeeded) != want {
			t.Errorf("succeeded events %v, want %v", succeeded, want)
		}
		if len(verdicts) != 3 || verdicts[0].Outcome != accepted || verdicts[2].Outcome != accepted ||
			verdicts[1].Outcome != deadLettered || verdicts[1].Reason != "feature_invalid" || verdicts[1].Field != "feature" {
			t.Errorf("verdicts %v", verdicts)
		}
	}
	sent := 0
	run := func(name string, f func(t *testing.T, name string)) {
		sent++
		t.Run(name, func(t *testing.T) { f(t, name) })
	}

	for _, service := range []string{telemetrygatewayv1connect.TelemeteryGatewayServiceName, telemetrygatewayv1connect.TelemetryGatewayServiceName} {
		for _, compressed := range []bool{false, true} {
			run(fmt.Sprintf("grpc-go-%.10s-%v", service[len("telemetrygateway.v1."):], compressed), func(t *testing.T, name string) {
				var options []grpc.CallOption
				if compressed {
					options = append(options, grpc.UseCompressor(gzip.Name))
				}
				desc := &grpc.StreamDesc{StreamName: "RecordEvents", ServerStreams: true, ClientStreams: true}
				stream, err := s.grpc(t).NewStream(t.Context(), desc, "/"+service+"/RecordEvents", options...)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range []proto.Message{metadataMessage(s.licensedMetadata()), eventsMessage(batch(name)...)} {
					if err := stream.SendMsg(m); err != nil {
						t.Fatal(err)
					}
				}
				if err := stream.CloseSend(); err != nil {
					t.Fatal(err)
				}
				var r pb.RecordEventsResponse
				if err := stream.RecvMsg(&r); err != nil {
					t.Fatal(err)
				}
				check(t, name, r.SucceededEvents, r.Verdicts)
				if err := stream.RecvMsg(&r); !errors.Is(err, io.EOF) {
					t.Errorf("after the last response: %v", err)
				}
			})
		}
	}

	for name, options := range map[string][]connect.ClientOption{
		"connect":      nil,
		"connect-json": {connect.WithProtoJSON()},
		"connect-gzip": {connect.WithSendGzip()},
		"grpc":         {connect.WithGRPC()},
		"grpc-web":     {connect.WithGRPCWeb()},
	} {
		run(name+"-stream", func(t *testing.T, name string) {
			stream := s.connect(t, options...).RecordEvents(t.Context())
			b := batch(name)
			for _, m := range []*pb.RecordEventsRequest{metadataMessage(s.licensedMetadata()), eventsMessage(b[:1]...), eventsMessage(), eventsMessage(b[1:]...)} {
				if err := stream.Send(m); err != nil {
					t.Fatal(err)
				}
			}
			var all pb.RecordEventsResponse
			for range 3 {
				r, err := stream.Receive()
				if err != nil {
					t.Fatal(err)
				}
				proto.Merge(&all, r)
			}
			check(t, name, all.SucceededEvents, all.Verdicts)
			if err := stream.CloseRequest(); err != nil {
				t.Error(err)
			}
			if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
				t.Errorf("after the last response: %v", err)
			}
		})
		run(name+"-batch", func(t *testing.T, name string) {
			r, err := s.connect(t, options...).RecordEventBatch(t.Context(), connect.NewRequest(&pb.RecordEventBatchRequest{Metadata: s.licensedMetadata(), Events: batch(name)}))
			if err != nil {
				t.Fatal(err)
			}
			check(t, name, r.Msg.SucceededEvents, r.Msg.Verdicts)
		})
	}

	const procedure = telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventBatchProcedure
	run("http1-grpc-web", func(t *testing.T, name string) {
		message := marshal(t, &pb.RecordEventBatchRequest{Metadata: s.licensedMetadata(), Events: batch(name)})
		body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
		r, err := http.Post(s.url()+procedure, "application/grpc-web+proto", bytes.NewReader(append(body, message...)))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		answer, err := io.ReadAll(r.Body)
		if err != nil || len(answer) < 5 || r.ProtoMajor != 1 {
			t.Fatalf("HTTP/%d answer %q, %v", r.ProtoMajor, answer, err)
		}
		size := binary.BigEndian.Uint32(answer[1:5])
		var got pb.RecordEventBatchResponse
		if err := proto.Unmarshal(answer[5:5+size], &got); err != nil {
			t.Fatal(err)
		}
		check(t, name, got.SucceededEvents, got.Verdicts)
		if trailer := string(answer[5+size:]); !strings.Contains(trailer, "grpc-status: 0") {
			t.Errorf("trailer %q", trailer)
		}
	})
	run("http1-json", func(t *testing.T, name string) {
		body := fmt.Sprintf(`{"metadata":{"requestId":"r","identifier":{"licensedInstance":{"licenseKey":%q,"instanceId":"site"}}},"events":[
			{"id":"%[2]s-0","timestamp":"2026-01-02T03:04:05Z","feature":"codeSearch","action":"executed","newField":1},
			{"id":"%[2]s-1","timestamp":"2026-01-02T03:04:05Z","feature":"No Such Form","action":"executed"},
			{"id":"%[2]s-2","timestamp":"2026-01-02T03:04:05Z","feature":"codeSearch","action":"executed"}]}`, s.license, name)
		r, err := http.Post(s.url()+procedure, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var got struct {
			SucceededEvents []string
			Verdicts        []struct{ Outcome, Reason, Field string }
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.StatusCode != http.StatusOK || r.ProtoMajor != 1 {
			t.Fatalf("HTTP/%d status %d: %v", r.ProtoMajor, r.StatusCode, err)
		}
		var verdicts []*pb.EventVerdict
		for _, v := range got.Verdicts {
			verdicts = append(verdicts, &pb.EventVerdict{Outcome: pb.EventVerdict_Outcome(pb.EventVerdict_Outcome_value[v.Outcome]), Reason: v.Reason, Field: v.Field})
		}
		check(t, name, got.SucceededEvents, verdicts)
	})

	messages(t, s.topic, 2*sent)
	messages(t, s.dead, sent)
}
