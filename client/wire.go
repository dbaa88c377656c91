// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// message is a request in wire format. Requests are put together here and not
// by the generated types, so that an event is encoded once, and an event that
// is encoded already is not touched at all.
type message struct{ wire []byte }

// wireCodec writes a message as it is and reads responses as protobuf.
type wireCodec struct{}

func (wireCodec) Name() string { return "proto" }

func (c wireCodec) Marshal(m any) ([]byte, error) { return c.MarshalAppend(nil, m) }

// MarshalAppend copies into a buffer that the RPC stack owns and reuses.
func (wireCodec) MarshalAppend(dst []byte, m any) ([]byte, error) {
	w, ok := m.(*message)
	if !ok {
		return nil, fmt.Errorf("cannot encode %T", m)
	}
	return append(dst, w.wire...), nil
}

func (wireCodec) Unmarshal(b []byte, m any) error {
	p, ok := m.(proto.Message)
	if !ok {
		return fmt.Errorf("cannot decode %T", m)
	}
	return proto.Unmarshal(b, p)
}

// source is a list of events in one of the two forms that callers have.
type source interface {
	len() int
	// size is the event's wire size in bytes; appendTo is called right after.
	size(i int) int
	appendTo(dst []byte, i int) ([]byte, error)
	id(i int) string
}

type decoded []*telemetrygatewayv1.Event

func (s decoded) len() int        { return len(s) }
func (s decoded) size(i int) int  { return proto.Size(s[i]) }
func (s decoded) id(i int) string { return s[i].GetId() }

func (s decoded) appendTo(dst []byte, i int) ([]byte, error) {
	return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(dst, s[i])
}

type encoded [][]byte

func (s encoded) len() int       { return len(s) }
func (s encoded) size(i int) int { return len(s[i]) }

func (s encoded) appendTo(dst []byte, i int) ([]byte, error) { return append(dst, s[i]...), nil }

// id reads the ID as a decoder would: the last one counts. Bytes that are no
// event have none.
func (s encoded) id(i int) string {
	id := ""
	for b := s[i]; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return ""
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return ""
		}
		if num == 1 && typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b[n:])
			id = string(v)
		}
		b = b[n+m:]
	}
	return id
}

// Where events and metadata are in the requests of the two calls.
const (
	metadataField      = 1 // of both
	streamEventsField  = 2 // RecordEventsRequest.events
	payloadEventsField = 1 // RecordEventsRequest.EventsPayload.events
	batchEventsField   = 2 // RecordEventBatchRequest.events
)

// headRoom is what the tag and the length before a stream message's events take
// at most.
const headRoom = 1 + 5

// packer makes request messages out of events, one after the other, in one
// buffer.
type packer struct {
	events    source
	verdicts  []Verdict // of events that turn out to be unsendable
	batch     bool      // for RecordEventBatch, else for RecordEvents
	prefix    []byte    // of each batch: its metadata
	maxEvents int
	// A message with one event stays within most bytes, one with more within
	// full bytes.
	full, most int
	buf        []byte
}

// next packs as many events as fit in one message, from index from on. It
// returns the message, valid until the next call, how many events are in it,
// and the index after the last event looked at. The message is never empty: n
// is 0 if no event is left that can be sent.
func (p *packer) next(from int) (m *message, n, to int) {
	tag := protowire.AppendTag(nil, payloadEventsField, protowire.BytesType)
	p.buf = append(p.buf[:0], make([]byte, headRoom)...)
	if p.batch {
		tag = protowire.AppendTag(tag[:0], batchEventsField, protowire.BytesType)
		p.buf = append(p.buf, p.prefix...)
	}
	for to = from; to < p.events.len() && n < p.maxEvents; to++ {
		size := p.events.size(to)
		field := len(tag) + protowire.SizeBytes(size)
		if alone := headRoom + len(p.prefix) + field; alone > p.most {
			p.verdicts[to] = Verdict{
				Outcome: Unsendable, Reason: ReasonTooLarge,
				Message: fmt.Sprintf("the event takes %d bytes, and the gateway takes messages of %d", size, p.most),
			}
			continue
		}
		if n > 0 && len(p.buf)+field > p.full {
			break
		}
		b := protowire.AppendVarint(append(p.buf, tag...), uint64(size))
		b, err := p.events.appendTo(b, to)
		if err != nil {
			// The text of err is left out: it may quote the event.
			p.verdicts[to] = Verdict{Outcome: Unsendable, Reason: ReasonUnencodable, Message: "a text in the event is not valid UTF-8"}
			continue
		}
		p.buf = b
		n++
	}
	return &message{p.finish()}, n, to
}

// finish puts the tag and length of a stream message right before its events.
func (p *packer) finish() []byte {
	if p.batch {
		return p.buf[headRoom:]
	}
	head := protowire.AppendTag(make([]byte, 0, headRoom), streamEventsField, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(p.buf)-headRoom))
	start := headRoom - len(head)
	copy(p.buf[start:], head)
	return p.buf[start:]
}
