// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/internal/command"
)

// slabEvents and slabBytes bound what is read ahead and sent in one call.
const (
	slabEvents = 10_000
	slabBytes  = 32 << 20
)

func runSend(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseSend(args, stdout, stderr)
	if err != nil {
		return err
	}
	source := newGenerated(c.count, c.seed).next
	if c.file != "" {
		events, err := openEvents(c.file)
		if err != nil {
			return err
		}
		defer events.close()
		source = events.next
	}
	s := &sender{retry: c.retry, stderr: stderr, began: time.Now(), reasons: map[string]int{}}
	if s.client, err = c.client(s.heard); err != nil {
		return err
	}
	defer s.client.Close()
	if c.ledger != "" {
		f, err := os.OpenFile(c.ledger, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return command.BadConfig("open -ledger: %w", err)
		}
		defer f.Close()
		s.ledger = bufio.NewWriter(f)
	}
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("-timeout of %s is over", c.timeout))
		defer cancel()
	}
	sendErr := s.sendAll(ctx, source)
	if err := s.summarize(stdout); err != nil {
		return err
	}
	if sendErr == nil && s.accepted < s.sent {
		return command.ErrReported
	}
	return sendErr
}

// event is an event in wire format, and what to call it when it fails.
type event struct {
	id    string
	where string // such as "line 7"
	wire  []byte
}

// sender sends events and counts what becomes of them.
type sender struct {
	client *client.Client
	retry  bool
	stderr io.Writer
	ledger *bufio.Writer // nil for none
	began  time.Time

	slab      []event // of the call under way
	ledgerErr error

	sent, accepted, deadLettered, failed int
	reasons                              map[string]int
	named                                int
	requestID                            string
}

// shown is how many events that were not accepted are named.
const shown = 10

// sendAll sends all events of a source, slab by slab. Once a call has failed
// for good, the events left are only counted.
func (s *sender) sendAll(ctx context.Context, next func() (event, error)) error {
	var sendErr error
	for {
		slab, err := readSlab(next)
		if sendErr == nil {
			sendErr = s.send(ctx, slab)
		} else {
			for _, e := range slab {
				s.settle(e, client.Verdict{Reason: client.ReasonNotSent})
			}
		}
		s.progress()
		switch {
		case s.ledgerErr != nil:
			return fmt.Errorf("write ledger: %w", s.ledgerErr)
		case errors.Is(err, io.EOF):
			return sendErr
		case err != nil:
			return err
		case sendErr != nil && ctx.Err() != nil:
			return sendErr
		}
	}
}

func readSlab(next func() (event, error)) ([]event, error) {
	var slab []event
	for size := 0; len(slab) < slabEvents && size < slabBytes; {
		e, err := next()
		if err != nil {
			return slab, err
		}
		slab, size = append(slab, e), size+len(e.wire)
	}
	return slab, nil
}

// send sends a slab, once or until no event is left that failed, and settles
// each event.
func (s *sender) send(ctx context.Context, slab []event) error {
	for attempt := 0; len(slab) > 0; attempt++ {
		s.slab = slab
		wire := make([][]byte, len(slab))
		for i, e := range slab {
			wire[i] = e.wire
		}
		result, err := s.client.SendEncoded(ctx, wire...)
		s.requestID = result.RequestID
		again := s.retry && !hopeless(err) && ctx.Err() == nil
		var left []event
		for i, v := range result.Verdicts {
			switch {
			case v.Outcome == client.Failed && again:
				left = append(left, slab[i])
			default:
				s.settle(slab[i], v)
			}
		}
		if !again {
			return err
		}
		if slab = left; len(slab) > 0 {
			s.wait(ctx, attempt, result.RetryAfter)
		}
	}
	return nil
}

// hopeless says whether a call failed in a way that only a person can mend.
func hopeless(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && (e.Kind == client.Refused || e.Kind == client.Unsupported || e.Kind == client.Insecure)
}

// wait backs off exponentially with full jitter, and at least as long as the
// gateway asks.
func (s *sender) wait(ctx context.Context, attempt int, atLeast time.Duration) {
	const first, most = 100 * time.Millisecond, 10 * time.Second
	bound := min(most, time.Duration(float64(first)*math.Pow(2, float64(min(attempt, 20)))))
	t := time.NewTimer(atLeast + rand.N(bound))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// heard notes acknowledgements in the ledger as they arrive, so that the ledger
// is right even if this process is killed.
func (s *sender) heard(first int, verdicts []client.Verdict) {
	for i, v := range verdicts {
		switch v.Outcome {
		case client.Accepted:
			s.note(s.slab[first+i], "ok")
		case client.DeadLettered:
			s.note(s.slab[first+i], "deadletter")
		}
	}
	s.flush()
}

func (s *sender) note(e event, outcome string) {
	if s.ledger == nil {
		return
	}
	id := e.id
	if id == "" || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == '"' }) {
		id = strconv.Quote(id)
	}
	fmt.Fprintf(s.ledger, "%s %s\n", id, outcome) // an error is kept until flush
}

func (s *sender) flush() {
	if s.ledger != nil && s.ledgerErr == nil {
		s.ledgerErr = s.ledger.Flush()
	}
}

// settle counts an event of which no more will be heard, and names it unless it
// was accepted.
func (s *sender) settle(e event, v client.Verdict) {
	s.sent++
	switch v.Outcome {
	case client.Accepted:
		s.accepted++
		return
	case client.DeadLettered:
		s.deadLettered++
	default:
		s.failed++
		s.note(e, "failed")
		s.flush()
	}
	s.reasons[v.Reason]++
	if v.Reason == client.ReasonNotSent || v.Reason == client.ReasonUnanswered {
		return // through no fault of the event: the call's error says why
	}
	switch s.named++; {
	case s.named == shown+1:
		fmt.Fprintln(s.stderr, "more events were not accepted; the summary counts them")
	case s.named <= shown:
		fmt.Fprintf(s.stderr, "%s, ID %q: %s: %s", e.where, e.id, v.Outcome, v.Reason)
		if v.Field != "" {
			fmt.Fprintf(s.stderr, " in %s", v.Field)
		}
		if v.Message != "" {
			fmt.Fprintf(s.stderr, ": %s", v.Message)
		}
		fmt.Fprintln(s.stderr)
	}
}

// progress shows a person who waits that something happens.
func (s *sender) progress() {
	f, ok := s.stderr.(*os.File)
	if !ok || s.sent < slabEvents {
		return
	}
	if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(f, "%d events, %d accepted\r", s.sent, s.accepted)
	}
}

func (s *sender) summarize(w io.Writer) error {
	b, err := json.Marshal(struct {
		Sent         int            `json:"sent"`
		Accepted     int            `json:"accepted"`
		DeadLettered int            `json:"dead_lettered"`
		Failed       int            `json:"failed"`
		Reasons      map[string]int `json:"reasons"`
		RequestID    string         `json:"request_id"`
		Seconds      float64        `json:"seconds"`
	}{
		s.sent, s.accepted, s.deadLettered, s.failed, s.reasons, s.requestID,
		math.Round(time.Since(s.began).Seconds()*1000) / 1000,
	})
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
