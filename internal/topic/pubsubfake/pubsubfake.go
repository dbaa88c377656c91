// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package pubsubfake is a fake Pub/Sub server for benchmarks only. It counts
// what is published, confirms it, and keeps nothing: it does not even decode
// the messages, so that what is measured is the client. Tests of what Pub/Sub
// does use the emulator.
package pubsubfake

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Start serves on loopback until the test ends, points Pub/Sub clients in this
// process at it, and returns it. Every topic exists.
func Start(t testing.TB) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start a fake Pub/Sub server: %v", err)
	}
	s := new(Server)
	t.Cleanup(Serve(l, s))
	t.Setenv("PUBSUB_EMULATOR_HOST", l.Addr().String())
	return s
}

// Serve serves s on l until stop is called.
func Serve(l net.Listener, s *Server) (stop func()) {
	g := grpc.NewServer(grpc.ForceServerCodecV2(codec{encoding.GetCodecV2("proto")}), grpc.MaxRecvMsgSize(2*limits.RequestBytes))
	pubsubpb.RegisterPublisherServer(g, s)
	go g.Serve(l)
	return g.Stop
}

// Server counts what it is sent.
type Server struct {
	pubsubpb.UnimplementedPublisherServer
	Requests, Messages atomic.Int64
}

// GetTopic returns whatever topic is asked for.
func (s *Server) GetTopic(_ context.Context, req *pubsubpb.GetTopicRequest) (*pubsubpb.Topic, error) {
	return &pubsubpb.Topic{Name: req.Topic}, nil
}

// Publish confirms every message and forgets it.
func (s *Server) Publish(_ context.Context, req *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	s.Requests.Add(1)
	last := s.Messages.Add(int64(len(req.Messages)))
	ids := make([]string, len(req.Messages))
	for i := range ids {
		ids[i] = strconv.FormatInt(last-int64(i), 10)
	}
	return &pubsubpb.PublishResponse{MessageIds: ids}, nil
}

// codec decodes of a publish request only how many messages it has.
type codec struct{ encoding.CodecV2 }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	req, ok := v.(*pubsubpb.PublishRequest)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	wire := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer wire.Free()
	messages := 0
	for b := wire.ReadOnlyData(); len(b) > 0; {
		number, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if number == 2 {
			messages++
		}
		b = b[n:]
	}
	req.Messages = make([]*pubsubpb.PubsubMessage, messages)
	return nil
}
