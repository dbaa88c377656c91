// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// recordEvents is the method as clients in the field call it.
const recordEvents = "/telemetrygateway.v1.TelemeteryGatewayService/RecordEvents"

// A sender is one instance. It keeps each event until it is acknowledged, and
// sends it again in its next stream, as instances do.
type sender struct {
	id      string
	license string
	ledger  *ledger
	random  *rand.Rand
	made    int
	kept    []*record // sent, and not known to be durable
	// pace, if there is one, gives leave for each new message.
	pace <-chan struct{}
}

func newSender(id, license string, l *ledger, seed uint64) *sender {
	return &sender{id: id, license: license, ledger: l, random: rand.New(rand.NewPCG(seed, 1))}
}

// windowMessages is how many messages a sender has on their way at once.
const windowMessages = 4

// send streams events until the stream ends, some event fails, ctx ends, or,
// with nothing new to be made, all that were kept are acknowledged.
func (s *sender) send(ctx context.Context, address string, fresh bool) error {
	conn, err := dial(address)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := openStream(ctx, conn)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(metadataFrame(s.license, s.id)); err != nil {
		return err
	}

	// Not closing the stream keeps it open until ctx or the gateway ends it.
	onTheirWay := make(chan []*record, windowMessages)
	left := s.kept
	s.kept = nil
	go func() {
		defer close(onTheirWay)
		for ctx.Err() == nil {
			n := 1 + s.random.IntN(100)
			batch := left[:min(n, len(left))]
			left = left[len(batch):]
			if len(batch) == 0 {
				if !fresh {
					_ = stream.CloseSend()
					return
				}
				if s.pace != nil {
					select {
					case <-s.pace:
					case <-ctx.Done():
						return
					}
				}
				batch = s.make(n)
			}
			s.ledger.send(batch)
			select {
			case onTheirWay <- batch:
			case <-ctx.Done():
				// Nobody waits for an answer, and it is as good as unsent.
				left = append(batch, left...)
				return
			}
			if err := stream.SendMsg(frame(batch)); err != nil {
				return
			}
		}
	}()
	var ended error
	for batch := range onTheirWay {
		var response pb.RecordEventsResponse
		if ended == nil {
			ended = receive(stream, &response)
			if ended == nil && len(response.Verdicts) != len(batch) {
				ended = fmt.Errorf("%d verdicts for %d events", len(response.Verdicts), len(batch))
			}
		}
		if ended != nil {
			cancel()
			s.kept = append(s.kept, batch...)
			continue
		}
		acknowledged := 0
		for i, v := range response.Verdicts {
			switch v.Outcome {
			case pb.EventVerdict_OUTCOME_ACCEPTED, pb.EventVerdict_OUTCOME_DEAD_LETTERED:
				if !s.ledger.acknowledge(batch[i], v.Outcome) {
					s.kept = append(s.kept, batch[i])
				}
				if batch[i].id != "" {
					acknowledged++
				}
			default:
				s.kept = append(s.kept, batch[i])
				ended = fmt.Errorf("event failed: %s", v.Reason)
			}
		}
		if len(response.SucceededEvents) != acknowledged {
			ended = fmt.Errorf("%d succeeded events, but %d verdicts that say so", len(response.SucceededEvents), acknowledged)
		}
		if ended != nil {
			cancel()
		}
	}
	s.kept = append(s.kept, left...)
	if ended == nil {
		if ended = receive(stream, new(pb.RecordEventsResponse)); errors.Is(ended, io.EOF) {
			return nil
		}
	}
	return ended
}

// make makes events up. About one in 25 is poison, of every kind in turn. All
// senders use the same IDs.
func (s *sender) make(n int) []*record {
	batch := make([]*record, n)
	for i := range batch {
		s.made++
		r := &record{source: "licensed_instance", sender: s.id, number: s.made, id: fmt.Sprintf("event-%d", s.made)}
		if s.license == "" {
			r.source = "unlicensed_instance"
		}
		e := &pb.Event{
			Id: r.id, Timestamp: timestamppb.Now(), Feature: "codeSearch", Action: "executed",
			Source: &pb.EventSource{Server: &pb.EventSource_Server{Version: "6.5.0"}},
			Parameters: &pb.EventParameters{
				Metadata: map[string]float64{"number": float64(r.number)},
				PrivateMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{
					"sender": structpb.NewStringValue(s.id), "source": structpb.NewStringValue(r.source),
				}},
			},
		}
		vary(e, s.made)
		if r.poison = s.made%25 == 0; r.poison {
			r.wire = poisons[s.made/25%len(poisons)](e)
			r.id = e.Id
		} else {
			r.wire = marshal(e)
		}
		r.event = e
		batch[i] = r
	}
	return batch
}

// vary gives some events more of what an event can have, with values that are
// easily spoilt.
func vary(e *pb.Event, n int) {
	odd := []float64{math.Copysign(0, -1), 5e-324, math.MaxFloat64, 1<<53 + 2, 1e21, 0.1}
	text := []string{"", "plain", "\u2028 \u202eright\u202c", "\x00\x1f\"\\", "🙂 <b>&amp;", "ünïcode/%2F"}[n/4%6]
	switch n % 4 {
	case 1:
		e.Parameters.Metadata["odd"] = odd[n/4%len(odd)]
		e.Parameters.PrivateMetadata.Fields["text"] = structpb.NewStringValue(text)
	case 2:
		e.Feature, e.Action = "cody.chat", "opened"
		e.User = &pb.EventUser{UserId: proto.Int64(1<<53 + int64(n))}
		e.Source.Client = &pb.EventSource_Client{Name: "web", Version: proto.String("1.2")}
	case 3:
		e.User = &pb.EventUser{AnonymousUserId: proto.String("somebody" + text)}
		e.FeatureFlags = &pb.EventFeatureFlags{Flags: map[string]string{"new-ui": "true", "flag" + text: "false"}}
		e.Parameters.BillingMetadata = &pb.EventBillingMetadata{Product: "search", Category: "billable"}
		e.Interaction = &pb.EventInteraction{TraceId: proto.String(fmt.Sprintf("%032x", n))}
	}
}

// poisons make of an event one that can never be published.
var poisons = []func(*pb.Event) []byte{
	func(e *pb.Event) []byte { e.Feature = "Not A Feature"; return marshal(e) },
	func(e *pb.Event) []byte { e.Parameters.Metadata["ratio"] = math.NaN(); return marshal(e) },
	func(e *pb.Event) []byte { e.Timestamp = nil; return marshal(e) },
	func(e *pb.Event) []byte { e.Id = ""; return marshal(e) },
	// A field of a wire type that does not exist.
	func(e *pb.Event) []byte { return append(marshal(e), 0x07) },
}

// frame encodes a batch. Events are put in as bytes, since not all of them are
// what a protobuf library would let out.
func frame(batch []*record) []byte {
	var payload []byte
	for _, r := range batch {
		payload = protowire.AppendBytes(protowire.AppendTag(payload, 1, protowire.BytesType), r.wire)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), payload)
}

func metadataFrame(license, instance string) []byte {
	identifier := licensed(license, instance)
	if license == "" {
		identifier = unlicensed(instance)
	}
	return marshal(&pb.RecordEventsRequest{Payload: &pb.RecordEventsRequest_Metadata{Metadata: &pb.RecordEventsRequestMetadata{
		RequestId: "journey", Identifier: identifier,
	}}})
}

func licensed(key, instance string) *pb.Identifier {
	return &pb.Identifier{Identifier: &pb.Identifier_LicensedInstance{LicensedInstance: &pb.Identifier_LicensedInstanceIdentifier{
		LicenseKey: key, InstanceId: instance, ExternalUrl: "https://journey.example.com",
	}}}
}

func unlicensed(instance string) *pb.Identifier {
	return &pb.Identifier{Identifier: &pb.Identifier_UnlicensedInstance{
		UnlicensedInstance: &pb.Identifier_UnlicensedInstanceIdentifier{InstanceId: instance},
	}}
}

// dial connects as a stock gRPC client does.
func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{})))
}

func openStream(ctx context.Context, conn *grpc.ClientConn) (grpc.ClientStream, error) {
	return conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, recordEvents)
}

func receive(stream grpc.ClientStream, m proto.Message) error {
	var wire []byte
	if err := stream.RecvMsg(&wire); err != nil {
		return err
	}
	return proto.Unmarshal(wire, m)
}

// bytesCodec sends messages that are encoded already.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(m any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(m.([]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, m any) error {
	*m.(*[]byte) = data.Materialize()
	return nil
}

func marshal(m proto.Message) []byte {
	wire, err := proto.Marshal(m)
	if err != nil {
		panic(err) // messages made here are valid
	}
	return wire
}

// within fails the test if what is waited for does not come.
func within(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("still no %s after %v", what, patience)
	}
}
