// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/telemetrygateway/telemetry/internal/payload"
)

// bareRow is a row of a SQLite topic as it is stored.
type bareRow struct {
	key              string
	attributes, data []byte
}

// bare measures what SQLite takes for the same rows without a gateway: a loop
// in a process of its own, durable as the topic is.
func (a *arena) bare(d time.Duration) (s sample, err error) {
	loop, err := a.start("sqlite/bare", childConfig{Role: "bare", Database: "bare.db"})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, loop.stop()) }()
	time.Sleep(d / 4) // to warm up
	before, err := loop.usage()
	if err != nil {
		return s, err
	}
	started := time.Now()
	time.Sleep(d)
	after, err := loop.usage()
	if err != nil {
		return s, err
	}
	u := after.minus(before)
	return newSample(int(u.Exported), time.Since(started), u, nil), nil
}

// bareRole inserts rows until it is stopped.
func bareRole(c childConfig) (*served, error) {
	rows, err := bareRows()
	if err != nil {
		return nil, err
	}
	db, err := openDatabase(c.Database)
	if err != nil {
		return nil, err
	}
	if _, err := db.Exec(`CREATE TABLE messages (
		seq INTEGER PRIMARY KEY AUTOINCREMENT, published_at INTEGER NOT NULL, key TEXT, attributes BLOB, data BLOB
	) STRICT`); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	var inserted atomic.Int64
	ended := make(chan error, 1)
	go func() { ended <- insertRows(ctx, db, rows, &inserted) }()
	return &served{
		count: func(u *usage) error { u.Exported = inserted.Load(); return nil },
		stop: func() error {
			cancel()
			return errors.Join(<-ended, db.Close())
		},
	}, nil
}

// bareRows are 20,000 rows as the gateway would publish them.
func bareRows() ([]bareRow, error) {
	events, err := newMix(1).events(20_000)
	if err != nil {
		return nil, err
	}
	encoder, err := payload.NewEncoder(licensedMetadata("the key itself is not in the payload"), licensedSender(), payload.KeyFingerprint)
	if err != nil {
		return nil, err
	}
	rows := make([]bareRow, len(events))
	for i, event := range events {
		data, labels, violation := encoder.Append(nil, event, time.Now())
		if violation != nil {
			return nil, fmt.Errorf("an event of the mix was refused: %s", violation.Reason)
		}
		rows[i] = bareRow{key: labels.Key, data: data}
		for _, l := range labels.Attributes {
			for _, s := range []string{l.Key, l.Value} {
				rows[i].attributes = append(binary.AppendUvarint(rows[i].attributes, uint64(len(s))), s...)
			}
		}
	}
	return rows, nil
}

// insertRows inserts rows over and over, in transactions as large as a message,
// until ctx ends.
func insertRows(ctx context.Context, db *sql.DB, rows []bareRow, inserted *atomic.Int64) error {
	// The driver would start a goroutine for each call whose context can end.
	background := context.Background()
	conn, err := db.Conn(background)
	if err != nil {
		return err
	}
	defer conn.Close()
	insert, err := conn.PrepareContext(background, "INSERT INTO messages (published_at, key, attributes, data) VALUES (?, ?, ?, ?)")
	if err != nil {
		return err
	}
	defer insert.Close()
	for n := 0; ctx.Err() == nil; n += sendEvents {
		if _, err := conn.ExecContext(background, "BEGIN IMMEDIATE"); err != nil {
			return err
		}
		now := time.Now().UnixMilli()
		for i := range sendEvents {
			row := rows[(n+i)%len(rows)]
			if _, err := insert.ExecContext(background, now, row.key, row.attributes, row.data); err != nil {
				return err
			}
		}
		if _, err := conn.ExecContext(background, "COMMIT"); err != nil {
			return err
		}
		inserted.Add(sendEvents)
	}
	return nil
}
