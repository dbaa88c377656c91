// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// rawCodec lets a client send bytes that no library would make.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(m any) ([]byte, error) { return m.([]byte), nil }
func (rawCodec) Unmarshal(data []byte, m any) error {
	*m.(*[]byte) = slices.Clone(data)
	return nil
}

var recordEventsDesc = &grpc.StreamDesc{StreamName: "RecordEvents", ServerStreams: true, ClientStreams: true}

func rawStream(t testing.TB, conn *grpc.ClientConn) grpc.ClientStream {
	t.Helper()
	stream, err := conn.NewStream(t.Context(), recordEventsDesc, telemetrygatewayv1connect.TelemeteryGatewayServiceRecordEventsProcedure, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// receive returns all responses and how the stream ended.
func receive(t testing.TB, stream grpc.ClientStream) ([]*pb.RecordEventsResponse, error) {
	t.Helper()
	var got []*pb.RecordEventsResponse
	for {
		var wire []byte
		err := stream.RecvMsg(&wire)
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		r := new(pb.RecordEventsResponse)
		if err := proto.Unmarshal(wire, r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
}

// rawExchange sends messages as they are and expects the stream to end well.
func rawExchange(t testing.TB, conn *grpc.ClientConn, wires ...[]byte) []*pb.RecordEventsResponse {
	t.Helper()
	stream := rawStream(t, conn)
	for _, w := range wires {
		if err := stream.SendMsg(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got, err := receive(t, stream)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// typed are the codes that a sender can act on. Unknown and Internal are none
// of them: they would mean that the gateway has a fault.
var typed = []codes.Code{codes.OK, codes.InvalidArgument, codes.Unimplemented, codes.ResourceExhausted, codes.PermissionDenied}

func discarding(o *Options, _ *identity.Options, _ *ServeOptions) {
	o.Topic, o.DeadLetters = new(topic.Discard), new(topic.Discard)
}

// TestMutations sends 100,000 damaged messages. Each gets a response with a
// verdict for each event, or ends its stream with a code that tells the sender
// what is wrong, and memory stays bounded.
func TestMutations(t *testing.T) {
	s := start(t, discarding)
	md := marshal(t, metadataMessage(s.licensedMetadata()))
	var seeds [][]byte
	for _, p := range poison(t) {
		if len(p.wire) < 10_000 {
			seeds = append(seeds, field(streamEventsField, field(payloadEventsField, p.wire)))
		}
	}
	seeds = append(seeds, md, marshal(t, eventsMessage(events("seed", 3)...)))
	t.Run("send", func(t *testing.T) {
		const senders = 8
		for i := range senders {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(1, uint64(i)))
				conn := s.grpc(t)
				for left := 100_000 / senders; left > 0; {
					left -= sendMutated(t, rawStream(t, conn), rng, md, seeds, min(left, 500))
				}
			})
		}
	})
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 64<<20 {
		t.Errorf("%d MiB are still in use", m.HeapAlloc>>20)
	}
}

// sendMutated sends up to n damaged messages over a stream, waiting for each
// answer, until one ends the stream. It returns how many it sent.
func sendMutated(t *testing.T, stream grpc.ClientStream, rng *rand.Rand, md []byte, seeds [][]byte, n int) (sent int) {
	t.Helper()
	if err := stream.SendMsg(md); err != nil {
		t.Fatal(err)
	}
	for sent < n {
		wire := mutate(rng, seeds[rng.IntN(len(seeds))])
		if err := stream.SendMsg(wire); err != nil {
			t.Fatalf("the stream ended although each message before had an answer: %v", err)
		}
		sent++
		var r request
		if err := r.splitStream(wire); err == nil && r.arm == noArm {
			continue // has no response
		}
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			if !slices.Contains(typed, status.Code(err)) {
				t.Fatalf("a stream ended with %v", err)
			}
			return sent
		}
		var got pb.RecordEventsResponse
		if err := proto.Unmarshal(answer, &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Verdicts) != len(r.events) {
			t.Fatalf("%d verdicts for %d events", len(got.Verdicts), len(r.events))
		}
		for _, v := range got.Verdicts {
			known := slices.ContainsFunc(limits.Reasons(), func(l limits.Reason) bool { return l.Permanent && l.Code == v.Reason })
			if v.Outcome != accepted && !(v.Outcome == deadLettered && known) {
				t.Fatalf("verdict %v", v)
			}
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := receive(t, stream); err != nil {
		t.Fatalf("after a half-close: %v", err)
	}
	return sent
}

func mutate(rng *rand.Rand, seed []byte) []byte {
	b := slices.Clone(seed)
	for range 1 + rng.IntN(4) {
		if len(b) == 0 {
			return b
		}
		i := rng.IntN(len(b))
		switch rng.IntN(5) {
		case 0:
			b[i] ^= 1 << rng.IntN(8)
		case 1:
			b[i] = byte(rng.Uint32())
		case 2:
			b = slices.Insert(b, i, byte(rng.Uint32()))
		case 3:
			b = slices.Delete(b, i, min(len(b), i+1+rng.IntN(4)))
		case 4:
			j := i + rng.IntN(len(b)-i)
			b = slices.Insert(b, i, b[i:j]...)
		}
	}
	return b
}

// FuzzStream sends messages in any order. The bytes of ops choose them.
func FuzzStream(f *testing.F) {
	f.Add([]byte("ma"), []byte{})
	f.Add([]byte("mmaaae"), []byte("\x0a\x00"))
	f.Add([]byte("e"), []byte("\x12\x00"))
	f.Add([]byte("nmenerl"), []byte{0xff})
	f.Add([]byte("urm"), []byte("\xfa\x3e\x01x"))
	f.Fuzz(func(t *testing.T, ops, raw []byte) {
		if len(ops) > 20 || len(raw) > 1000 {
			return
		}
		s := start(t, discarding)
		choices := map[byte][]byte{
			'm': marshal(t, metadataMessage(unlicensedMetadata("site"))),
			'l': marshal(t, metadataMessage(s.licensedMetadata())),
			'u': marshal(t, metadataMessage(managedMetadata("svc"))),
			'a': marshal(t, eventsMessage(event("a"))),
			'e': marshal(t, eventsMessage()),
			'n': {},
			'r': raw,
		}
		stream := rawStream(t, s.grpc(t))
		want := 0
		for _, op := range ops {
			wire, ok := choices[op]
			if !ok {
				wire = raw
			}
			var r request
			if err := r.splitStream(wire); err == nil && r.arm == eventsArm {
				want++
			}
			if err := stream.SendMsg(wire); err != nil {
				break
			}
		}
		_ = stream.CloseSend()
		got, err := receive(t, stream)
		if code := status.Code(err); !slices.Contains(typed, code) {
			t.Fatalf("%q ended with %v", ops, err)
		}
		if err == nil && len(got) != want || len(got) > want {
			t.Fatalf("%q: %d responses to %d events messages, then %v", ops, len(got), want, err)
		}
	})
}

// FuzzBatch sends any bytes as a unary batch, in wire format and as JSON.
func FuzzBatch(f *testing.F) {
	for _, p := range poison(f) {
		if len(p.wire) < 10_000 {
			f.Add(field(callEventsField, p.wire), false)
		}
	}
	f.Add([]byte(`{"events":[{"id":"a"}]}`), true)
	f.Add([]byte(`{"metadata":{"identifier":{"unlicensedInstance":{"instanceId":"a"}}},"events":[{"id":1}]}`), true)
	f.Fuzz(func(t *testing.T, raw []byte, asJSON bool) {
		s := start(t, discarding)
		wire := append(field(callMetadataField, marshal(t, unlicensedMetadata("site"))), raw...)
		codec := connect.Codec(bytesCodec{"proto"})
		if asJSON {
			codec, wire = bytesCodec{"json"}, raw
		}
		c := connect.NewClient[[]byte, []byte](h2c(t), s.url()+telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventBatchProcedure, connect.WithCodec(codec))
		_, err := c.CallUnary(t.Context(), connect.NewRequest(&wire))
		if err != nil && connect.CodeOf(err) != connect.CodeInvalidArgument && connect.CodeOf(err) != connect.CodeUnimplemented {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

type bytesCodec struct{ name string }

func (c bytesCodec) Name() string                  { return c.name }
func (bytesCodec) Marshal(m any) ([]byte, error)   { return *m.(*[]byte), nil }
func (bytesCodec) Unmarshal(b []byte, m any) error { *m.(*[]byte) = slices.Clone(b); return nil }
