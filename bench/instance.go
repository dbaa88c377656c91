// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/telemetrygateway/telemetry/internal/database/cluster"
	"github.com/telemetrygateway/telemetry/queue"
)

// databases are the kinds of database that an instance may have.
var databases = []string{"sqlite", "postgres"}

// instances makes databases for instances. PostgreSQL is started when the first
// one needs it.
type instances struct {
	dir      string
	postgres *cluster.Cluster
	made     int
}

// make makes an empty database and returns how to open it.
func (i *instances) make(kind string) (name string, err error) {
	i.made++
	name = fmt.Sprintf("bench%d", i.made)
	if kind == "sqlite" {
		return filepath.Join(i.dir, name+".db"), nil
	}
	if i.postgres == nil {
		if i.postgres, err = cluster.Start(""); err != nil {
			return "", err
		}
	}
	return i.postgres.URL(name), i.postgres.CreateDatabase(name)
}

// drop removes a database that make made and that nobody has open.
func (i *instances) drop(name string) error {
	if strings.HasPrefix(name, "postgres:") {
		db, err := sql.Open("pgx", i.postgres.URL("postgres"))
		if err != nil {
			return err
		}
		defer db.Close()
		config, err := pgx.ParseConfig(name)
		if err != nil {
			return err
		}
		_, err = db.Exec("DROP DATABASE " + pgx.Identifier{config.Database}.Sanitize())
		return err
	}
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(name + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (i *instances) close() error {
	if i.postgres == nil {
		return nil
	}
	return i.postgres.Stop()
}

// openDatabase opens what make returned, as "telemetry instance" does.
func openDatabase(name string) (*sql.DB, error) {
	if strings.HasPrefix(name, "postgres:") {
		db, err := sql.Open("pgx", name)
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(10)
		db.SetMaxIdleConns(5)
		return db, nil
	}
	db, err := sql.Open("sqlite", "file:"+name+"?_txlock=immediate&_pragma=busy_timeout(50)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=journal_size_limit(67108864)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	return db, nil
}

// openQueue opens the queue in a database that make made.
func openQueue(name string) (*queue.Queue, *sql.DB, error) {
	db, err := openDatabase(name)
	if err != nil {
		return nil, nil, err
	}
	q, err := queue.Open(context.Background(), db, queue.Options{})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return q, db, nil
}

// sizes of what fill writes at once.
const (
	fillRows        = 100    // a statement
	fillTransaction = 50_000 // a transaction
)

// fill puts n events into a queue in the way that is fastest, counts them in
// its ledger, and leaves the database at rest.
func fill(name string, n int) error {
	ctx := context.Background()
	q, db, err := openQueue(name) // makes the tables
	if err != nil {
		return err
	}
	defer db.Close()
	events, err := newMix(2).events(1000)
	if err != nil {
		return err
	}
	f := &filling{events: events, start: time.Now().Add(-time.Duration(n) * time.Millisecond), n: n}
	if strings.HasPrefix(name, "postgres:") {
		err = f.postgres(ctx, db)
	} else {
		err = f.sqlite(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("fill a queue: %w", err)
	}
	s, err := q.Stats(ctx)
	if err == nil && (s.Pending != int64(n) || s.Recorded != int64(n)) {
		err = fmt.Errorf("filled a queue with %d events, and its sums are %+v", n, s)
	}
	return err
}

// filling is n events, one millisecond apart.
type filling struct {
	events  [][]byte // in wire format; the ID comes first, with 36 bytes
	start   time.Time
	n, next int
	bytes   int64
}

// event returns the next event. Its payload is made anew.
func (f *filling) event() (id string, at time.Time, payload []byte) {
	at = f.start.Add(time.Duration(f.next) * time.Millisecond)
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], uint64(at.UnixMilli())<<16|0x7000)
	binary.BigEndian.PutUint64(raw[8:], 1<<63|uint64(f.next))
	text := make([]byte, 0, 36)
	for i, end := range []int{4, 6, 8, 10, 16} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, raw[[]int{0, 4, 6, 8, 10}[i]:end])
	}
	template := f.events[f.next%len(f.events)]
	payload = append([]byte(nil), template...)
	copy(payload[2:], text) // after a tag and a length
	f.next++
	f.bytes += int64(len(payload))
	return string(text), at, payload
}

const (
	fillInsert = "INSERT INTO telemetry_events_export_queue (id, timestamp, payload_pb) VALUES "
	fillLedger = "INSERT INTO telemetry_events_export_ledger (recorded, filtered, exported, dead_lettered, expired, bytes, pruned) VALUES (%d, 0, 0, 0, 0, %d, 0)"
)

// sqlite uses a connection that does not wait for the disk.
func (f *filling) sqlite(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=synchronous(OFF)&_pragma=cache_size(-65536)")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for f.next < f.n {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err := f.transaction(ctx, tx); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	for _, statement := range []string{
		fmt.Sprintf(fillLedger, f.n, f.bytes),
		"PRAGMA wal_checkpoint(TRUNCATE)",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func (f *filling) transaction(ctx context.Context, tx *sql.Tx) error {
	for end := min(f.next+fillTransaction, f.n); f.next < end; {
		rows := min(fillRows, end-f.next)
		args := make([]any, 0, 3*rows)
		for range rows {
			id, at, payload := f.event()
			args = append(args, id, at.UnixMicro(), payload)
		}
		if _, err := tx.ExecContext(ctx, fillInsert+strings.Repeat("(?,?,?),", rows-1)+"(?,?,?)", args...); err != nil {
			return err
		}
	}
	return nil
}

// postgres uses COPY.
func (f *filling) postgres(ctx context.Context, db *sql.DB) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Raw(func(driver any) error {
		rows := pgx.CopyFromFunc(func() ([]any, error) {
			if f.next == f.n {
				return nil, nil
			}
			id, at, payload := f.event()
			return []any{id, at, payload}, nil
		})
		_, err := driver.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{"telemetry_events_export_queue"}, []string{"id", "timestamp", "payload_pb"}, rows)
		return err
	})
	if err != nil {
		return err
	}
	for _, statement := range []string{
		fmt.Sprintf(fillLedger, f.n, f.bytes),
		"VACUUM ANALYZE telemetry_events_export_queue", // as autovacuum would, sooner or later
		"CHECKPOINT",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
