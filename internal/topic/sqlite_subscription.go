// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
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

func subscribeSQLite(ctx context.Context, u *url.URL, b BatchOptions, log *slog.Logger) (Subscription, error) {
	q, err := query(u, "subscription", "from", "peek", "until")
	if err != nil {
		return nil, err
	}
	if u.Path == "" {
		return nil, errNoPath
	}
	name, where := "default", q.Get("from")
	if q.Has("subscription") {
		name = q.Get("subscription")
	}
	if !subscriptionName.MatchString(name) {
		return nil, fmt.Errorf("subscription=%s: want 1 to 100 letters, digits, dots, hyphens and underscores", name)
	}
	if q.Has("peek") {
		where = q.Get("peek")
		if q.Has("from") || q.Has("subscription") && where != "unread" {
			return nil, errors.New("peek reads without a subscription, save peek=unread; leave out subscription and from")
		}
		if where != "start" && where != "now" && where != "unread" {
			return nil, fmt.Errorf("peek=%s: want start, now or unread", where)
		}
	} else if where != "" && where != "start" && where != "now" {
		return nil, fmt.Errorf("from=%s: want start or now", where)
	}
	if q.Has("until") && (!q.Has("peek") || q.Get("until") != "now") {
		return nil, errors.New("until goes with peek, and is now or left out")
	}
	s := &sqliteSubscription{path: u.Path, batch: b, log: log, end: math.MaxInt64}
	if q.Has("peek") {
		err = s.look(ctx, where, name, q.Has("until"))
	} else {
		s.name = name
		err = s.register(ctx, where == "now")
	}
	if err != nil {
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
	path  string
	name  string // empty for one that only looks
	batch BatchOptions
	log   *slog.Logger
	file  *sqliteFile // nil after an error, until it is needed

	position   int64 // of the last message acknowledged
	ahead      int64 // of the last message read
	end        int64 // do not read on after this
	owner      string
	leaseUntil time.Time
}

var (
	errHeld       = errors.New("another receiver has the subscription")
	errLeaseLost  = errors.New("another receiver has taken the subscription over")
	errNoSuchName = errors.New("the subscription has been removed")
)

// sqliteEnd is the sequence number of the last message that was ever published.
const sqliteEnd = "(SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'messages')"

// register makes the subscription, unless it exists.
func (s *sqliteSubscription) register(ctx context.Context, atEnd bool) error {
	if err := createSQLiteFile(s.path); err != nil {
		return err
	}
	return s.write(ctx, func() error {
		return s.file.exec("INSERT INTO subscriptions (name, position) VALUES (?, iif(?, "+sqliteEnd+", 0)) ON CONFLICT DO NOTHING", s.name, atEnd)
	})
}

// look prepares to read without a subscription: from the start, from now, or
// what the subscription called name has not acknowledged; only to the present
// end, if it is to end there.
func (s *sqliteSubscription) look(ctx context.Context, where, name string, toEnd bool) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	end := int64(0)
	err := s.file.scan("SELECT "+sqliteEnd, nil, &end)
	if err == nil && where == "unread" {
		err = s.file.scan("SELECT position FROM subscriptions WHERE name = ?", []any{name}, &s.position)
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("%s has no subscription %q", s.path, name)
		}
	}
	if where == "now" {
		s.position = end
	}
	if toEnd {
		s.end = end
	}
	return err
}

func (s *sqliteSubscription) open(ctx context.Context) (err error) {
	if s.name == "" {
		s.file, err = openSQLiteFile(ctx, s.path, "")
	} else {
		s.file, err = openSQLiteWriter(ctx, s.path, "", false)
	}
	return err
}

// moveTo writes the position and renews the lease.
func (s *sqliteSubscription) moveTo(ctx context.Context, position int64) error {
	if s.name == "" {
		s.position = position
		return nil
	}
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

// held reads the position. It returns errHeld if another receiver has the lease.
func (s *sqliteSubscription) held() error {
	var owner string
	var until int64
	err := s.file.scan("SELECT position, owner, lease_until FROM subscriptions WHERE name = ?", []any{s.name}, &s.position, &owner, &until)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return errNoSuchName
	case err != nil:
		return err
	case owner != s.owner && leased(until):
		return errHeld
	}
	return nil
}

// leased says whether a lease until then is in force. One that ends later than
// one that begins now is from before the clock was set back.
func leased(until int64) bool {
	now := time.Now()
	return until > now.UnixMilli() && until <= now.Add(leaseTime).UnixMilli()
}

// lease takes or extends the lease.
func (s *sqliteSubscription) lease(ctx context.Context) error {
	until := time.Now().Add(leaseTime)
	err := s.write(ctx, func() error {
		if err := s.held(); err != nil {
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
