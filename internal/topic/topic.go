// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package topic is a durable carrier of messages between the gateway and
// whatever reads from it. A topic knows nothing of events: batching, limits
// and retries that all topics need live with the callers.
//
// Opening a topic by URL yields one of the technologies in this folder; one
// suite of tests holds for all of them.
package topic

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// Attribute is one label of a message, visible without reading its data. It has
// no name of its own, so that who makes attributes need not know of topics.
type Attribute = struct{ Key, Value string }

// Message is what a topic carries. Key names the message for people and for
// topics that partition; it need not be unique.
type Message struct {
	Key        string
	Data       []byte
	Attributes []Attribute
	// Sequence is the position of a message received from a topic that keeps
	// them in order, and 0 from others. Publish ignores it.
	Sequence int64
}

// size returns how many bytes m's strings and data have.
func (m *Message) size() int {
	n := len(m.Key) + len(m.Data)
	for _, a := range m.Attributes {
		n += len(a.Key) + len(a.Value)
	}
	return n
}

// Topic takes messages. All methods may be called from several goroutines at
// once.
type Topic interface {
	// Publish makes messages durable. It returns nil when all of them are, or
	// one error for each message, in order, nil for those that are durable. An
	// error means that the message may or may not be there, and that
	// publishing it again is safe, unless errors.Is(err, ErrRejected).
	//
	// Publish blocks until the outcome is known or ctx ends. The slices, and
	// all the bytes they refer to, those of strings too, belong to the topic
	// until Publish returns and to the caller after that: the topic keeps none
	// of them.
	Publish(ctx context.Context, ms []Message) []error

	// Ping returns an error that says what is wrong if messages cannot be
	// published at the moment.
	Ping(ctx context.Context) error

	// Close waits for calls under way and frees what the topic holds. Publish
	// after Close returns ErrClosed for each message.
	Close() error
}

// Subscription reads messages. Each subscription of a topic, told apart by
// name, gets every message published since it was first opened. Where the topic
// still has older ones, a new subscription begins with the oldest, unless its
// URL says otherwise: to lose nothing is the default.
type Subscription interface {
	// Receive calls f with batches of messages until ctx ends, or until it is
	// where its URL says that it ends, then returns nil. Up to
	// BatchOptions.InFlight calls are under way at the same time, each with a
	// batch of its own: what is there when one can begin, without waiting for
	// more. A batch is never with two receivers of one subscription at the same
	// time; f's context ends when that can no longer be kept up.
	//
	// Messages of a batch for which f returns nil are acknowledged: durably not
	// delivered again, save that a crash before the acknowledgement is written
	// delivers them again. When f returns an error the batch is delivered again
	// later, and Receive goes on. A topic that keeps messages in order also
	// acknowledges in order: a batch waits for those before it, and is delivered
	// again with one of them that failed, even if f returned nil for it.
	//
	// Slices passed to f are valid until that call returns. Receive returns
	// after the last call has.
	//
	// Receive returns an error only if it cannot go on, such as when the
	// topic is gone.
	Receive(ctx context.Context, f func(context.Context, []Message) error) error

	// Close frees what the subscription holds. It must not be called while
	// Receive runs.
	Close() error
}

// Stats is what a topic that keeps messages itself holds. Such a topic has the
// method Stats(context.Context) (Stats, error).
type Stats struct {
	Messages int64
	Bytes    int64     // of keys, attributes and data
	Oldest   time.Time // when the oldest message was published; zero without one
	// ExpiredUnread counts, since the topic was made, messages that an
	// operator's limit removed before every subscription had acknowledged them.
	ExpiredUnread int64
}

var (
	// ErrRejected marks a message that the topic will never take.
	ErrRejected = errors.New("the topic will never take this message")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the topic is closed")
	// ErrFull marks a message for which a bounded topic has no room now.
	ErrFull = errors.New("the topic is full")
)

// BatchOptions say what is given to the function that Receive calls. Zero means
// the default.
type BatchOptions struct {
	Messages int // most messages of one call; default 1000
	// Bytes is the most bytes of one call, of keys, attributes and data; default
	// 8 MiB. One larger message comes alone.
	Bytes    int
	InFlight int // calls under way at once; default 1
}

func (b BatchOptions) withDefaults() BatchOptions {
	return BatchOptions{
		Messages: cmp.Or(max(b.Messages, 0), 1000),
		Bytes:    cmp.Or(max(b.Bytes, 0), 8<<20),
		InFlight: cmp.Or(max(b.InFlight, 0), 1),
	}
}

// errorForEach returns err once for each message.
func errorForEach(ms []Message, err error) []error {
	if len(ms) == 0 {
		return nil
	}
	errs := make([]error, len(ms))
	for i := range errs {
		errs[i] = err
	}
	return errs
}
