// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
	"unicode/utf8"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// keyAttribute carries a message's key. Pub/Sub's own ordering keys would not
// do: they slow a topic down to one request per key at a time, and order means
// nothing to events.
const keyAttribute = "message.key"

const (
	pubsubPingTimeout = 5 * time.Second
	// pubsubPublishBytes bounds the requests that one topic has in flight. A
	// request is held twice, as its parts and as what gRPC writes.
	pubsubPublishBytes = 6 * limits.RequestBytes
)

// pubsubTopic publishes to Google Cloud Pub/Sub through the client's request
// level. Its usual level takes one message at a time, and spends a future and
// a timer's worth of latency on each to build the batches that Publish is
// given to start with.
type pubsubTopic struct {
	client   *pubsub.TopicAdminClient
	resource pubsubResource
	inFlight *semaphore.Weighted // in bytes

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // none begins once closed
}

// begin returns false if the topic is closed. Otherwise calls.Done must follow.
func (t *pubsubTopic) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.calls.Add(1)
	}
	return !t.closed
}

func openPubSub(ctx context.Context, u *url.URL) (Topic, error) {
	r, err := parsePubSubURL(u, "topics")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pubsubOpenTimeout)
	defer cancel()
	client, err := dialPubSub(ctx, pubsub.NewTopicAdminClient)
	if err != nil {
		return nil, err
	}
	t := &pubsubTopic{client: client, resource: r, inFlight: semaphore.NewWeighted(pubsubPublishBytes)}
	if err := t.Ping(ctx); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return t, nil
}

func (t *pubsubTopic) Ping(ctx context.Context) error {
	if !t.begin() {
		return ErrClosed
	}
	defer t.calls.Done()
	ctx, cancel := context.WithTimeout(ctx, pubsubPingTimeout)
	defer cancel()
	_, err := t.client.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: t.resource.String()}, withoutRetry)
	return t.resource.explain(err)
}

func (t *pubsubTopic) Close() error {
	t.mu.Lock()
	already := t.closed
	t.closed = true
	t.mu.Unlock()
	if already {
		return nil
	}
	t.calls.Wait()
	return t.client.Close()
}

func (t *pubsubTopic) Publish(ctx context.Context, ms []Message) []error {
	if !t.begin() {
		return errorForEach(ms, ErrClosed)
	}
	defer t.calls.Done()

	errs := make([]error, len(ms))
	var requests sync.WaitGroup
	at, size := make([]int, 0, min(len(ms), limits.RequestMessages)), 0
	send := func() {
		part := at
		requests.Go(func() { t.send(ctx, ms, part, errs) })
		at, size = nil, 0
	}
	header := t.requestSize()
	for i := range ms {
		n, err := pubsubMessageSize(&ms[i])
		if err == nil && header+n > limits.RequestBytes {
			err = fmt.Errorf("%d bytes in a request of at most %d: %w", n, limits.RequestBytes-header, ErrRejected)
		}
		if err != nil {
			errs[i] = err
			continue
		}
		if len(at) == limits.RequestMessages || header+size+n > limits.RequestBytes {
			send()
		}
		at, size = append(at, i), size+n
	}
	if len(at) > 0 {
		send()
	}
	requests.Wait()
	for _, err := range errs {
		if err != nil {
			return errs
		}
	}
	return nil
}

// send publishes the messages of ms at the given positions in one request and
// sets their errors. Pub/Sub refuses a request as a whole: one that it will
// never take is halved until only the messages that are the reason are left.
func (t *pubsubTopic) send(ctx context.Context, ms []Message, at []int, errs []error) {
	err := t.request(ctx, ms, at)
	switch {
	case err == nil:
		return
	case neverTaken(err) && len(at) > 1:
		half := len(at) / 2
		t.send(ctx, ms, at[:half], errs)
		t.send(ctx, ms, at[half:], errs)
		return
	case neverTaken(err):
		err = fmt.Errorf("publish to %s: %w: %w", t.resource, ErrRejected, err)
	default:
		err = fmt.Errorf("publish to %s: %w", t.resource, t.resource.explain(err))
	}
	for _, i := range at {
		errs[i] = err
	}
}

func (t *pubsubTopic) request(ctx context.Context, ms []Message, at []int) error {
	size := 0
	for _, i := range at {
		n, _ := pubsubMessageSize(&ms[i])
		size += n
	}
	if err := t.inFlight.Acquire(ctx, int64(size)); err != nil {
		return err
	}
	defer t.inFlight.Release(int64(size))

	// The messages are written as wire bytes, which the request carries as
	// fields unknown to it and writes out as they are. Building a struct and a
	// map for each message first costs several times as much.
	wire := make([]byte, 0, size)
	for _, i := range at {
		wire = appendPubSubMessage(wire, &ms[i])
	}
	req := &pubsubpb.PublishRequest{Topic: t.resource.String()}
	req.ProtoReflect().SetUnknown(wire)
	return persist(ctx, func(ctx context.Context) error {
		resp, err := t.client.Publish(ctx, req, withoutRetry)
		if err == nil && len(resp.MessageIds) != len(at) {
			err = status.Errorf(codes.Internal, "%d messages confirmed of %d", len(resp.MessageIds), len(at))
		}
		return err
	})
}

// requestSize is the size of a request without messages.
func (t *pubsubTopic) requestSize() int {
	return protowire.SizeTag(1) + protowire.SizeBytes(len(t.resource.String()))
}

// Field numbers of google.pubsub.v1.
const (
	requestMessages   protowire.Number = 2
	messageData       protowire.Number = 1
	messageAttributes protowire.Number = 2
	entryKey          protowire.Number = 1
	entryValue        protowire.Number = 2
)

// pubsubMessageSize is how much m adds to a request. It refuses what Pub/Sub
// would refuse, so that one bad message does not cost its neighbours a dozen
// requests to find it.
func pubsubMessageSize(m *Message) (int, error) {
	if len(m.Data) == 0 && len(m.Attributes) == 0 && m.Key == "" {
		return 0, fmt.Errorf("neither key, data nor attributes: %w", ErrRejected)
	}
	if len(m.Attributes) > limits.Attributes {
		return 0, fmt.Errorf("more than %d attributes: %w", limits.Attributes, ErrRejected)
	}
	for _, a := range m.Attributes {
		if a.Key == keyAttribute {
			return 0, fmt.Errorf("attribute %s is how Pub/Sub carries the key: %w", keyAttribute, ErrRejected)
		}
		if !validAttribute(a) {
			return 0, fmt.Errorf("an attribute is not UTF-8, or outside 1 to %d bytes of key and %d of value: %w",
				limits.AttributeKeyBytes, limits.AttributeValueBytes, ErrRejected)
		}
	}
	if !validAttribute(Attribute{keyAttribute, m.Key}) {
		return 0, fmt.Errorf("the key is not UTF-8, or longer than %d bytes: %w", limits.AttributeValueBytes, ErrRejected)
	}
	return protowire.SizeTag(requestMessages) + protowire.SizeBytes(pubsubBodySize(m)), nil
}

func validAttribute(a Attribute) bool {
	return len(a.Key) >= 1 && len(a.Key) <= limits.AttributeKeyBytes && len(a.Value) <= limits.AttributeValueBytes &&
		utf8.ValidString(a.Key) && utf8.ValidString(a.Value)
}

func pubsubBodySize(m *Message) int {
	n := 0
	if len(m.Data) > 0 {
		n += protowire.SizeTag(messageData) + protowire.SizeBytes(len(m.Data))
	}
	for _, a := range m.Attributes {
		n += protowire.SizeTag(messageAttributes) + protowire.SizeBytes(entrySize(a))
	}
	if m.Key != "" {
		n += protowire.SizeTag(messageAttributes) + protowire.SizeBytes(entrySize(Attribute{keyAttribute, m.Key}))
	}
	return n
}

func entrySize(a Attribute) int {
	return protowire.SizeTag(entryKey) + protowire.SizeBytes(len(a.Key)) +
		protowire.SizeTag(entryValue) + protowire.SizeBytes(len(a.Value))
}

func appendPubSubMessage(b []byte, m *Message) []byte {
	b = protowire.AppendTag(b, requestMessages, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(pubsubBodySize(m)))
	if len(m.Data) > 0 {
		b = protowire.AppendTag(b, messageData, protowire.BytesType)
		b = protowire.AppendBytes(b, m.Data)
	}
	for _, a := range m.Attributes {
		b = appendEntry(b, a)
	}
	if m.Key != "" {
		b = appendEntry(b, Attribute{keyAttribute, m.Key})
	}
	return b
}

func appendEntry(b []byte, a Attribute) []byte {
	b = protowire.AppendTag(b, messageAttributes, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(entrySize(a)))
	b = protowire.AppendTag(b, entryKey, protowire.BytesType)
	b = protowire.AppendString(b, a.Key)
	b = protowire.AppendTag(b, entryValue, protowire.BytesType)
	return protowire.AppendString(b, a.Value)
}
