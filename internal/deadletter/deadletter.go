// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package deadletter looks at the dead letters in a topic, and publishes their
// events after all.
//
// A SQLite topic is only looked at: whoever subscribes to it misses nothing. Of
// a Pub/Sub subscription all messages are given back, save those whose events
// have been published. Nothing that a dead letter holds reaches a log.
package deadletter

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// Letters are the dead letters of a topic or a subscription, to be looked at once.
type Letters struct {
	sub topic.Subscription
	// quiet is how long to wait for the next message where what is acknowledged
	// is gone for everybody, and there is no end; or 0. Most is then how many
	// messages are held at once.
	quiet time.Duration
	most  int
}

// Open opens the dead letters at a URL:
//
//	sqlite://PATH                    all that the topic has
//	sqlite://PATH?subscription=NAME  what that subscription has not acknowledged
//	gcppubsub://projects/P/subscriptions/S
//
// A Pub/Sub subscription has no end: it is over when no message has come for the
// duration quiet.
func Open(ctx context.Context, url string, quiet time.Duration, log *slog.Logger) (*Letters, error) {
	s, batch := &Letters{quiet: max(quiet, 1), most: heldMessages}, topic.BatchOptions{Messages: 1, Bytes: heldBytes, InFlight: heldMessages}
	if strings.HasPrefix(url, "sqlite:") {
		s, batch = &Letters{}, topic.BatchOptions{}
		peek, separator := "peek=start&until=now", "?"
		if _, params, ok := strings.Cut(url, "?"); ok {
			separator = "&"
			if strings.Contains("&"+params, "&subscription=") {
				peek = "peek=unread&until=now"
			}
		}
		url += separator + peek
	}
	var err error
	if s.sub, err = topic.Subscribe(ctx, url, batch, log); err != nil {
		return nil, err
	}
	return s, nil
}

// Close frees what Open took.
func (s *Letters) Close() error { return s.sub.Close() }

// Selection says which dead letters are meant.
type Selection struct {
	Where []Condition // all of them hold
	Since time.Time   // leaves out events received earlier, or nobody knows when; zero for none
}

func (s *Selection) means(l *Letter) bool {
	if !s.Since.IsZero() && l.ReceivedAt.Before(s.Since) {
		return false
	}
	for _, c := range s.Where {
		if !c.holds(l) {
			return false
		}
	}
	return true
}

// heldMessages is how many messages of a Pub/Sub subscription are held at once,
// and heldBytes how large they are on average when they are as many.
const (
	heldMessages = 10_000
	heldBytes    = 16 << 10
)

// errEnough ends a look at what would go on for ever, and errHeld gives a message
// back.
var (
	errEnough = errors.New("no more messages have come")
	errHeld   = errors.New("only looked at")
)

// Looked says how much List has looked at.
type Looked struct {
	Letters int // all there are, each counted once
	Matched int
	// More says that there may be more than Pub/Sub hands out to one receiver.
	More bool
}

// List calls f with each dead letter that is meant, once, however often it was
// delivered. f keeps nothing of it. An error of f ends List.
func (s *Letters) List(ctx context.Context, which Selection, f func(*Letter) error) (Looked, error) {
	var one sync.Mutex
	return s.look(ctx, which, func(letters []*Letter) (bool, error) {
		one.Lock()
		defer one.Unlock()
		for _, l := range letters {
			if err := f(l); err != nil {
				return false, err
			}
		}
		return false, nil
	})
}

// lookout is one look at dead letters.
type lookout struct {
	which Selection
	wait  time.Duration

	mu     sync.Mutex
	looked Looked
	taken  map[[16]byte]bool // by ID of the letters seen: is it acknowledged?
	held   int
	busy   int
	quiet  *time.Timer // runs while nothing is busy; nil if there is an end
}

// look calls f with the dead letters that are meant. Where what is acknowledged
// is gone, f gets one at a time, says whether to acknowledge it, and is called
// several times at once.
func (s *Letters) look(ctx context.Context, which Selection, f func([]*Letter) (bool, error)) (Looked, error) {
	looking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	l := &lookout{which: which, wait: s.quiet, taken: map[[16]byte]bool{}}
	if s.quiet > 0 {
		l.quiet = time.AfterFunc(s.quiet, func() { stop(errEnough) })
		defer l.quiet.Stop()
	}
	err := s.sub.Receive(looking, func(_ context.Context, ms []topic.Message) error {
		l.begin()
		take, err := false, error(nil)
		if letters := l.choose(ms); len(letters) > 0 {
			if take, err = f(letters); err != nil {
				stop(err)
			}
		}
		if l.end(ms, take) {
			return nil
		}
		<-looking.Done()
		return errHeld
	})
	if err == nil {
		if err = context.Cause(looking); errors.Is(err, errEnough) {
			err = nil
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looked.More = l.held > 0 && l.held >= s.most
	return l.looked, err
}

func (l *lookout) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy++; l.quiet != nil {
		l.quiet.Stop()
	}
}

// choose returns those of ms that are meant and have not been seen.
func (l *lookout) choose(ms []topic.Message) (letters []*Letter) {
	for _, m := range ms {
		letter := decode(m)
		l.mu.Lock()
		_, seen := l.taken[letter.ID]
		if !seen {
			l.taken[letter.ID] = false
			l.looked.Letters++
		}
		l.mu.Unlock()
		if seen || !l.which.means(letter) {
			continue
		}
		l.mu.Lock()
		l.looked.Matched++
		l.mu.Unlock()
		letters = append(letters, letter)
	}
	return letters
}

// end reports whether f is to return now: because nobody else misses ms, or
// because they have been dealt with.
func (l *lookout) end(ms []topic.Message, take bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy--; l.busy == 0 && l.quiet != nil {
		l.quiet.Reset(l.wait)
	}
	if l.quiet == nil {
		return true
	}
	id := payload.DeadLetterID(ms[0].Data) // one at a time
	if take {
		l.taken[id] = true
	}
	if !l.taken[id] {
		l.held++
	}
	return l.taken[id]
}
