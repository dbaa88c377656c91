// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"github.com/google/uuid"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/topic/emulator"
	"github.com/telemetrygateway/telemetry/internal/topic/pubsubfake"
)

// newPubSub is the truth: Google's emulator.
func newPubSub(t testing.TB) carrier {
	emulator.Start(t)
	return newPubSubTopic(t, nil)
}

func newPubSubTopic(t testing.TB, schema *pubsubpb.SchemaSettings) carrier {
	t.Helper()
	id := "t-" + uuid.NewString()
	topic := "projects/test/topics/" + id
	topics, err := pubsub.NewTopicAdminClient(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer topics.Close()
	if _, err := topics.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic, SchemaSettings: schema}); err != nil {
		t.Fatal(err)
	}
	return carrier{
		publish: func(t testing.TB) Topic { return mustOpen(t, "gcppubsub://"+topic) },
		subscribe: func(t testing.TB, name string, b BatchOptions) Subscription {
			subscription := "projects/test/subscriptions/" + id + "-" + name
			subscriptions, err := pubsub.NewSubscriptionAdminClient(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer subscriptions.Close()
			_, err = subscriptions.CreateSubscription(t.Context(), &pubsubpb.Subscription{Name: subscription, Topic: topic})
			if err != nil && status.Code(err) != codes.AlreadyExists {
				t.Fatal(err)
			}
			return mustSubscribeWith(t, "gcppubsub://"+subscription, b)
		},
	}
}

// newFaulty is a topic of pstest, whose fault is called for each request to a
// method before it is served, and returns the error to answer it with, or nil.
func newFaulty(t *testing.T, method string, fault func(req any) error) (*pstest.Server, carrier) {
	t.Helper()
	s := pstest.NewServer(pstest.ServerReactorOption{FuncName: method, Reactor: reactor(fault)})
	t.Cleanup(func() { s.Close() })
	t.Setenv("PUBSUB_EMULATOR_HOST", s.Addr)
	return s, newPubSubTopic(t, nil)
}

type reactor func(req any) error

func (r reactor) React(req any) (handled bool, ret any, err error) {
	if err := r(req); err != nil {
		return true, nil, err
	}
	return false, nil, nil
}

func TestPubSubURL(t *testing.T) {
	emulator.Start(t)
	for _, test := range []struct{ url, wantOpen, wantSubscribe string }{
		{"gcppubsub:", "want gcppubsub://projects/PROJECT/topics/NAME", "want gcppubsub://projects/PROJECT/subscriptions/NAME"},
		{"gcppubsub://p/t", "want gcppubsub://projects/PROJECT/topics/NAME", "want gcppubsub://"},
		{"gcppubsub:projects/p/topics/t", "want gcppubsub://projects/PROJECT/topics/NAME", "want gcppubsub://"},
		{"gcppubsub://projects//topics/t", "want gcppubsub://projects/PROJECT/topics/NAME", "want gcppubsub://"},
		{"gcppubsub://projects/p/topics/", "want gcppubsub://projects/PROJECT/topics/NAME", "want gcppubsub://"},
		{"gcppubsub://projects/p/topics/t/x", "want gcppubsub://projects/PROJECT/topics/NAME", "want gcppubsub://"},
		{"gcppubsub://projects/p/topics/t?max=1", `unknown parameter "max"`, "receiving a subscription: want"},
		{"gcppubsub://projects/p/subscriptions/s?max=1", "publishing takes a topic", `unknown parameter "max"`},
		{
			"gcppubsub://projects/p/topics/missing",
			"projects/p/topics/missing does not exist: create it with “gcloud pubsub topics create missing --project p”",
			"receiving a subscription: want gcppubsub://projects/PROJECT/subscriptions/NAME",
		},
		{
			"gcppubsub://projects/p/subscriptions/missing",
			"publishing takes a topic, receiving a subscription: want gcppubsub://projects/PROJECT/topics/NAME",
			"does not exist: create it with “gcloud pubsub subscriptions create missing --project p --topic TOPIC”",
		},
	} {
		if _, err := Open(t.Context(), test.url, nil); err == nil || !strings.Contains(err.Error(), test.wantOpen) {
			t.Errorf("Open(%q) = %v, want %q", test.url, err, test.wantOpen)
		}
		if _, err := Subscribe(t.Context(), test.url, BatchOptions{}, nil); err == nil || !strings.Contains(err.Error(), test.wantSubscribe) {
			t.Errorf("Subscribe(%q) = %v, want %q", test.url, err, test.wantSubscribe)
		}
	}
}

func TestPubSubWithoutCredentials(t *testing.T) {
	t.Setenv("PUBSUB_EMULATOR_HOST", "")
	t.Setenv("HOME", t.TempDir())
	// A file that is named and missing is an error on every machine, even on
	// one of Google's, which has credentials of its own.
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", t.TempDir()+"/missing.json")
	const want = "gcloud auth application-default login"
	if _, err := Open(t.Context(), "gcppubsub://projects/p/topics/t", nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Open = %v, want %q", err, want)
	}
	if _, err := Subscribe(t.Context(), "gcppubsub://projects/p/subscriptions/s", BatchOptions{}, nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Subscribe = %v, want %q", err, want)
	}
}

// Finding credentials may hang on the network; opening must not.
func TestPubSubOpenEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	hanging := make(chan struct{})
	closed := make(chan struct{})
	opened := make(chan error)
	go func() {
		_, err := dialPubSub(ctx, func(context.Context, ...option.ClientOption) (closeFunc, error) {
			cancel()
			<-hanging
			return func() error { close(closed); return nil }, nil
		})
		opened <- err
	}()
	if err := <-opened; !errors.Is(err, context.Canceled) {
		t.Errorf("dial = %v, want context.Canceled", err)
	}
	close(hanging)
	<-closed // what came too late is not leaked
}

type closeFunc func() error

func (f closeFunc) Close() error { return f() }

func TestPubSubRequests(t *testing.T) {
	fake := pubsubfake.Start(t)
	topic := mustOpen(t, "gcppubsub://projects/p/topics/t")
	mega := bytes.Repeat([]byte("m"), 1_000_000)
	large := func(n int) []Message {
		ms := numbered(0, n)
		for i := range ms {
			ms[i].Data = mega
		}
		return ms
	}
	for _, test := range []struct {
		name string
		ms   []Message
		want int64
	}{
		{"none", nil, 0},
		{"one", numbered(0, 1), 1},
		{"as many as a request takes", numbered(0, 1000), 1},
		{"one more", numbered(0, 1001), 2},
		{"2,500", numbered(0, 2500), 3},
		{"9 MB", large(9), 1},
		{"10 MB, which keys and headers make larger", large(10), 2},
		{"100 MB, more than may be in flight", large(100), 12},
	} {
		requests, messages := fake.Requests.Load(), fake.Messages.Load()
		mustPublish(t, topic, test.ms...)
		if got := fake.Requests.Load() - requests; got != test.want {
			t.Errorf("%s: %d requests, want %d", test.name, got, test.want)
		}
		if got := fake.Messages.Load() - messages; got != int64(len(test.ms)) {
			t.Errorf("%s: %d messages arrived, want %d", test.name, got, len(test.ms))
		}
	}
}

// largest returns a message of exactly limits.MessageBytes as the gateway
// counts, with as many attributes as may be.
func largest() Message {
	m := Message{Key: strings.Repeat("k", limits.KeyBytes)}
	size := limits.AttributeOverhead + len(m.Key) + limits.AttributeOverhead
	for i := range limits.Attributes {
		a := Attribute{fmt.Sprintf("%0*d", limits.AttributeKeyBytes, i), strings.Repeat("v", limits.AttributeValueBytes)}
		m.Attributes = append(m.Attributes, a)
		size += len(a.Key) + len(a.Value) + limits.AttributeOverhead
	}
	m.Data = bytes.Repeat([]byte("d"), limits.MessageBytes-size)
	return m
}

func TestPubSubLargestMessage(t *testing.T) {
	c := newPubSub(t)
	topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})
	mustPublish(t, topic, largest(), Message{Key: "small"}, largest())
	got := receive(t, sub, 3)
	var sizes []int
	for _, m := range got {
		sizes = append(sizes, len(m.Data))
	}
	if len(got) != 3 {
		t.Errorf("received messages of %d bytes, want 3 messages", sizes)
	}

	over := Message{Key: "over", Data: bytes.Repeat([]byte("d"), limits.RequestBytes)}
	errs := topic.Publish(t.Context(), []Message{{Key: "before"}, over, {Key: "after"}})
	checkErrors(t, errs, map[int]error{1: ErrRejected}, 3)
}

// The longest names there may be fit beside the largest message.
func TestPubSubSizeChain(t *testing.T) {
	m := largest()
	n, err := pubsubMessageSize(&m)
	if err != nil {
		t.Fatal(err)
	}
	longest := pubsubTopic{resource: pubsubResource{strings.Repeat("p", 30), "topics", strings.Repeat("t", 255)}}
	if n += longest.requestSize(); n > limits.RequestBytes {
		t.Errorf("the largest message makes a request of %d bytes, over %d", n, limits.RequestBytes)
	}
}

// checkErrors checks that each message has the error that want has for it.
func checkErrors(t *testing.T, errs []error, want map[int]error, n int) {
	t.Helper()
	if len(errs) != n {
		t.Fatalf("%d errors for %d messages", len(errs), n)
	}
	for i, err := range errs {
		if !errors.Is(err, want[i]) {
			t.Errorf("message %d: %v, want %v", i, err, want[i])
		}
	}
}

// Each message is refused by itself, and its neighbours land, whether we know
// Pub/Sub's rule or only Pub/Sub does.
func TestPubSubRejects(t *testing.T) {
	c := newPubSub(t)
	topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})
	ms := numbered(0, 100)
	bad := map[int]Message{
		3:  {},
		17: {Key: "17", Attributes: []Attribute{{strings.Repeat("k", 300), "v"}}},
		18: {Key: "18", Attributes: []Attribute{{"k", strings.Repeat("v", 1025)}}},
		19: {Key: "19", Attributes: []Attribute{{"", "v"}}},
		20: {Key: "20", Attributes: make([]Attribute, 100)},
		40: {Key: "40", Attributes: []Attribute{{"k", "\xff"}}},
		50: {Key: "\xff"},
		60: {Key: strings.Repeat("k", 1025)},
		70: {Key: "70", Attributes: []Attribute{{keyAttribute, "71"}}},
	}
	want := map[int]error{}
	for i, m := range bad {
		ms[i], want[i] = m, ErrRejected
	}
	checkErrors(t, topic.Publish(t.Context(), ms), want, len(ms))
	if got := len(receive(t, sub, len(ms)-len(bad))); got != len(ms)-len(bad) {
		t.Errorf("received %d messages, want %d", got, len(ms)-len(bad))
	}
}

// A request that Pub/Sub refuses is narrowed down to the messages it is about.
// A topic's schema, for one, is known to Pub/Sub alone.
func TestPubSubNarrowsDown(t *testing.T) {
	emulator.Start(t)
	id := "t-" + uuid.NewString()
	schemas, err := pubsub.NewSchemaClient(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer schemas.Close()
	schema, err := schemas.CreateSchema(t.Context(), &pubsubpb.CreateSchemaRequest{
		Parent: "projects/test", SchemaId: id, Schema: &pubsubpb.Schema{
			Type:       pubsubpb.Schema_AVRO,
			Definition: `{"type": "record", "name": "Numbered", "fields": [{"name": "n", "type": "int"}]}`,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := newPubSubTopic(t, &pubsubpb.SchemaSettings{Schema: schema.Name, Encoding: pubsubpb.Encoding_JSON})
	topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})
	ms := numbered(0, 1000)
	want := map[int]error{0: ErrRejected, 500: ErrRejected, 501: ErrRejected, 999: ErrRejected}
	for i := range want {
		ms[i].Data = []byte("not what the schema says")
	}
	checkErrors(t, topic.Publish(t.Context(), ms), want, len(ms))
	if got := len(receive(t, sub, 996)); got != 996 {
		t.Errorf("received %d messages, want 996", got)
	}
}

// A server that takes smaller requests than Pub/Sub says so in a way that looks
// like a quota: what it will never take must not be tried for ever.
func TestPubSubRequestTooLarge(t *testing.T) {
	s, c := newFaulty(t, "Publish", func(req any) error {
		if n := proto.Size(req.(*pubsubpb.PublishRequest)); n > 1000 {
			return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. 1000)", n)
		}
		return nil
	})
	ms := numbered(0, 100)
	ms[50].Data = bytes.Repeat([]byte("d"), 1000)
	checkErrors(t, c.publish(t).Publish(t.Context(), ms), map[int]error{50: ErrRejected}, len(ms))
	if got := len(s.Messages()); got != 99 {
		t.Errorf("%d messages arrived, want 99", got)
	}
}

func TestPubSubRetries(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Internal, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Canceled, codes.Unknown} {
		var requests atomic.Int64
		s, c := newFaulty(t, "Publish", func(any) error {
			if requests.Add(1) <= 2 {
				return status.Error(code, "try later")
			}
			return nil
		})
		mustPublish(t, c.publish(t), numbered(0, 10)...)
		if got := len(s.Messages()); got != 10 || requests.Load() != 3 {
			t.Errorf("%v twice: %d messages arrived after %d requests, want 10 after 3", code, got, requests.Load())
		}
	}
}

func TestPubSubPermissionDenied(t *testing.T) {
	denied := status.Error(codes.PermissionDenied, "User not authorized to perform this action.")
	_, c := newFaulty(t, "Publish", func(any) error { return denied })
	errs := c.publish(t).Publish(t.Context(), numbered(0, 2))
	if len(errs) != 2 {
		t.Fatalf("%d errors for 2 messages", len(errs))
	}
	for _, err := range errs {
		if errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), "grant roles/pubsub.publisher") {
			t.Errorf("Publish = %v, want what to grant, and not ErrRejected", err)
		}
	}

	var deny atomic.Bool
	_, c = newFaulty(t, "GetTopic", func(any) error {
		if deny.Load() {
			return denied
		}
		return nil
	})
	topic := c.publish(t)
	deny.Store(true)
	if err := topic.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "grant roles/pubsub.publisher") {
		t.Errorf("Ping = %v, want what to grant", err)
	}
	_, err := Open(t.Context(), "gcppubsub://projects/p/topics/t", nil)
	if err == nil || !strings.Contains(err.Error(), "not allowed to use projects/p/topics/t") {
		t.Errorf("Open = %v, want that it is not allowed", err)
	}
}

func TestPubSubServerGone(t *testing.T) {
	s := pstest.NewServer()
	t.Setenv("PUBSUB_EMULATOR_HOST", s.Addr)
	c := newPubSubTopic(t, nil)
	topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})
	s.Close()
	if err := topic.Ping(t.Context()); err == nil {
		t.Error("Ping = nil")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	errs := topic.Publish(ctx, numbered(0, 1500))
	if len(errs) != 1500 {
		t.Fatalf("%d errors for 1500 messages", len(errs))
	}
	for _, err := range errs {
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), "connection refused") {
			t.Fatalf("Publish = %v, want the deadline and why it was reached", err)
		}
	}
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := sub.Receive(ctx, func(context.Context, []Message) error { return nil }); err != nil {
		t.Errorf("Receive = %v, want nil: the server may come back", err)
	}
}
