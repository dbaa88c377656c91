// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"

	"golang.org/x/sync/semaphore"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// class says whose share of the memory a message is charged to. The shares are
// apart, so that no class can keep another from being served.
type class int

const (
	// unproven senders have not said who they are: those of unary calls, whose
	// metadata arrives in the same message as their events.
	unproven class = iota
	unlicensed
	proven
	classes
)

// A share bounds the memory that messages of one class take together. A
// message is charged twice: for its bytes while they arrive from the network,
// which may be slow, and, once it is complete, for decoding, encoding and
// publishing it. A message that holds the second charge waits for nothing but
// the topic, so waiting for a charge always ends. A unary call whose sender can
// be proven by somebody else's server only has a third one while it waits for
// that, in place of the second: others must not wait for that server too.
type share struct {
	receive, process, prove          *semaphore.Weighted
	receiveMax, processMax, proveMax int64
	receivers                        receivers
	// responses bounds answers that senders have not read yet.
	responses    *semaphore.Weighted
	responsesMax int64
}

func (s *share) receiveCost(size int64) int64 {
	return min(limits.ReceiveFactor*size, s.receiveMax)
}

// processCost counts what one chunk of payloads takes besides the events.
func (s *share) processCost(size int64) int64 {
	return min(limits.PayloadFactor*size+min(limits.TinyFactor*size, 2*limits.ChunkBytes), s.processMax)
}

// A budget is the memory of all messages in flight.
type budget struct {
	shares [classes]share
	// used is told how the memory charged changes.
	used func(delta int64)
}

func newBudget(total int64, used func(delta int64)) *budget {
	b := &budget{used: used}
	for c := range b.shares {
		partOf := func(total int64) int64 {
			part := total / limits.UnlicensedShare
			if class(c) == proven {
				part = total - 2*part
			}
			return part
		}
		s, part := &b.shares[c], partOf(total)
		s.responsesMax = partOf(limits.PendingResponseBytes)
		s.responses = semaphore.NewWeighted(s.responsesMax)
		s.receiveMax = part / 4
		if class(c) == unproven {
			s.proveMax = part / limits.ProvingShare
		}
		s.processMax = part - s.receiveMax - s.proveMax
		s.receive, s.process, s.prove = semaphore.NewWeighted(s.receiveMax), semaphore.NewWeighted(s.processMax), semaphore.NewWeighted(s.proveMax)
	}
	return b
}

// A charge is what one message holds of a share.
type charge struct {
	b                       *budget
	s                       *share
	receive, process, prove int64
	size                    int64 // of the message, once it is known
}

func (c *charge) take(ctx context.Context, s *semaphore.Weighted, n int64, held *int64) error {
	if err := s.Acquire(ctx, n); err != nil {
		return err
	}
	*held += n
	c.b.used(n)
	return nil
}

// arrive charges for receiving a message of size bytes.
func (c *charge) arrive(ctx context.Context, of class, size int64) error {
	c.s = &c.b.shares[of]
	return c.take(ctx, c.s.receive, c.s.receiveCost(size), &c.receive)
}

// complete charges for processing a message of at most size bytes.
func (c *charge) complete(ctx context.Context, of class, size int64) error {
	c.s = &c.b.shares[of]
	return c.take(ctx, c.s.process, c.s.processCost(size), &c.process)
}

// settle gives back what was charged too much once the size of a message is
// known, and what it held of the network's share.
func (c *charge) settle(size int64) {
	c.size = size
	c.give(&c.receive, c.receive)
	if c.process > 0 {
		c.give(&c.process, max(0, c.process-c.s.processCost(size)))
	}
}

// park exchanges what a message holds for being processed for what it holds
// while its sender is being proven. It is false if there is no room for that.
func (c *charge) park() bool {
	cost := min(limits.ReceiveFactor*c.size, c.s.proveMax)
	if !c.s.prove.TryAcquire(cost) {
		return false
	}
	c.prove += cost
	c.b.used(cost)
	c.give(&c.process, c.process)
	return true
}

// resume undoes park, if that was done.
func (c *charge) resume(ctx context.Context, of class) error {
	if c.prove == 0 {
		return nil
	}
	if err := c.complete(ctx, of, c.size); err != nil {
		return err
	}
	c.give(&c.prove, c.prove)
	return nil
}

// hand returns what c holds, which c then holds no more.
func (c *charge) hand() charge {
	handed := *c
	c.receive, c.process, c.prove = 0, 0, 0
	return handed
}

// release gives everything back.
func (c *charge) release() {
	c.give(&c.receive, c.receive)
	c.give(&c.process, c.process)
	c.give(&c.prove, c.prove)
}

func (c *charge) give(held *int64, n int64) {
	if n == 0 {
		return
	}
	s := c.s.receive
	switch held {
	case &c.process:
		s = c.s.process
	case &c.prove:
		s = c.s.prove
	}
	s.Release(n)
	*held -= n
	c.b.used(-n)
}
