// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// firstAckBound is what the product promises: how long after its process was
// started a gateway acknowledges its first event, whatever it has to recover.
const firstAckBound = 2 * time.Second

// A load is senders that stream events to a gateway which keeps failing, and
// a ledger that knows what must have become of them.
type load struct {
	ledger  *ledger
	senders []*sender
	random  *rand.Rand
	// The flags of the gateway, and where its topics are.
	dir        string
	flags      []string
	topic      string
	deadLetter string
}

func newLoad(t testing.TB, dir string) *load {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	licence, public := issueLicence(t)
	l := &load{ledger: newLedger(), random: rand.New(rand.NewPCG(seed, 0)), dir: dir}
	for i := range 4 {
		l.senders = append(l.senders, newSender(fmt.Sprintf("site-%d", i), licence, l.ledger, seed+uint64(i)))
	}
	l.topic = "sqlite://" + filepath.Join(dir, "topic.db")
	l.deadLetter = "sqlite://" + filepath.Join(dir, "deadletter.db")
	l.flags = []string{"-license-keys", public, "-topic", l.topic, "-deadletter", l.deadLetter}
	return l
}

// round starts a gateway, which may have failed before, and makes it fail at a
// random moment under load. It returns how long the first acknowledgement took. fail is called with a
// function that waits until every sender's stream has ended.
func (l *load) round(t *testing.T, fail func(g *process, ended func())) time.Duration {
	t.Helper()
	reached := l.ledger.round(1 + l.random.IntN(3000))
	g := startGateway(t, l.dir, l.flags...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var streams sync.WaitGroup
	for _, s := range l.senders {
		streams.Go(func() {
			if err := s.send(ctx, g.address, true); err == nil {
				t.Error("a stream that is not closed ended without an error")
			}
		})
	}
	within(t, "acknowledgements", reached)
	fail(g, streams.Wait)
	g.kill()
	streams.Wait()
	return l.ledger.firstAck().Sub(g.began)
}

// finish starts the gateway a last time, sends again what was never
// acknowledged, and compares the ledger with the topics.
func (l *load) finish(t *testing.T) figures {
	t.Helper()
	l.ledger.round(1)
	g := startGateway(t, l.dir, l.flags...)
	for _, s := range l.senders {
		if err := s.send(t.Context(), g.address, false); err != nil {
			t.Errorf("%s could not send what was left: %v", s.id, err)
		}
	}
	f := l.ledger.check(t, l.topic, l.deadLetter)
	if f.acknowledged != f.sent {
		t.Errorf("%d events were sent and %d acknowledged in the end", f.sent, f.acknowledged)
	}
	if f.deadLettered == 0 || f.published == 0 {
		t.Errorf("nothing is proven: %s", f)
	}
	return f
}

// TestKill kills the gateway 20 times under load, always on the same files.
func TestKill(t *testing.T) {
	l := newLoad(t, t.TempDir())
	var slowest time.Duration
	for i := range 20 {
		slowest = max(slowest, l.round(t, func(*process, func()) {}))
		// Whoever reads the files first recovers them, which is to be the
		// gateway most of the time.
		if i%5 == 4 {
			t.Logf("after %d: %s", i+1, l.ledger.check(t, l.topic, l.deadLetter))
		}
	}
	t.Logf("killed 20 times: %s; slowest first acknowledgement %v after the start", l.finish(t), slowest)
	if slowest > firstAckBound {
		t.Errorf("the first acknowledgement took %v, want at most %v", slowest, firstAckBound)
	}
}
