// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
)

// dial connects to a server, from the given local address unless that is empty.
func dial(address, from string) (*grpc.ClientConn, error) {
	dialer := &net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
}

// open opens a stream and introduces its sender.
func open(ctx context.Context, conn *grpc.ClientConn, md *pb.RecordEventsRequestMetadata) (grpc.ClientStream, error) {
	wire, err := proto.Marshal(&pb.RecordEventsRequest{Payload: &pb.RecordEventsRequest_Metadata{Metadata: md}})
	if err != nil {
		return nil, err
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventsProcedure, grpc.ForceCodecV2(wireCodec{}))
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(wire); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return stream, nil
}

// wireCodec sends and receives wire bytes, so that a sender takes as little of
// the processors as it can.
type wireCodec struct{}

func (wireCodec) Name() string { return "proto" }

func (wireCodec) Marshal(m any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(m.([]byte))}, nil
}

func (wireCodec) Unmarshal(data mem.BufferSlice, m any) error {
	*m.(*[]byte) = data.Materialize()
	return nil
}

// An ack is the answer to one message.
type ack struct {
	events  int
	latency time.Duration // from when it was, or should have been, sent
}

func eventsOf(acks []ack) int {
	n := 0
	for _, a := range acks {
		n += a.events
	}
	return n
}

// exchange sends the messages that next returns until there are no more, and
// waits for the answers. At most window messages are unanswered at any time.
// next returns when the message was due; it may wait. acked is called with each
// answer. An event that is not accepted ends it with an error, unless lenient.
func exchange(stream grpc.ClientStream, window int, next func() (m message, due time.Time, ok bool), acked func(ack), lenient bool) error {
	type sent struct {
		events int
		due    time.Time
	}
	free := make(chan struct{}, window)
	waiting := make(chan sent, window)
	received := make(chan error, 1)
	go func() {
		received <- func() error {
			for s := range waiting {
				var answer []byte
				if err := stream.RecvMsg(&answer); errors.Is(err, io.EOF) {
					return errors.New("the stream ended with a message unanswered")
				} else if err != nil {
					return err
				}
				n, err := acceptedIn(answer)
				if err != nil {
					return err
				}
				if n != s.events && !lenient {
					return fmt.Errorf("%d of %d events of a message were accepted", n, s.events)
				}
				acked(ack{n, time.Since(s.due)})
				<-free
			}
			return nil
		}()
	}()
	for {
		select {
		case free <- struct{}{}:
		case err := <-received:
			return err
		}
		m, due, ok := next()
		if !ok {
			close(waiting)
			return <-received
		}
		waiting <- sent{m.events, due}
		if err := stream.SendMsg(m.wire); err != nil {
			return <-received // which knows why
		}
	}
}

// hangUp ends a stream whose messages have all been answered.
func hangUp(stream grpc.ClientStream) error {
	if err := stream.CloseSend(); err != nil {
		return err
	}
	var answer []byte
	err := stream.RecvMsg(&answer)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return cmp.Or(err, errors.New("there was one answer too many"))
}

// acceptedIn counts the events that a response says were accepted. A server
// that gives no verdicts accepts what it lists as succeeded.
func acceptedIn(response []byte) (int, error) {
	succeeded, verdicts, accepted := 0, 0, 0
	for len(response) > 0 {
		number, kind, tag := protowire.ConsumeTag(response)
		size := -1
		if tag >= 0 {
			size = protowire.ConsumeFieldValue(number, kind, response[tag:])
		}
		if size < 0 {
			return 0, errors.New("a response is not in wire format")
		}
		switch number {
		case 1:
			succeeded++
		case 1001:
			verdicts++
			if v, _ := protowire.ConsumeBytes(response[tag:]); len(v) == 2 && v[1] == byte(pb.EventVerdict_OUTCOME_ACCEPTED) {
				accepted++
			}
		}
		response = response[tag+size:]
	}
	if verdicts > 0 {
		return accepted, nil
	}
	return succeeded, nil
}

// maxConnections is how many connections a loader has at most. More streams
// share them, because the gateway takes 500 connections from one address.
const maxConnections = 100

// A loader sends over streams to one server, each on a connection of its own as
// long as there are enough.
type loader struct {
	conns    []*grpc.ClientConn
	metadata *pb.RecordEventsRequestMetadata
	streams  []grpc.ClientStream // those that are open
	cancel   context.CancelFunc  // ends them
}

func newLoader(address string, streams int, md *pb.RecordEventsRequestMetadata) (*loader, error) {
	l := &loader{metadata: md, streams: make([]grpc.ClientStream, streams)}
	for range min(streams, maxConnections) {
		conn, err := dial(address, "")
		if err != nil {
			return nil, err
		}
		l.conns = append(l.conns, conn)
	}
	return l, nil
}

func (l *loader) close() {
	for _, conn := range l.conns {
		conn.Close()
	}
}

// open opens the streams.
func (l *loader) open() error {
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	return l.each(func(i int) (err error) {
		l.streams[i], err = open(ctx, l.conns[i%len(l.conns)], l.metadata)
		return err
	})
}

// run exchanges messages over all streams. next is called with the number of
// the stream.
func (l *loader) run(window int, next func(stream int) (message, time.Time, bool)) ([]ack, error) {
	acks := make([][]ack, len(l.streams))
	err := l.each(func(i int) error {
		return exchange(l.streams[i], window, func() (message, time.Time, bool) { return next(i) },
			func(a ack) { acks[i] = append(acks[i], a) }, false)
	})
	return slices.Concat(acks...), err
}

// hangUp ends the streams.
func (l *loader) hangUp() error {
	err := l.each(func(i int) error { return hangUp(l.streams[i]) })
	l.cancel()
	return err
}

// each calls do for all streams at once. After an error it ends the others, and
// returns the first one.
func (l *loader) each(do func(stream int) error) error {
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	for i := range l.streams {
		wg.Go(func() {
			if err := do(i); err != nil {
				once.Do(func() { first = fmt.Errorf("send: %w", err) })
				l.cancel()
			}
		})
	}
	wg.Wait()
	return first
}
