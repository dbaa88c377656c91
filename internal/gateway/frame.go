// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"regexp"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// A frame is one message in wire format. The gateway receives frames rather
// than decoded messages so that each event of a batch is decoded and judged
// alone, and so that the hot path need not decode at all.
type frame interface {
	bytes() *[]byte
	// message returns an empty message of the frame's type, for JSON.
	message() proto.Message
}

type (
	streamRequest  struct{ wire []byte }
	batchRequest   struct{ wire []byte }
	eventRequest   struct{ wire []byte }
	streamResponse struct{ wire []byte }
	batchResponse  struct{ wire []byte }
	eventResponse  struct{ wire []byte }
)

func (f *streamRequest) bytes() *[]byte  { return &f.wire }
func (f *batchRequest) bytes() *[]byte   { return &f.wire }
func (f *eventRequest) bytes() *[]byte   { return &f.wire }
func (f *streamResponse) bytes() *[]byte { return &f.wire }
func (f *batchResponse) bytes() *[]byte  { return &f.wire }
func (f *eventResponse) bytes() *[]byte  { return &f.wire }

func (*streamRequest) message() proto.Message { return new(telemetrygatewayv1.RecordEventsRequest) }

func (*batchRequest) message() proto.Message   { return new(telemetrygatewayv1.RecordEventBatchRequest) }
func (*eventRequest) message() proto.Message   { return new(telemetrygatewayv1.RecordEventRequest) }
func (*streamResponse) message() proto.Message { return new(telemetrygatewayv1.RecordEventsResponse) }

func (*batchResponse) message() proto.Message {
	return new(telemetrygatewayv1.RecordEventBatchResponse)
}
func (*eventResponse) message() proto.Message { return new(telemetrygatewayv1.RecordEventResponse) }

// wireCodec leaves frames as they are. Other messages are the RPC library's
// own, such as details of an error.
type wireCodec struct{}

func (wireCodec) Name() string { return "proto" }

func (wireCodec) Marshal(m any) ([]byte, error) {
	switch m := m.(type) {
	case frame:
		return *m.bytes(), nil
	case proto.Message:
		return proto.Marshal(m)
	}
	return nil, fmt.Errorf("marshal %T: neither a frame nor a message", m)
}

func (wireCodec) Unmarshal(data []byte, m any) error {
	f, ok := m.(frame)
	if !ok {
		return fmt.Errorf("unmarshal %T: not a frame", m)
	}
	// data is a pooled buffer that is reused as soon as we return.
	*f.bytes() = append((*f.bytes())[:0], data...)
	return nil
}

// jsonCodec turns the JSON form of a message into wire format and back. Unlike
// the wire format, a JSON message that holds one malformed event is refused as
// a whole: the sender gets the error and still has the events.
type jsonCodec struct {
	name string
	// max is the largest message, as wire format, which can be several times as
	// large as its JSON.
	max int64
	// turn lets one message be decoded at a time: decoded, it can take a hundred
	// times as much memory as its JSON.
	turn chan struct{}
}

func (c jsonCodec) Name() string { return c.name }

func (jsonCodec) Marshal(m any) ([]byte, error) {
	f, ok := m.(frame)
	if !ok {
		return nil, fmt.Errorf("marshal %T: not a frame", m)
	}
	message := f.message()
	if err := proto.Unmarshal(*f.bytes(), message); err != nil {
		return nil, err
	}
	return protojson.Marshal(message)
}

func (c jsonCodec) Unmarshal(data []byte, m any) error {
	f, ok := m.(frame)
	if !ok {
		return fmt.Errorf("unmarshal %T: not a frame", m)
	}
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	message := f.message()
	// Newer senders may use fields that we do not know.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, message); err != nil {
		return jsonError(err)
	}
	if size := proto.Size(message); int64(size) > c.max {
		return fmt.Errorf("the message has %d bytes in wire format, more than %d; send fewer events in a message", size, c.max)
	}
	wire, err := proto.MarshalOptions{}.MarshalAppend((*f.bytes())[:0], message)
	if err != nil {
		return err
	}
	*f.bytes() = wire
	return nil
}

var jsonPosition = regexp.MustCompile(`\(line \d+:\d+\)`)

// jsonError says where a message is wrong and not what stands there, which
// errors of protojson quote at any length: it may be what an event holds or a
// licence key, and errors are logged.
func jsonError(err error) error {
	where := jsonPosition.FindString(err.Error())
	if where == "" {
		where = "(it is cut short, nested too deep, or not valid UTF-8)"
	}
	return fmt.Errorf("this is not the JSON form of the contract's message %s", where)
}

func codecs(maxBytes int64) connect.HandlerOption {
	turn := make(chan struct{}, 1)
	return connect.WithHandlerOptions(
		connect.WithCodec(wireCodec{}),
		connect.WithCodec(jsonCodec{"json", maxBytes, turn}),
		connect.WithCodec(jsonCodec{"json; charset=utf-8", maxBytes, turn}),
	)
}

// boundedGzip stops decompressing one byte after the largest message that may
// be received. Otherwise a few megabytes could keep a core busy for seconds
// with gigabytes of zeros that are then refused.
type boundedGzip struct {
	gzip.Reader
	max, left int64
}

var errTooBig = errors.New("the message is too large after decompression")

func (b *boundedGzip) Reset(r io.Reader) error {
	b.left = b.max + 1
	return b.Reader.Reset(r)
}

func (b *boundedGzip) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, connect.NewError(connect.CodeResourceExhausted, errTooBig)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.Reader.Read(p)
	b.left -= int64(n)
	return n, err
}

func boundedCompression(maxBytes int64) connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor { return &boundedGzip{max: maxBytes} },
		func() connect.Compressor { return gzip.NewWriter(io.Discard) })
}
