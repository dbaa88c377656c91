// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// While f runs, its messages stay with it.
func TestPubSubLease(t *testing.T) {
	extended := make(chan struct{}, 3)
	s, c := newFaulty(t, "ModifyAckDeadline", func(req any) error {
		if req.(*pubsubpb.ModifyAckDeadlineRequest).AckDeadlineSeconds > 0 {
			select {
			case extended <- struct{}{}:
			default: // pstest holds a lock meanwhile
			}
		}
		return nil
	})
	topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})
	sub.(*pubsubSubscription).renew = time.Millisecond
	mustPublish(t, topic, numbered(0, 1)...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := sub.Receive(ctx, func(context.Context, []Message) error {
		for range 3 {
			<-extended
		}
		cancel()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if m := s.Messages()[0]; m.Acks != 1 || m.Deliveries != 1 {
		t.Errorf("%d deliveries and %d acknowledgements, want 1 and 1", m.Deliveries, m.Acks)
	}
}

// An acknowledgement that fails is made again; f is not called again for it.
func TestPubSubAcknowledgesAgain(t *testing.T) {
	var requests atomic.Int64
	s, c := newFaulty(t, "Acknowledge", func(any) error {
		if requests.Add(1) <= 2 {
			return status.Error(codes.Unavailable, "try later")
		}
		return nil
	})
	topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{})
	mustPublish(t, topic, numbered(0, 1)...)
	if got := receive(t, sub, 1); len(got) != 1 {
		t.Errorf("received %d messages, want 1", len(got))
	}
	if m := s.Messages()[0]; m.Acks != 1 || m.Deliveries != 1 {
		t.Errorf("%d deliveries and %d acknowledgements, want 1 and 1", m.Deliveries, m.Acks)
	}
}

// A stream that breaks is opened again, and what came with it is not lost.
func TestPubSubStreamBreaks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	t.Cleanup(g.Stop)
	s := new(breaking)
	pubsubpb.RegisterSubscriberServer(g, s)
	go g.Serve(l)
	t.Setenv("PUBSUB_EMULATOR_HOST", l.Addr().String())

	got := receive(t, mustSubscribe(t, "gcppubsub://projects/p/subscriptions/s"), 4*pubsubStreams)
	if s.acknowledged.Load() != int64(len(got)) {
		t.Errorf("%d messages acknowledged, want %d", s.acknowledged.Load(), len(got))
	}
}

// breaking is a subscription whose streams break after one message.
type breaking struct {
	pubsubpb.UnimplementedSubscriberServer
	streams, acknowledged atomic.Int64
}

func (s *breaking) GetSubscription(context.Context, *pubsubpb.GetSubscriptionRequest) (*pubsubpb.Subscription, error) {
	return new(pubsubpb.Subscription), nil
}

func (s *breaking) StreamingPull(stream pubsubpb.Subscriber_StreamingPullServer) error {
	n := fmt.Sprint(s.streams.Add(1))
	if err := stream.Send(&pubsubpb.StreamingPullResponse{ReceivedMessages: []*pubsubpb.ReceivedMessage{{
		AckId: n, Message: &pubsubpb.PubsubMessage{Attributes: map[string]string{keyAttribute: n}},
	}}}); err != nil {
		return err
	}
	return status.Error(codes.Unavailable, "the server was unable to fulfill your request")
}

func (s *breaking) Acknowledge(_ context.Context, req *pubsubpb.AcknowledgeRequest) (*emptypb.Empty, error) {
	s.acknowledged.Add(int64(len(req.AckIds)))
	return new(emptypb.Empty), nil
}

// What another receiver could take is given back when a receiver stops.
func TestPubSubGivesBack(t *testing.T) {
	c := newPubSub(t)
	topic, first, second := c.publish(t), c.subscribe(t, "all", BatchOptions{}), c.subscribe(t, "all", BatchOptions{})
	ms := numbered(0, 2500)
	mustPublish(t, topic, ms...)
	ctx, cancel := context.WithCancel(t.Context())
	err := first.Receive(ctx, func(context.Context, []Message) error { cancel(); return ctx.Err() })
	if err != nil {
		t.Fatal(err)
	}
	if got := receive(t, second, len(ms)); len(got) != len(ms) {
		t.Errorf("received %d messages, want %d", len(got), len(ms))
	}
}

func TestPubSubSubscriptionDeleted(t *testing.T) {
	c := newPubSub(t)
	sub := c.subscribe(t, "all", BatchOptions{}).(*pubsubSubscription)
	err := sub.client.DeleteSubscription(t.Context(), &pubsubpb.DeleteSubscriptionRequest{Subscription: sub.resource.String()})
	if err != nil {
		t.Fatal(err)
	}
	err = sub.Receive(t.Context(), func(context.Context, []Message) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("Receive = %v, want that the subscription does not exist", err)
	}
}

// Of several batches under way, only the one that fails comes again.
func TestPubSubBatchFailsAmongOthers(t *testing.T) {
	_, c := newFaulty(t, "Acknowledge", func(any) error { return nil })
	topic, sub := c.publish(t), c.subscribe(t, "all", BatchOptions{Messages: 10, InFlight: 2})
	mustPublish(t, topic, numbered(0, 20)...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	seen, failed := make(map[string]int), map[string]bool(nil)
	left := 20
	another := make(chan struct{}) // closed when another batch than the first is done
	err := sub.Receive(ctx, func(_ context.Context, ms []Message) error {
		mu.Lock()
		for _, m := range ms {
			seen[m.Key]++
		}
		first := failed == nil
		if first {
			failed = make(map[string]bool)
			for _, m := range ms {
				failed[m.Key] = true
			}
			mu.Unlock()
			<-another
			return errors.New("not this time")
		}
		defer mu.Unlock()
		if left -= len(ms); left+len(ms) == 20 {
			close(another)
		}
		if left == 0 {
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range numbered(0, 20) {
		want := 1
		if failed[m.Key] {
			want = 2
		}
		if seen[m.Key] != want {
			t.Errorf("message %s was delivered %d times, want %d", m.Key, seen[m.Key], want)
		}
	}
}

// What is held is the batches under way and one more, however much arrives.
func TestPubSubMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newPubSubInbox(BatchOptions{Messages: 100, Bytes: 1000, InFlight: 2})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var arriving []*pubsubpb.ReceivedMessage
		for n := range 100 {
			arriving = append(arriving, &pubsubpb.ReceivedMessage{AckId: fmt.Sprint(n), Message: &pubsubpb.PubsubMessage{Data: make([]byte, 100)}})
		}
		go in.add(ctx, arriving)
		taken := 0
		for range 10 {
			synctest.Wait()
			if held := len(in.arrived) + len(in.over); held != 30 {
				t.Fatalf("%d messages of 100 bytes are held after %d, want 30", held, taken)
			}
			batch := in.next(ctx)
			if taken += len(batch); len(batch) != 10 {
				t.Fatalf("a batch has %d messages, want 10", len(batch))
			}
			in.release(batch)
			if taken == 70 {
				return
			}
		}
	})
}
