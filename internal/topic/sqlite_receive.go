// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

func (s *sqliteSubscription) Receive(ctx context.Context, f func(context.Context, []Message) error) error {
	s.owner, s.leaseUntil = rand.Text(), time.Time{}
	defer s.release()
	w, retry := &window{f: f, size: s.batch}, redelivery()
	for {
		err := s.receive(ctx, w, &retry)
		switch {
		case err == nil || ctx.Err() != nil:
			return nil
		case fatal(err):
			return err
		}
		s.log.Warn("what is not acknowledged is delivered again later", "topic", s.path, "subscription", s.name, "error", err)
		retry.wait(ctx)
	}
}

// fatal says whether trying again can not help.
func fatal(err error) bool {
	code := sqliteCode(err)
	return errors.Is(err, errNoSuchName) || errors.Is(err, errDamaged) ||
		code == sqlite3.SQLITE_NOTADB || code == sqlite3.SQLITE_CORRUPT
}

// receive delivers batches until ctx ends, there are no more, or one cannot be
// read, delivered or acknowledged. It returns once f has returned for all.
//
// All that happens to the file happens in this one goroutine.
func (s *sqliteSubscription) receive(ctx context.Context, w *window, retry *backoff) (failure error) {
	calls, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	renew := time.NewTicker(leaseTime / 3)
	defer renew.Stop()
	stop := ctx.Done()
	// After a batch that was not acknowledged none is.
	behind := false
	for {
		var poll <-chan time.Time
		if failure == nil && ctx.Err() == nil && w.room() {
			switch sent, err := s.readAhead(ctx, calls, w); {
			case sent:
				continue
			case err != nil && !errors.Is(err, errHeld):
				failure = err
			case err != nil || s.end == math.MaxInt64:
				poll = time.After(pollEvery)
			}
		}
		if w.empty() && poll == nil {
			return failure
		}
		select {
		case <-w.first():
			last, err := w.leave()
			if behind {
				continue
			}
			if err == nil {
				err = s.acknowledge(ctx, last, retry)
			}
			if err != nil {
				failure, behind = err, true
			}
		case <-renew.C:
			// Also after ctx has ended: f is not done yet.
			if err := s.renew(w); err != nil {
				failure, behind = err, true
			}
		case <-poll:
		case <-stop:
			stop = nil
		}
		if errors.Is(failure, errLeaseLost) {
			cancel(failure)
		}
	}
}

// readAhead sends f the batch that follows those that it has, if there is one.
func (s *sqliteSubscription) readAhead(ctx, calls context.Context, w *window) (sent bool, err error) {
	if s.file == nil {
		if err := s.open(ctx); err != nil {
			return false, err
		}
	}
	// The lease is taken only while nothing is in flight. After that it is
	// ours, or what is in flight may be with another receiver as well.
	if w.empty() {
		there, err := s.ready(ctx)
		if err != nil || !there {
			return false, s.failed(err)
		}
		s.ahead = s.position
	}
	b := w.next()
	if err := s.read(b); err != nil || len(b.messages) == 0 {
		w.reuse(b)
		return false, s.failed(err)
	}
	s.ahead = b.last
	w.send(calls, b)
	return true, nil
}

// ready makes sure of the lease, unless there is nothing to receive: to see
// that needs none.
func (s *sqliteSubscription) ready(ctx context.Context) (there bool, err error) {
	if s.name == "" || time.Until(s.leaseUntil) >= leaseTime*2/3 {
		return true, nil
	}
	if err := s.held(); err != nil {
		return false, err
	}
	if err := s.file.scan("SELECT EXISTS (SELECT 1 FROM messages WHERE seq > ?)", []any{s.position}, &there); err != nil || !there {
		return false, err
	}
	return true, s.lease(ctx)
}

// read fills b with the messages after the last one read.
func (s *sqliteSubscription) read(b *batch) error {
	rows, err := s.file.QueryContext(context.Background(),
		"SELECT seq, key, attributes, data FROM messages WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", s.ahead, s.end, s.batch.Messages)
	if err != nil {
		return hint(s.path, err)
	}
	defer rows.Close()
	var key, attributes, data sql.RawBytes
	for size := 0; rows.Next(); {
		m := Message{}
		if err := rows.Scan(&m.Sequence, &key, &attributes, &data); err != nil {
			return err
		}
		if size += len(key) + len(attributes) + len(data); len(b.messages) > 0 && size > s.batch.Bytes {
			break
		}
		m.Key = string(key)
		if m.Attributes, err = b.keepAttributes(attributes); err != nil {
			return hint(s.path, fmt.Errorf("message %d: %w", m.Sequence, err))
		}
		m.Data = b.keep(data)
		b.messages = append(b.messages, m)
		b.last = m.Sequence
	}
	return hint(s.path, rows.Err())
}

// acknowledge tries until it is written, so that f is not called again for what
// it is done with, and once if ctx has ended.
func (s *sqliteSubscription) acknowledge(ctx context.Context, last int64, retry *backoff) error {
	for {
		err := s.moveTo(context.WithoutCancel(ctx), last)
		if err == nil {
			retry.reset()
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, errLeaseLost) || fatal(err) {
			return err
		}
		s.log.Warn("acknowledgement is tried again", "topic", s.path, "subscription", s.name, "error", err)
		retry.wait(ctx)
	}
}

// renew keeps the lease while batches are with f. It returns an error if the
// lease is lost.
func (s *sqliteSubscription) renew(w *window) error {
	if w.empty() {
		return nil
	}
	err := s.moveTo(context.Background(), s.position)
	if err == nil || errors.Is(err, errLeaseLost) {
		return err
	}
	// Whoever takes over has to write as well.
	s.log.Warn("lease not renewed", "topic", s.path, "subscription", s.name, "error", err)
	return nil
}
