// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"regexp"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// pollEvery is how often a subscription looks for new messages.
	pollEvery = 50 * time.Millisecond
	// leaseTime is how long after a crash of one receiver another one waits
	// before it takes over. A lease is renewed when a third of it is used.
	leaseTime = 15 * time.Second
)

var subscriptionName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

func subscribeSQLite(ctx context.Context, u *url.URL, log *slog.Logger) (Subscription, error) {
	q, err := query(u, "subscription", "from", "peek", "until")
	if err != nil {
		return nil, err
	}
	s := &sqliteSubscription{path: u.Path, log: log, end: math.MaxInt64}
	if s.path == "" {
		return nil, errNoPath
	}
	from := q.Get("from")
	if q.Has("peek") {
		if q.Has("subscription") || q.Has("from") {
			return nil, errors.New("peek reads without a subscription; leave out subscription and from")
		}
		from = q.Get("peek")
	} else if s.name = q.Get("subscription"); !q.Has("subscription") {
		s.name = "default"
	}
	if from != "" && from != "start" && from != "now" || from == "" && q.Has("peek") {
		return nil, fmt.Errorf("begin at %q: want start or now", from)
	}
	if !q.Has("peek") && !subscriptionName.MatchString(s.name) {
		return nil, fmt.Errorf("subscription=%s: want 1 to 100 letters, digits, dots, hyphens and underscores", s.name)
	}
	if q.Has("until") && (s.name != "" || q.Get("until") != "now") {
		return nil, errors.New("until goes with peek, and is now or left out")
	}
	if err := s.begin(ctx, from == "now", q.Has("until")); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// sqliteSubscription reads a topic's file. Its position there is the seq of the
// last message acknowledged, so that one small write acknowledges a batch.
//
// One receiver at a time holds the subscription's lease: its token stands in
// the row, and only who finds his own there moves the position. A receiver that
// has no messages lets its lease run out, so that an idle topic is not written
// to.
type sqliteSubscription struct {
	path string
	name string // empty for one that only looks
	log  *slog.Logger
	file *sqliteFile // nil after an error, until it is needed

	position   int64
	end        int64 // do not read on after this
	owner      string
	leaseUntil time.Time

	arena []byte // what the slices of the current batch point to
}

var (
	errHeld       = errors.New("another receiver has the subscription")
	errLeaseLost  = errors.New("another receiver has taken the subscription over")
	errNoSuchName = errors.New("the subscription has been removed")
)

// begin registers the subscription or, for one that only looks, finds where to
// begin and, if it is to stop there, where the topic ends now.
func (s *sqliteSubscription) begin(ctx context.Context, atEnd, toEnd bool) error {
	const end = "(SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'messages')"
	if s.name != "" {
		if err := createSQLiteFile(s.path); err != nil {
			return err
		}
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	if s.name == "" {
		err := s.file.scan("SELECT "+end, nil, &s.end)
		if atEnd {
			s.position = s.end
		}
		if !toEnd {
			s.end = math.MaxInt64
		}
		return err
	}
	return s.write(ctx, func() error {
		return s.file.exec("INSERT INTO subscriptions (name, position) VALUES (?, iif(?, "+end+", 0)) ON CONFLICT DO NOTHING", s.name, atEnd)
	})
}

func (s *sqliteSubscription) open(ctx context.Context) (err error) {
	if s.name == "" {
		s.file, err = openSQLiteFile(ctx, s.path, "")
	} else {
		s.file, err = openSQLiteWriter(ctx, s.path, "", false)
	}
	return err
}

func (s *sqliteSubscription) Receive(ctx context.Context, f func(context.Context, []Message) error) error {
	s.owner, s.leaseUntil = rand.Text(), time.Time{}
	defer s.release()
	retry := redelivery()
	for ctx.Err() == nil {
		batch, last, err := s.next(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil && len(batch) == 0 && s.end < math.MaxInt64:
			return nil
		case errors.Is(err, errHeld), err == nil && len(batch) == 0:
			pause(ctx, pollEvery)
			continue
		case err == nil:
			err = s.deliver(ctx, f, batch, last)
		}
		if err == nil {
			retry.reset()
			continue
		}
		if ctx.Err() != nil {
			break
		}
		if fatal(err) {
			return err
		}
		s.log.Warn("batch is delivered again later", "topic", s.path, "subscription", s.name, "error", err)
		retry.wait(ctx)
	}
	return nil
}

// fatal says whether trying again can not help.
func fatal(err error) bool {
	code := sqliteCode(err)
	return errors.Is(err, errNoSuchName) || errors.Is(err, errDamaged) ||
		code == sqlite3.SQLITE_NOTADB || code == sqlite3.SQLITE_CORRUPT
}

// deliver calls f and acknowledges the batch, which ends with the message last.
func (s *sqliteSubscription) deliver(ctx context.Context, f func(context.Context, []Message) error, batch []Message, last int64) error {
	if s.name == "" {
		err := f(ctx, batch)
		if err == nil {
			s.position = last
		}
		return err
	}
	fctx, cancel := context.WithCancelCause(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		s.renew(fctx, cancel)
	}()
	err := f(fctx, batch)
	cancel(nil)
	<-renewed
	if err != nil {
		return err
	}
	// Even if ctx has ended: f is done with these messages.
	return s.moveTo(context.WithoutCancel(ctx), last)
}

// renew keeps the lease until ctx ends, or cancels it when the lease is lost.
func (s *sqliteSubscription) renew(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		pause(ctx, leaseTime/3)
		if ctx.Err() != nil {
			return
		}
		err := s.moveTo(ctx, s.position)
		if errors.Is(err, errLeaseLost) {
			cancel(err)
			return
		}
		if err != nil && ctx.Err() == nil {
			// Whoever takes over has to write as well.
			s.log.Warn("lease not renewed", "topic", s.path, "subscription", s.name, "error", err)
		}
	}
}

// moveTo writes the position and renews the lease.
func (s *sqliteSubscription) moveTo(ctx context.Context, position int64) error {
	until := time.Now().Add(leaseTime)
	err := s.write(ctx, func() error {
		result, err := s.file.ExecContext(context.Background(), "UPDATE subscriptions SET position = ?, lease_until = ? WHERE name = ? AND owner = ?",
			position, until.UnixMilli(), s.name, s.owner)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(errLeaseLost, err)
		}
		return nil
	})
	switch {
	case err == nil:
		s.position, s.leaseUntil = position, until
	case errors.Is(err, errLeaseLost):
		s.leaseUntil = time.Time{}
	}
	return err
}

// look reads the position. It returns errHeld if another receiver has the lease.
func (s *sqliteSubscription) look() error {
	var owner string
	var until int64
	err := s.file.scan("SELECT position, owner, lease_until FROM subscriptions WHERE name = ?", []any{s.name}, &s.position, &owner, &until)
	now := time.Now()
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return errNoSuchName
	case err != nil:
		return err
	// A lease that ends later than one that begins now is from before the
	// clock was set back.
	case owner != s.owner && until > now.UnixMilli() && until <= now.Add(leaseTime).UnixMilli():
		return errHeld
	}
	return nil
}

// lease takes or extends the lease.
func (s *sqliteSubscription) lease(ctx context.Context) error {
	until := time.Now().Add(leaseTime)
	err := s.write(ctx, func() error {
		if err := s.look(); err != nil {
			return err
		}
		return s.file.exec("UPDATE subscriptions SET owner = ?, lease_until = ? WHERE name = ?", s.owner, until.UnixMilli(), s.name)
	})
	if err == nil {
		s.leaseUntil = until
	}
	return err
}

// release lets another receiver begin at once.
func (s *sqliteSubscription) release() {
	if s.name == "" || s.leaseUntil.IsZero() {
		return
	}
	if err := s.write(context.Background(), func() error {
		return s.file.exec("UPDATE subscriptions SET owner = '', lease_until = 0 WHERE name = ? AND owner = ?", s.name, s.owner)
	}); err != nil {
		s.log.Warn("lease not released; another receiver has to wait for its end", "topic", s.path, "subscription", s.name, "error", err)
	}
}

// next returns the next batch, if any, and the seq of its last message.
func (s *sqliteSubscription) next(ctx context.Context) (batch []Message, last int64, err error) {
	if s.file == nil {
		if err := s.open(ctx); err != nil {
			return nil, 0, err
		}
	}
	if s.name != "" && time.Until(s.leaseUntil) < leaseTime*2/3 {
		// To see that there is nothing to do needs no lease.
		var there bool
		err := s.look()
		if err == nil {
			err = s.file.scan("SELECT EXISTS (SELECT 1 FROM messages WHERE seq > ?)", []any{s.position}, &there)
		}
		if err != nil || !there {
			return nil, 0, s.failed(err)
		}
		if err := s.lease(ctx); err != nil {
			return nil, 0, err
		}
	}
	batch, last, err = s.read()
	return batch, last, s.failed(err)
}

func (s *sqliteSubscription) read() (batch []Message, last int64, err error) {
	rows, err := s.file.QueryContext(context.Background(),
		"SELECT seq, key, attributes, data FROM messages WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", s.position, s.end, batchMessages)
	if err != nil {
		return nil, 0, hint(s.path, err)
	}
	defer rows.Close()
	s.arena = s.arena[:0]
	var lengths []int
	for size := 0; rows.Next(); {
		var seq int64
		var key, attributes, data sql.RawBytes
		if err := rows.Scan(&seq, &key, &attributes, &data); err != nil {
			return nil, 0, err
		}
		m := Message{Key: string(key)}
		if m.Attributes, err = parseAttributes(attributes); err != nil {
			return nil, 0, hint(s.path, fmt.Errorf("message %d: %w", seq, err))
		}
		size += len(m.Key) + len(attributes) + len(data)
		if len(batch) > 0 && size > batchBytes {
			break
		}
		s.arena = append(s.arena, data...)
		lengths = append(lengths, len(data))
		batch = append(batch, m)
		last = seq
	}
	// The arena has stopped moving.
	rest := s.arena
	for i, n := range lengths {
		batch[i].Data, rest = rest[:n:n], rest[n:]
	}
	return batch, last, hint(s.path, rows.Err())
}

// write runs f in a transaction.
func (s *sqliteSubscription) write(ctx context.Context, f func() error) error {
	if s.file == nil {
		if err := s.open(ctx); err != nil {
			return err
		}
	}
	if err := s.file.begin(ctx, lockPatience); err != nil {
		return s.failed(err)
	}
	if err := f(); err != nil {
		// SQLite may have done so already.
		_ = s.file.exec("ROLLBACK")
		return s.failed(err)
	}
	return s.failed(s.file.exec("COMMIT"))
}

// failed gives up the connection after an error of SQLite's, as publishing does.
func (s *sqliteSubscription) failed(err error) error {
	if code := sqliteCode(err); code != 0 && code != sqlite3.SQLITE_BUSY {
		s.Close()
	}
	return err
}

func (s *sqliteSubscription) Close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
