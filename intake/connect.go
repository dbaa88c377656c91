// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	telemetryintakev1 "github.com/telemetrygateway/telemetry/gen/telemetryintake/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetryintake/v1/telemetryintakev1connect"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// exposedHeaders are those of a response that pages have to read: the outcome
// of gRPC-Web, and when to come back, which what stands in front of us may say.
const exposedHeaders = "grpc-status, grpc-message, grpc-status-details-bin, retry-after"

// envelopeBytes is what gRPC puts before a message.
const envelopeBytes = 5

// Connect returns a handler that records with r what web pages and other clients
// send by the contract telemetryintake.v1, and the path to mount it at:
//
//	mux.Handle(intake.Connect(recorder, intake.Options{}))
//
// It speaks Connect, gRPC-Web and gRPC, in JSON and in binary, compressed or
// not. A request needs no header but its content type, so that a page can send
// with navigator.sendBeacon while it is being closed. Of the options, Queue, Log
// and Admin are not for this handler.
//
// The handler asks nobody to sign in. Put it behind what the application does
// to know its users, which puts an Actor into the request's context. It panics
// if an origin does not pass CheckOrigin.
func Connect(r *telemetry.Recorder, o Options) (mountAt string, _ http.Handler) {
	h := &connectDoor{door: newDoor(r, o)}
	h.largest += envelopeBytes
	options := connect.WithHandlerOptions(
		connect.WithCodec(wireCodec{}),
		connect.WithCodec(jsonCodec{"json"}),
		connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
		connect.WithReadMaxBytes(h.options.MaxBody),
		connect.WithCompression("gzip",
			func() connect.Decompressor { return &boundedGzip{max: int64(h.options.MaxBody) + 1} },
			func() connect.Compressor { return gzip.NewWriter(io.Discard) }),
	)
	const procedure = telemetryintakev1connect.TelemetryIntakeServiceRecordEventsProcedure
	recordEvents := connect.NewUnaryHandler(procedure, h.recordEvents, options)
	h.post = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != procedure {
			http.NotFound(w, r)
			return
		}
		recordEvents.ServeHTTP(w, r)
	}
	errorWriter := connect.NewErrorWriter(options)
	h.refuse = func(w http.ResponseWriter, r *http.Request, why *refusal) {
		_ = errorWriter.Write(w, r, connect.NewError(codeOf[why.status], errors.New(why.message))) // the client is gone if this fails
	}
	return path.Dir(procedure) + "/", h
}

// codeOf is what a refusal's status is in RPC.
var codeOf = map[int]connect.Code{
	http.StatusBadRequest:            connect.CodeInvalidArgument,
	http.StatusForbidden:             connect.CodePermissionDenied,
	http.StatusRequestEntityTooLarge: connect.CodeResourceExhausted,
}

type connectDoor struct{ *door }

func (h *connectDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Expose-Headers", exposedHeaders)
	h.door.ServeHTTP(w, r)
}

func (h *connectDoor) recordEvents(ctx context.Context, r *connect.Request[frame]) (*connect.Response[telemetryintakev1.RecordEventsResponse], error) {
	size := int64(len(r.Msg.data))
	if err := h.working.Acquire(ctx, size); err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("the request was given up"))
	}
	defer h.working.Release(size)
	b, why := r.Msg.batch()
	if why != nil {
		return nil, why
	}
	if b.key == "" {
		b.key = callFrom(ctx).key
	}
	switch n := len(b.events); {
	case n == 0:
		return nil, invalid("events", "no events")
	case n > h.options.MaxEvents:
		return nil, exhausted("events", h.tooMany(n))
	case len(b.key) > limits.IdempotencyKeyBytes:
		return nil, invalid("idempotency_key", keyTooLong)
	}
	broken, err := h.record(ctx, b.key, len(b.events), func(i int) (*telemetrygatewayv1.Event, *limits.Violation) {
		e, violation := b.decode(b.events[i])
		if violation != nil {
			return nil, violation
		}
		return received(e, b.client), nil
	})
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	response := &telemetryintakev1.RecordEventsResponse{}
	for _, v := range broken {
		response.InvalidEvents = append(response.InvalidEvents, &telemetryintakev1.InvalidEvent{
			Index: uint32(v.Index), Reason: v.Reason, Field: v.Field, Message: v.Message,
		})
	}
	return connect.NewResponse(response), nil
}

// received returns what a client sent as an event of the gateway's contract.
func received(e *telemetryintakev1.Event, client *telemetrygatewayv1.EventSource_Client) *telemetrygatewayv1.Event {
	p := e.GetParameters()
	out := &telemetrygatewayv1.Event{
		Timestamp: e.GetTimestamp(),
		Feature:   e.GetFeature(),
		Action:    e.GetAction(),
		Parameters: &telemetrygatewayv1.EventParameters{
			Version:         p.GetVersion(),
			Metadata:        p.GetMetadata(),
			PrivateMetadata: p.GetPrivateMetadata(),
		},
	}
	if client != nil {
		out.Source = &telemetrygatewayv1.EventSource{Client: client}
	}
	if b := p.GetBillingMetadata(); b != nil {
		out.Parameters.BillingMetadata = &telemetrygatewayv1.EventBillingMetadata{Product: b.GetProduct(), Category: b.GetCategory()}
	}
	if id := e.GetInteractionId(); id != "" {
		out.Interaction = &telemetrygatewayv1.EventInteraction{InteractionId: &id}
	}
	if m := e.GetMarketingTracking(); m != nil {
		out.MarketingTracking = &telemetrygatewayv1.EventMarketingTracking{
			Url:             m.Url,
			FirstSourceUrl:  m.FirstSourceUrl,
			CohortId:        m.CohortId,
			Referrer:        m.Referrer,
			LastSourceUrl:   m.LastSourceUrl,
			DeviceSessionId: m.DeviceSessionId,
			SessionReferrer: m.SessionReferrer,
			SessionFirstUrl: m.SessionFirstUrl,
		}
	}
	return out
}

// invalid is the error for a call that will never be taken as it is, and
// exhausted that for one which its client can take apart. Their details name the
// field, if there is one.
func invalid(field, message string) *connect.Error {
	return detailed(connect.CodeInvalidArgument, field, message)
}

func exhausted(field, message string) *connect.Error {
	return detailed(connect.CodeResourceExhausted, field, message)
}

func detailed(code connect.Code, field, message string) *connect.Error {
	e := connect.NewError(code, errors.New(message))
	if field == "" {
		return e
	}
	detail, err := connect.NewErrorDetail(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: message}},
	})
	if err == nil {
		e.AddDetail(detail)
	}
	return e
}

// A frame is a request as it was sent, decompressed. It is decoded when there is
// memory for that, and then event by event, so that a bad one harms no other.
type frame struct {
	data []byte
	json bool
}

// wireCodec and jsonCodec hand requests over as they are. What they encode are
// responses, and details of errors.
type (
	wireCodec struct{}
	jsonCodec struct{ name string }
)

func (wireCodec) Name() string   { return "proto" }
func (c jsonCodec) Name() string { return c.name }

func (wireCodec) Unmarshal(data []byte, m any) error { return unmarshal(data, m, false) }
func (jsonCodec) Unmarshal(data []byte, m any) error { return unmarshal(data, m, true) }

func unmarshal(data []byte, m any, json bool) error {
	f, ok := m.(*frame)
	if !ok {
		return fmt.Errorf("unmarshal %T: not a frame", m)
	}
	f.data = append([]byte(nil), data...) // data is a buffer that is used again as soon as we return
	f.json = json
	return nil
}

func (wireCodec) Marshal(m any) ([]byte, error) {
	message, ok := m.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("marshal %T: not a message", m)
	}
	return proto.Marshal(message)
}

// Marshal writes fields that are zero as well: an index is 0 rather than absent
// for those who read the JSON by hand.
func (jsonCodec) Marshal(m any) ([]byte, error) {
	message, ok := m.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("marshal %T: not a message", m)
	}
	return protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(message)
}

// boundedGzip ends after max bytes, one more than the RPC library takes, which
// then refuses the request. By itself the library decompresses what it refuses
// to its end: a megabyte can be a gigabyte of zeros.
type boundedGzip struct {
	gzip.Reader
	max, left int64
}

func (b *boundedGzip) Reset(r io.Reader) error {
	b.left = b.max
	return b.Reader.Reset(r)
}

func (b *boundedGzip) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	n, err := b.Reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
