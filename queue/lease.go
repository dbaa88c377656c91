// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/telemetrygateway/telemetry/internal/database"
)

// MaxLease is the longest that a lease can be asked for. One that seems to last
// for longer was made before the clock was set back, and is void: nobody knows
// when it would end.
const MaxLease = 10 * time.Minute

// ErrFenced says that a lease has expired and somebody else has taken it since,
// or that it was released. Nothing was changed.
var ErrFenced = errors.New("the queue's lease is no longer ours")

// LeasedError says that somebody else has the queue's lease.
type LeasedError struct {
	Holder string
	Until  time.Time
}

func (e *LeasedError) Error() string {
	return fmt.Sprintf("the queue is leased by %s until %s", e.Holder, e.Until.UTC().Format(time.RFC3339))
}

// Lease is the right to export a queue's events. Claim and Rewind are for one
// goroutine at a time; Done may be called meanwhile.
type Lease struct {
	q     *Queue
	fence int64
	d     time.Duration
	after position // of the last row of this pass, claimed or taken out
	ended bool     // there was nothing behind it
}

// Lease makes its caller the queue's only exporter, for d from each Claim or
// Done on, and MaxLease at most. It returns a *LeasedError while another lease is
// in force, whoever holds it: holder is only a name for people. It does not wait.
//
// Each lease has a higher fence than the one before, so that whoever holds an
// old one, having been asleep, say, can no longer change anything.
func (q *Queue) Lease(ctx context.Context, holder string, d time.Duration) (*Lease, error) {
	if d <= 0 || d > MaxLease {
		return nil, fmt.Errorf("lease queue for %s: want more than nothing and at most %s", d, MaxLease)
	}
	l := &Lease{q: q, d: d}
	err := q.write(ctx, func(c conn) error {
		now, err := q.clock(c)
		if err != nil {
			return err
		}
		var by string
		var until database.Time
		// Updating before reading makes others who want the lease wait.
		n, err := c.exec("UPDATE telemetry_events_export_lease SET holder = ?, fence = fence + 1, expires = ? WHERE expires <= ? OR expires > ?",
			holder, q.dialect.Time(now.Add(d)), q.dialect.Time(now), q.dialect.Time(now.Add(MaxLease)))
		if err != nil {
			return err
		}
		if err := c.scan("SELECT holder, fence, expires FROM telemetry_events_export_lease", nil, &by, &l.fence, &until); err != nil {
			return err
		}
		if n == 0 {
			return &LeasedError{by, until.Time}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lease queue: %w", err)
	}
	return l, nil
}

// Release lets another exporter begin at once.
func (l *Lease) Release(ctx context.Context) error {
	err := l.q.write(ctx, func(c conn) error { return l.extend(c, 0) })
	if err != nil {
		return fmt.Errorf("release queue's lease: %w", err)
	}
	return nil
}

// renew extends the lease by its time from now.
func (l *Lease) renew(c conn) error { return l.extend(c, l.d) }

// extend returns ErrFenced if the lease is another's. Until the transaction
// ends it cannot become another's.
func (l *Lease) extend(c conn, d time.Duration) error {
	now, err := l.q.clock(c)
	if err != nil {
		return err
	}
	n, err := c.exec("UPDATE telemetry_events_export_lease SET expires = ? WHERE fence = ?", l.q.dialect.Time(now.Add(d)), l.fence)
	if err == nil && n == 0 {
		err = ErrFenced
	}
	return err
}

// clock returns the time that leases go by: in PostgreSQL that of the server,
// since holders on several machines may not agree on theirs.
func (q *Queue) clock(c conn) (time.Time, error) {
	if !q.timed {
		return q.now(), nil
	}
	var now database.Time
	err := c.scan("SELECT clock_timestamp()", nil, &now)
	return now.Time, err
}

// alone keeps others from taking events out of the queue until the transaction
// ends. All who do so take this lock or renew their lease first, so that they
// never wait for each other in a circle. Those who add do not wait.
func (c conn) alone() error {
	_, err := c.exec("UPDATE telemetry_events_export_lease SET fence = fence")
	return err
}
