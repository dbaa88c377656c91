// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// bury makes a dead letter of each message that has a violation, and returns nil
// once all of them are durable.
func (l *landing) bury(ctx context.Context, ms []topic.Message, violations []*limits.Violation) error {
	var letters []topic.Message
	var arena []byte // what their data is in, a chunk at a time
	reasons := map[string]int{}
	for i, v := range violations {
		if v == nil {
			continue
		}
		reasons[v.Reason]++
		start := len(arena)
		var labels payload.Labels
		arena, labels = payload.AppendUnlandable(arena, ms[i].Key, ms[i].Data, ms[i].Attributes, v)
		letters = append(letters, topic.Message{Key: labels.Key, Data: arena[start:len(arena):len(arena)], Attributes: labels.Attributes})
		if len(letters) == limits.RequestMessages || len(arena) >= limits.ChunkBytes {
			if err := l.publish(ctx, letters); err != nil {
				return err
			}
			letters, arena = letters[:0], arena[:0]
		}
	}
	if err := l.publish(ctx, letters); err != nil {
		return err
	}
	if len(reasons) > 0 {
		l.o.Log.Warn("messages that cannot land are dead letters now", "of", len(ms), "reasons", reasons)
	}
	return nil
}

// publish makes dead letters durable, however long it takes. Those that the topic
// will never take land at once. Its error is that ctx ended.
func (l *landing) publish(ctx context.Context, letters []topic.Message) error {
	work, done := l.finishing(ctx)
	defer done()
	defer l.burying.try()()
	var unpublishable []warehouse.Rejected
	for retry := (backoff{}); len(letters) > 0; {
		errs := l.o.DeadLetterTopic.Publish(work, letters)
		var left []topic.Message
		var cause error
		for i := range letters {
			switch err := outcome(errs, i); {
			case errors.Is(err, topic.ErrRejected):
				// Likely it is too large: it is larger than what it was made of.
				unpublishable = append(unpublishable, warehouse.Rejected{})
				DecodeRejected(&letters[i], &unpublishable[len(unpublishable)-1])
			case err != nil:
				left, cause = append(left, letters[i]), err
			}
		}
		letters = left
		if cause == nil {
			l.burying.over()
			break
		}
		if work.Err() == nil {
			l.burying.failed(cause)
		}
		retry.wait(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("publish dead letters: %w", cause)
		}
	}
	return l.landRejected(ctx, unpublishable)
}

var errNoOutcome = errors.New("the topic did not say what became of the message")

// outcome is what Publish says of its message i.
func outcome(errs []error, i int) error {
	switch {
	case errs == nil:
		return nil
	case i < len(errs):
		return errs[i]
	}
	return errNoOutcome
}

// landDeadLetters lands a batch of dead letters.
func (l *landing) landDeadLetters(ctx context.Context, ms []topic.Message) error {
	rejected := make([]warehouse.Rejected, len(ms))
	for i := range ms {
		DecodeRejected(&ms[i], &rejected[i])
	}
	return l.landRejected(ctx, rejected)
}

func (l *landing) landRejected(ctx context.Context, rejected []warehouse.Rejected) error {
	result, err := l.insert(ctx, deadLetters, &warehouse.Batch{Rejected: rejected})
	if err != nil {
		return err
	}
	// The warehouse says how many are new. A topic has those after what it
	// delivers again.
	for i := len(rejected) - result.Rejected; i < len(rejected); i++ {
		l.o.Metrics.Rejected.Add(1, rejected[i].Reason)
	}
	return nil
}
