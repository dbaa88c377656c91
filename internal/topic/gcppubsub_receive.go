// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	gax "github.com/googleapis/gax-go/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// pubsubStreams is how many streaming pulls are open at once. One carries
	// at most 10 MB/s from Pub/Sub, and 2,000 messages a second from its emulator.
	pubsubStreams = 8
	// pubsubLease is how long a message stays ours without a word from us: so
	// long after a crash it is delivered to someone else. It is extended three
	// times as often.
	pubsubLease = time.Minute
	// pubsubHeldMessages are held even if batches are smaller, within the bytes
	// that may be: Pub/Sub is slow to hand out a few at a time.
	pubsubHeldMessages = 5000
	// pubsubStopTimeout bounds acknowledging and giving back messages once the
	// receiver was told to stop. What is late is delivered again.
	pubsubStopTimeout = 10 * time.Second
	// pubsubAckIDs is how many messages one request acknowledges or extends.
	pubsubAckIDs = 1000
)

// pubsubSubscription receives through streaming pulls, which deliver batches; the client's usual level would take them apart into a goroutine for
// each message, and drops acknowledgements when its stream fails.
//
// Messages arrive in no particular order, and Pub/Sub may deliver one again
// although it was acknowledged.
type pubsubSubscription struct {
	client   *pubsub.SubscriptionAdminClient
	resource pubsubResource
	batch    BatchOptions
	log      *slog.Logger
	renew    time.Duration // how often leases are renewed
}

func subscribePubSub(ctx context.Context, u *url.URL, b BatchOptions, log *slog.Logger) (Subscription, error) {
	r, err := parsePubSubURL(u, "subscriptions")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pubsubOpenTimeout)
	defer cancel()
	client, err := dialPubSub(ctx, pubsub.NewSubscriptionAdminClient)
	if err != nil {
		return nil, err
	}
	_, err = client.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: r.String()}, withoutRetry)
	if err != nil {
		return nil, errors.Join(r.explain(err), client.Close())
	}
	return &pubsubSubscription{client: client, resource: r, batch: b, log: log, renew: pubsubLease / 3}, nil
}

func (s *pubsubSubscription) Close() error { return s.client.Close() }

func (s *pubsubSubscription) Receive(ctx context.Context, f func(context.Context, []Message) error) error {
	in := newPubSubInbox(s.batch)
	pulling, stopPulling := context.WithCancel(ctx)
	defer stopPulling()
	// Acknowledgements go on for a while after the receiver was told to stop.
	finishing, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	defer context.AfterFunc(ctx, func() { pause(finishing, pubsubStopTimeout); abandon() })()

	var running sync.WaitGroup
	failed := make(chan error, 1)
	running.Go(func() {
		pulls, ctx := errgroup.WithContext(pulling)
		for range pubsubStreams {
			pulls.Go(func() error { return s.pull(ctx, in) })
		}
		failed <- pulls.Wait()
		close(in.arrived)
	})
	extending, stopExtending := context.WithCancel(finishing)
	running.Go(func() { s.extend(extending, in) })

	delivering, ctx := errgroup.WithContext(ctx)
	for range s.batch.InFlight {
		delivering.Go(func() error { return s.deliver(ctx, finishing, in, f) })
	}
	err := delivering.Wait()
	stopPulling()
	err = errors.Join(err, <-failed)
	stopExtending()
	running.Wait()
	if left := in.ids(); len(left) > 0 {
		s.giveBack(finishing, left)
	}
	if err != nil {
		return fmt.Errorf("receive from %s: %w", s.resource, s.resource.explain(err))
	}
	return nil
}

// deliver calls f with one batch after another, until ctx ends or no more can
// arrive.
func (s *pubsubSubscription) deliver(ctx, finishing context.Context, in *pubsubInbox, f func(context.Context, []Message) error) error {
	retry := redelivery()
	for {
		batch := in.next(ctx)
		if len(batch) == 0 {
			return nil
		}
		ids := make([]string, len(batch))
		ms := make([]Message, len(batch))
		for i, m := range batch {
			ids[i], ms[i] = m.ackID, m.Message
		}
		if err := f(ctx, ms); err != nil {
			// Kept while waiting: given back at once, a batch that nobody can
			// take now would go round as fast as the network allows.
			retry.wait(ctx)
			s.giveBack(finishing, ids)
		} else {
			retry.reset()
			if err := s.acknowledge(finishing, ids); err != nil {
				return err
			}
		}
		in.release(batch)
	}
}

// pull keeps a streaming pull open, which its server closes every half an hour
// in the best of times.
func (s *pubsubSubscription) pull(ctx context.Context, in *pubsubInbox) error {
	retry := pubsubRetry()
	for ctx.Err() == nil {
		received, err := s.stream(ctx, in)
		if ctx.Err() != nil {
			return nil
		}
		if !passing(err) {
			return err
		}
		if received {
			retry.reset()
		}
		retry.wait(ctx)
	}
	return nil
}

// stream receives until the stream breaks. When ctx ends it still takes what is
// on its way, so that it can be given back at once instead of a lease later.
func (s *pubsubSubscription) stream(ctx context.Context, in *pubsubInbox) (received bool, err error) {
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	keepOpen := context.AfterFunc(ctx, cancel)
	stream, err := s.client.StreamingPull(gax.InsertMetadataIntoOutgoingContext(streaming,
		"x-goog-request-params", "subscription="+url.QueryEscape(s.resource.String())), withoutRetry)
	if err != nil {
		return false, err
	}
	// If Send fails, Recv tells why.
	_ = stream.Send(&pubsubpb.StreamingPullRequest{
		Subscription:             s.resource.String(),
		StreamAckDeadlineSeconds: int32(pubsubLease / time.Second),
		MaxOutstandingMessages:   int64(in.messages/pubsubStreams + 1),
		MaxOutstandingBytes:      int64(in.bytes/pubsubStreams + 1),
	})
	if keepOpen() {
		defer context.AfterFunc(ctx, func() {
			_ = stream.CloseSend()
			pause(streaming, pubsubStopTimeout/2)
			cancel()
		})()
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return received, err
		}
		received = true
		in.add(ctx, resp.ReceivedMessages)
	}
}

// extend renews the lease of every message held until ctx ends. A failure is
// left to the next round, of which there are two before a lease runs out.
func (s *pubsubSubscription) extend(ctx context.Context, in *pubsubInbox) {
	tick := time.NewTicker(s.renew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		round, cancel := context.WithTimeout(ctx, s.renew)
		if err := s.setDeadline(round, in.ids(), pubsubLease); err != nil && ctx.Err() == nil {
			s.log.Warn("could not keep messages from being delivered again", "subscription", s.resource.String(), "error", err)
		}
		cancel()
	}
}

// giveBack lets messages be delivered again now. It need not succeed: their
// leases run out.
func (s *pubsubSubscription) giveBack(ctx context.Context, ids []string) {
	ctx, cancel := context.WithTimeout(ctx, pubsubStopTimeout/2)
	defer cancel()
	if err := s.setDeadline(ctx, ids, 0); err != nil {
		s.log.Warn("could not give messages back; they come again later", "subscription", s.resource.String(), "messages", len(ids), "error", err)
	}
}

func (s *pubsubSubscription) setDeadline(ctx context.Context, ids []string, d time.Duration) error {
	for part := range slices.Chunk(ids, pubsubAckIDs) {
		err := s.client.ModifyAckDeadline(ctx, &pubsubpb.ModifyAckDeadlineRequest{
			Subscription: s.resource.String(), AckIds: part, AckDeadlineSeconds: int32(d / time.Second),
		}, withoutRetry)
		if err != nil {
			return err
		}
	}
	return nil
}

// acknowledge tries until it succeeds: while messages cannot be acknowledged
// there is no point in taking more. It returns an error if it never will.
func (s *pubsubSubscription) acknowledge(ctx context.Context, ids []string) error {
	err := persist(ctx, func(ctx context.Context) error {
		return s.client.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{
			Subscription: s.resource.String(), AckIds: ids,
		}, withoutRetry)
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil, status.Code(err) == codes.FailedPrecondition, status.Code(err) == codes.InvalidArgument:
		// Stopped, or leases ran out in a subscription that is strict about it.
		s.log.Warn("could not acknowledge messages; they come again", "subscription", s.resource.String(), "messages", len(ids), "error", err)
		return nil
	}
	return err
}

// heldMessage is a message between its arrival and its acknowledgement.
type heldMessage struct {
	Message
	ackID string
	size  int // now, as f may change the message
}

// pubsubInbox is what has arrived and is not acknowledged yet: the batches that
// are with f, and one more, which then is here when f returns.
type pubsubInbox struct {
	batch   BatchOptions
	arrived chan heldMessage
	// room bounds the bytes held. Pub/Sub is told of the same bound, but only
	// this one is sure.
	room            *semaphore.Weighted
	messages, bytes int

	gathering sync.Mutex    // held while a batch is put together
	over      []heldMessage // at most one, which did not fit into the last batch

	mu     sync.Mutex
	leased map[string]struct{} // by acknowledgement ID
}

func newPubSubInbox(b BatchOptions) *pubsubInbox {
	messages, bytes := max((b.InFlight+1)*b.Messages, pubsubHeldMessages), (b.InFlight+1)*b.Bytes
	return &pubsubInbox{
		batch:   b,
		arrived: make(chan heldMessage, messages),
		room:    semaphore.NewWeighted(int64(bytes)), messages: messages, bytes: bytes,
		leased: make(map[string]struct{}),
	}
}

// charge is what m takes of the room.
func (in *pubsubInbox) charge(m *heldMessage) int64 { return int64(min(m.size, in.bytes)) }

// add takes messages as they arrive. If ctx ends before there is room for all
// of them, the rest are only leased.
func (in *pubsubInbox) add(ctx context.Context, ms []*pubsubpb.ReceivedMessage) {
	in.mu.Lock()
	for _, m := range ms {
		in.leased[m.AckId] = struct{}{}
	}
	in.mu.Unlock()
	for _, m := range ms {
		held := heldMessage{Message: fromPubSub(m.Message), ackID: m.AckId}
		held.size = held.Message.size()
		if in.room.Acquire(ctx, in.charge(&held)) != nil {
			return
		}
		select {
		case in.arrived <- held:
		case <-ctx.Done():
			return
		}
	}
}

// next returns what there is, up to a batch. It waits for one message, and
// returns none if ctx ends or no more can arrive.
func (in *pubsubInbox) next(ctx context.Context) []heldMessage {
	in.gathering.Lock()
	defer in.gathering.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	batch, size := in.over, 0
	in.over = nil
	if len(batch) == 0 {
		select {
		case m, more := <-in.arrived:
			if !more {
				return nil
			}
			batch = append(batch, m)
		case <-ctx.Done():
			return nil
		}
	}
	size = batch[0].size
	for len(batch) < in.batch.Messages {
		select {
		case m, more := <-in.arrived:
			if !more {
				return batch
			}
			if size += m.size; size > in.batch.Bytes {
				in.over = []heldMessage{m}
				return batch
			}
			batch = append(batch, m)
		default:
			return batch
		}
	}
	return batch
}

// release forgets messages that are acknowledged or given back.
func (in *pubsubInbox) release(batch []heldMessage) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range batch {
		delete(in.leased, batch[i].ackID)
		in.room.Release(in.charge(&batch[i]))
	}
}

func (in *pubsubInbox) ids() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Collect(maps.Keys(in.leased))
}

// fromPubSub returns m with its attributes sorted by key: Pub/Sub keeps no order.
func fromPubSub(m *pubsubpb.PubsubMessage) Message {
	key := m.Attributes[keyAttribute]
	delete(m.Attributes, keyAttribute)
	attributes := make([]Attribute, 0, len(m.Attributes))
	for k, v := range m.Attributes {
		attributes = append(attributes, Attribute{k, v})
	}
	slices.SortFunc(attributes, func(a, b Attribute) int { return cmp.Compare(a.Key, b.Key) })
	return Message{Key: key, Data: m.Data, Attributes: attributes}
}
