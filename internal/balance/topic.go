// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/pipeline"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// reordered is by how much messages may be out of the order in which they were
// received.
const reordered = time.Minute

// countTopic adds what a topic has. Messages after position are unread.
func (b *books) countTopic(ctx context.Context, url string, position int64, count func(*books, *topic.Message, bool) time.Time) error {
	if !strings.HasPrefix(url, "sqlite:") {
		return nil
	}
	file, _, _ := strings.Cut(url, "?")
	sub, err := topic.Subscribe(ctx, file+"?peek=start&until=now", topic.BatchOptions{}, b.o.Log)
	if err != nil {
		return err
	}
	defer sub.Close()
	// The oldest messages go first, so that one that is still there tells of when
	// those are that are not.
	first, oldest := int64(0), time.Time{}
	err = sub.Receive(ctx, func(_ context.Context, ms []topic.Message) error {
		if first == 0 {
			first = ms[0].Sequence
		}
		for i := range ms {
			if received := count(b, &ms[i], ms[i].Sequence > position); oldest.IsZero() {
				oldest = received
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("read %s: %w", file, ctx.Err())
	case first > 1 || first == 0 && position > 0:
		if oldest.IsZero() {
			oldest = time.Now()
		}
		b.incomplete = max(b.incomplete, day(oldest.Add(reordered)))
	}
	return nil
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

// occurrences are messages of one topic that have been counted. A message that
// is there twice is the same occurrence, as it is for a warehouse.
type occurrences struct{ seen map[[16]byte]struct{} }

// isNew says whether an occurrence has not been counted yet.
func (o *occurrences) isNew(of [16]byte) bool {
	if o.seen == nil {
		o.seen = map[[16]byte]struct{}{}
	}
	n := len(o.seen)
	o.seen[of] = struct{}{}
	return len(o.seen) > n
}

// event counts a message of the topic of events. It returns when a gateway
// received it, if that was just before it was published.
func (o *occurrences) event(b *books, m *topic.Message, unread bool) (received time.Time) {
	var row warehouse.Row
	var id [16]byte
	v := pipeline.Decode(m, &row)
	if v != nil {
		// The pipeline makes the same dead letter of it, in the same place.
		data, _ := payload.AppendUnlandable(nil, m.Key, m.Data, m.Attributes, v)
		var r warehouse.Rejected
		pipeline.DecodeRejected(&topic.Message{Key: m.Key, Data: data}, &r)
		row, id = r.Row, r.RejectedID
	} else {
		id = occurrence(&row)
	}
	l := b.at(row.Identity, day(row.ReceivedAt))
	if l != nil && o.isNew(id) {
		if row.ReplayOf == "" {
			l.Accepted++
		} else {
			l.Replayed++
		}
		if unread {
			l.unread++
		}
	}
	if v != nil || row.ReplayOf != "" {
		return time.Time{}
	}
	return row.ReceivedAt
}

// occurrence is of one event, received once, or replayed of one dead letter.
func occurrence(row *warehouse.Row) [16]byte {
	b := make([]byte, 0, 64)
	b = append(b, row.KeyHash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(row.ContentHash))
	b = binary.BigEndian.AppendUint64(b, uint64(row.ReceivedAt.UnixMicro()))
	sum := sha256.Sum256(append(b, row.ReplayOf...))
	return [16]byte(sum[:16])
}

// deadLetter counts a message of the topic of dead letters. Those that the
// pipeline made are of messages that the other topic has. It returns what event
// does.
func (o *occurrences) deadLetter(b *books, m *topic.Message, unread bool) (received time.Time) {
	var r warehouse.Rejected
	pipeline.DecodeRejected(m, &r)
	letter, err := payload.DecodeDeadLetter(m.Data)
	l := b.at(r.Identity, day(r.ReceivedAt))
	if l != nil && o.isNew(r.RejectedID) {
		if err != nil || letter.Data == nil {
			l.Accepted++
		}
		if unread {
			l.unread++
		}
	}
	if err != nil || letter.Data != nil {
		return time.Time{}
	}
	return r.ReceivedAt
}
