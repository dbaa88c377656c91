// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// obviousEncoder makes the same payload as payload.Encoder in the way that
// first comes to mind: render the parts with the libraries for it, and join
// them with a map. It checks nothing.
type obviousEncoder struct {
	sender   payload.Sender
	metadata json.RawMessage
}

func newObviousEncoder(md *pb.RecordEventsRequestMetadata, s payload.Sender) (*obviousEncoder, error) {
	rendered, err := protojson.Marshal(md)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(rendered, &fields); err != nil {
		return nil, err
	}
	instance := fields["identifier"].(map[string]any)["licensedInstance"].(map[string]any)
	delete(instance, "licenseKey")
	instance["licenseKeyFingerprint"] = s.License.Fingerprint
	instance["license"] = s.License
	metadata, err := json.Marshal(fields)
	return &obviousEncoder{s, metadata}, err
}

// encode returns an event's payload and its attributes.
func (e *obviousEncoder) encode(event *pb.Event, receivedAt time.Time) ([]byte, map[string]string, error) {
	rendered, err := protojson.Marshal(event)
	if err != nil {
		return nil, nil, err
	}
	attributes := map[string]string{
		"publisher.source":         e.sender.Source,
		"publisher.id":             e.sender.ID,
		"license.id":               e.sender.License.ID,
		"event.id":                 event.GetId(),
		"event.feature":            event.GetFeature(),
		"event.action":             event.GetAction(),
		"event.hasPrivateMetadata": strconv.FormatBool(event.GetParameters().GetPrivateMetadata() != nil),
	}
	for key, n := range event.GetParameters().GetMetadata() {
		if n > 0 && strings.HasPrefix(key, "recordsPrivateMetadata") {
			attributes["event."+key] = "true"
		}
	}
	labels := map[string]string{
		"receivedAt":      receivedAt.UTC().Format(time.RFC3339Nano),
		"publisher.trust": e.sender.Trust,
		"license.status":  e.sender.License.Status,
	}
	for k, v := range attributes {
		labels[k] = v
	}
	renderedLabels, err := json.Marshal(labels)
	if err != nil {
		return nil, nil, err
	}
	data, err := json.Marshal(map[string]json.RawMessage{"metadata": e.metadata, "event": rendered, "labels": renderedLabels})
	return data, attributes, err
}

// obviousWorkers is how many events of a message are worked on at once.
const obviousWorkers = 250

// obviousGateway is the baseline: a service of generated code that is given
// whole decoded messages, and that encodes and publishes each event on its
// own, with a future for each. It identifies nobody.
type obviousGateway struct {
	publish func(ctx context.Context, data []byte, attributes map[string]string) error
}

// serveObvious serves the baseline on l. It publishes to a topic of Pub/Sub,
// or nowhere if publisher is nil.
func serveObvious(l net.Listener, publisher *pubsub.Publisher) func() {
	g := &obviousGateway{func(context.Context, []byte, map[string]string) error { return nil }}
	if publisher != nil {
		g.publish = func(ctx context.Context, data []byte, attributes map[string]string) error {
			_, err := publisher.Publish(ctx, &pubsub.Message{Data: data, Attributes: attributes}).Get(ctx)
			return err
		}
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: telemetrygatewayv1connect.TelemetryGatewayServiceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "RecordEvents", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return g.recordEvents(stream) },
		}},
	}, g)
	go server.Serve(l)
	return server.Stop
}

func (g *obviousGateway) recordEvents(stream grpc.ServerStream) error {
	var encoder *obviousEncoder
	for {
		var req pb.RecordEventsRequest
		if err := stream.RecvMsg(&req); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if md := req.GetMetadata(); md != nil {
			var err error
			if encoder, err = newObviousEncoder(md, licensedSender()); err != nil {
				return err
			}
			continue
		}
		if encoder == nil {
			return errors.New("events before metadata")
		}
		resp, err := g.record(stream.Context(), encoder, req.GetEvents().GetEvents())
		if err != nil {
			return err
		}
		if err := stream.SendMsg(resp); err != nil {
			return err
		}
	}
}

func (g *obviousGateway) record(ctx context.Context, encoder *obviousEncoder, events []*pb.Event) (*pb.RecordEventsResponse, error) {
	next := make(chan *pb.Event)
	var mu sync.Mutex
	var failures []error
	resp := &pb.RecordEventsResponse{}
	var workers sync.WaitGroup
	for range min(obviousWorkers, len(events)) {
		workers.Go(func() {
			for event := range next {
				data, attributes, err := encoder.encode(event, time.Now())
				if err == nil {
					err = g.publish(ctx, data, attributes)
				}
				mu.Lock()
				if err == nil {
					resp.SucceededEvents = append(resp.SucceededEvents, event.GetId())
				} else {
					failures = append(failures, err)
				}
				mu.Unlock()
			}
		})
	}
	for _, event := range events {
		next <- event
	}
	close(next)
	workers.Wait()
	if len(failures) > 0 {
		return nil, fmt.Errorf("%d events failed, the first: %w", len(failures), failures[0])
	}
	return resp, nil
}
