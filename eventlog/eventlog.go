// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package eventlog keeps all events of an instance whole, with what is private
// in them, for the instance's own administrators. Nothing in it is ever
// exported; it stands in a database, or for SQLite best a file, of its own.
//
// What Add has accepted is on disk. An event with an ID that is there already
// is the same event, tried again, and is ignored. Errors never hold anything of
// an event.
package eventlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/database"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

const (
	defaultRetention  = 90 * 24 * time.Hour
	defaultAddTimeout = 10 * time.Second

	// A transaction that several calls to Add share takes at most this much,
	// which bounds how long others wait for the lock.
	commitEvents = 5000
	commitBytes  = 8 << 20
)

// Options are what a log's owner may choose.
type Options struct {
	// Retention is how long events are kept, by the time when they were
	// recorded. 0 means 90 days.
	Retention time.Duration
	// MaxBytes limits the bytes of all events together, in their wire format;
	// the oldest go first. 0 means no limit.
	MaxBytes int64
	// AddTimeout bounds how long Add tries. 0 means 10 seconds.
	AddTimeout time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Log is an event log. Its methods may be called at once, also by several
// processes with the same database.
type Log struct {
	db      *sql.DB
	dialect database.Dialect
	o       Options
	adds    *database.Gatherer[row]
}

// Open returns the event log in db, with tables that it makes if need be. The
// log does not close db.
func Open(ctx context.Context, db *sql.DB, o Options) (*Log, error) {
	if o.Retention < 0 || o.MaxBytes < 0 || o.AddTimeout < 0 {
		return nil, errors.New("open event log: a limit is negative")
	}
	if o.Retention == 0 {
		o.Retention = defaultRetention
	}
	if o.AddTimeout == 0 {
		o.AddTimeout = defaultAddTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d, err := database.Detect(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	if err := database.Migrate(ctx, db, d, "telemetry_event_log", migrations(d)); err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	l := &Log{db: db, dialect: d, o: o}
	l.adds = database.NewGatherer(commitEvents, commitBytes, func(ctx context.Context, rows []row) error {
		return database.Retry(ctx, func() error {
			return database.Write(ctx, db, d, func(tx *sql.Tx) error { return l.insert(ctx, tx, rows) })
		})
	})
	return l, nil
}

// Add stores events and returns when all of them are on disk. It goes on when
// ctx is cancelled, because an event whose request has ended happened all the
// same, and tries for as long as Options.AddTimeout says. After an error the
// events may or may not be there, so they can be added again.
func (l *Log) Add(ctx context.Context, events ...*telemetrygatewayv1.Event) error {
	rows, size, err := encode(events)
	if err == nil && len(rows) > 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.o.AddTimeout)
		defer cancel()
		err = l.adds.Add(ctx, size, rows...)
	}
	if err != nil {
		return fmt.Errorf("add to event log: %w", err)
	}
	return nil
}

// Tx returns the log as part of a transaction of the application's.
func (l *Log) Tx(tx *sql.Tx) *Tx { return &Tx{l, tx} }

// Tx adds events to the log within a transaction.
type Tx struct {
	log *Log
	tx  *sql.Tx
}

// Add stores events, which are on disk when the transaction is.
func (t *Tx) Add(ctx context.Context, events ...*telemetrygatewayv1.Event) error {
	rows, _, err := encode(events)
	if err == nil {
		err = t.log.insert(ctx, t.tx, rows)
	}
	if err != nil {
		return fmt.Errorf("add to event log: %w", err)
	}
	return nil
}

// row is an event and what it can be found by.
type row struct {
	id              string
	timestamp       time.Time
	feature, action string
	user, anonymous any // NULL if there is none
	payload         []byte
}

// encode returns events as rows, and their bytes.
func encode(events []*telemetrygatewayv1.Event) (rows []row, size int, err error) {
	for i, e := range events {
		if violation := limits.CheckEvent(e); violation != nil {
			return nil, 0, fmt.Errorf("event %d: %w", i, violation)
		}
		if strings.ContainsRune(e.GetId(), 0) {
			return nil, 0, fmt.Errorf("event %d: id: holds a zero byte, which PostgreSQL has no form for", i)
		}
		payload, err := proto.Marshal(e)
		if err != nil {
			return nil, 0, fmt.Errorf("event %d: %w", i, err)
		}
		r := row{
			id:        e.GetId(),
			timestamp: e.GetTimestamp().AsTime(),
			feature:   e.GetFeature(),
			action:    e.GetAction(),
			payload:   payload,
		}
		if u := e.GetUser(); u != nil && u.UserId != nil {
			r.user = u.GetUserId()
		}
		if a := e.GetUser().GetAnonymousUserId(); a != "" {
			r.anonymous = searchable(a)
		}
		rows, size = append(rows, r), size+len(payload)
	}
	return rows, size, nil
}

// searchable is s as a database can index it: not too long, and without the
// one character that PostgreSQL has no form for.
func searchable(s string) string {
	const most = 256 // bytes
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// insert adds those of rows that are not there yet.
func (l *Log) insert(ctx context.Context, tx *sql.Tx, rows []row) error {
	now := l.dialect.Time(l.o.Now())
	var recorded, bytes int64
	args := make([]any, 0, 8*min(len(rows), insertRows))
	for len(rows) > 0 {
		// Statements of few lengths, so that the drivers know them already.
		n := 1
		for _, most := range []int{insertRows, 64, 8} {
			if len(rows) >= most {
				n = most
				break
			}
		}
		args = args[:0]
		for _, r := range rows[:n] {
			args = append(args, r.id, l.dialect.Time(r.timestamp), now, r.feature, r.action, r.user, r.anonymous, r.payload)
		}
		sizes, err := tx.QueryContext(ctx, l.dialect.Bind(insertEvents+strings.Repeat(", "+insertValues, n-1)+insertNew), args...)
		if err != nil {
			return fmt.Errorf("insert events: %w", err)
		}
		n64, size, err := sum(sizes)
		if err != nil {
			return fmt.Errorf("insert events: %w", err)
		}
		recorded, bytes = recorded+n64, bytes+size
		rows = rows[n:]
	}
	return l.count(ctx, tx, recorded, 0, bytes)
}

const (
	insertRows   = 512
	insertValues = "(?, ?, ?, ?, ?, ?, ?, ?)"
	insertEvents = "INSERT INTO telemetry_event_log (id, timestamp, recorded_at, feature, action, user_id, anonymous_user_id, payload_pb) VALUES " + insertValues
	insertNew    = " ON CONFLICT (id) DO NOTHING RETURNING length(payload_pb)"
)

// sum reads the sizes of the rows that a statement inserted or deleted, and
// returns how many there are and their sum.
func sum(sizes *sql.Rows) (n, bytes int64, err error) {
	defer sizes.Close()
	for sizes.Next() {
		var size int64
		if err := sizes.Scan(&size); err != nil {
			return 0, 0, err
		}
		n, bytes = n+1, bytes+size
	}
	return n, bytes, sizes.Err()
}
