// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package deadletter

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/telemetrygateway/telemetry/internal/topic"
)

// ReplayOptions say what becomes of the events of dead letters.
type ReplayOptions struct {
	Topic topic.Topic // is published to; nil only tries
	Patch []byte      // of each event, see payload.DeadLetter.Replay; nil for none
	// Report, unless it is nil, is called with each dead letter that is meant,
	// and why its event cannot be published, one at a time.
	Report func(l *Letter, invalid error)
}

// Replayed says what became of dead letters.
type Replayed struct {
	Looked
	Published int // or would be
	Invalid   int // cannot be
}

// Replay publishes the events of the dead letters that are meant. To do so again
// publishes the same messages again, which land once, so that after an error, of
// which it is unknown how far Replay came, it is called again.
func (s *Letters) Replay(ctx context.Context, which Selection, r ReplayOptions) (Replayed, error) {
	var sum Replayed
	var mu sync.Mutex
	report := func(l *Letter, invalid error) {
		mu.Lock()
		defer mu.Unlock()
		if invalid == nil {
			sum.Published++
		} else {
			sum.Invalid++
		}
		if r.Report != nil {
			r.Report(l, invalid)
		}
	}
	looked, err := s.look(ctx, which, func(letters []*Letter) (bool, error) {
		var ms []topic.Message
		var from []*Letter
		for _, l := range letters {
			data, labels, err := l.Replay(l.Message.Key, r.Patch)
			if err != nil {
				report(l, err)
				continue
			}
			ms, from = append(ms, topic.Message{Key: labels.Key, Data: data, Attributes: labels.Attributes}), append(from, l)
		}
		var errs []error
		if r.Topic != nil && len(ms) > 0 {
			errs = r.Topic.Publish(ctx, ms) // to the end, also when the look is over
		}
		published, failed := 0, error(nil)
		for i, l := range from {
			switch err := outcome(errs, i); {
			case err == nil:
				published++
				report(l, nil)
			case errors.Is(err, topic.ErrRejected):
				report(l, err)
			default:
				failed = err
			}
		}
		if failed != nil {
			return false, fmt.Errorf("publish: %w", failed)
		}
		return r.Topic != nil && published == len(letters), nil
	})
	sum.Looked = looked
	return sum, err
}

// outcome is what Publish says of its message i.
func outcome(errs []error, i int) error {
	if errs == nil {
		return nil
	}
	return errs[i]
}
