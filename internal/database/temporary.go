// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// SQLite's primary result codes for a lock that another connection has.
const (
	sqliteBusy     = 5
	sqliteLocked   = 6
	sqliteProtocol = 15 // lost a race for the lock several times
)

// Temporary reports whether what failed with err may well succeed when it is
// tried again soon: the database is busy, chose to undo this transaction in
// favour of another, has no room for a connection, restarts, or could not be
// reached. The outcome of what failed may be unknown, so it must be safe to
// repeat. A full disk is not temporary, nor is the end of a context.
func Temporary(err error) bool {
	var (
		state  interface{ SQLState() string }
		unsent interface{ SafeToRetry() bool }
		dial   *net.OpError
		lookup *net.DNSError
	)
	switch {
	case locked(err):
		return true
	case errors.As(err, &state):
		return temporaryState(state.SQLState())
	case errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &unsent) && unsent.SafeToRetry():
		return true
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, &dial) || errors.As(err, &lookup)
}

// temporaryState judges a SQLSTATE, which PostgreSQL documents in its
// appendix A.
func temporaryState(s string) bool {
	switch s {
	case "53100", // disk_full
		"57P04": // database_dropped
		return false
	case "55P03": // lock_not_available
		return true
	}
	for _, class := range []string{
		"08",  // connection exception
		"40",  // transaction rollback: serialization, deadlock
		"53",  // insufficient resources
		"57P", // operator intervention: shutdown, crash, starting up
	} {
		if strings.HasPrefix(s, class) {
			return true
		}
	}
	return false
}

// locked reports whether err is SQLite's answer while another connection holds
// the lock.
func locked(err error) bool {
	var e interface{ Code() int }
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqliteBusy, sqliteLocked, sqliteProtocol:
		return true
	}
	return false
}

// Retry repeats f, with growing random pauses, while its errors are Temporary
// and until ctx ends. f must be safe to repeat.
func Retry(ctx context.Context, f func() error) error {
	const first, most = 10 * time.Millisecond, time.Second
	for bound := first; ; bound = min(2*bound, most) {
		err := f()
		if !Temporary(err) {
			return err
		}
		pause(ctx, rand.N(bound))
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// whileLocked repeats f, at short random intervals, while another connection
// has the lock that f needs, until ctx ends. SQLite's own busy handler sleeps
// up to 100 ms at a time, and so would hardly ever get the lock from a process
// that writes all the time.
func whileLocked(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !locked(err) {
			return err
		}
		pause(ctx, rand.N(2*time.Millisecond))
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the lock that another connection has: %w: %w", context.Cause(ctx), err)
		}
	}
}

// pause blocks for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
