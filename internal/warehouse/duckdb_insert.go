// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/duckdb/duckdb-go/v2"
)

// An insertion is one attempt to land a batch, in one transaction.
type insertion struct {
	f     *duckDBFile
	ctx   context.Context
	batch *Batch
	same  func(stored, incoming []byte) bool

	refused map[int]string // what is left out, and why, by index
	result  Result
}

// insert lands a batch. After an error the file must be closed.
func (f *duckDBFile) insert(ctx context.Context, b *Batch, same func(stored, incoming []byte) bool) (Result, error) {
	t := &insertion{f: f, ctx: ctx, batch: b, same: same, refused: map[int]string{}}
	err := t.try()
	if errors.Is(err, errAppend) && !isOutOfMemory(err) && ctx.Err() == nil {
		// Rows that DuckDB never takes hardly exist, so they are looked for only
		// when something is wrong.
		if findErr := t.refusals(0, len(b.Events)); findErr != nil {
			err = findErr
		} else {
			err = t.try()
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Result{}, hintDuckDB(f.path, err)
	}
	for _, i := range slices.Sorted(maps.Keys(t.refused)) {
		t.result.Refused = append(t.result.Refused, Refusal{i, t.refused[i]})
	}
	return t.result, nil
}

// try inserts the batch without those refused.
func (t *insertion) try() error {
	t.result = Result{}
	err := t.transaction(func() error {
		for _, step := range t.steps() {
			if err := step(); err != nil {
				return err
			}
		}
		return t.f.gone()
	}, "COMMIT")
	if err != nil {
		return err
	}
	// DuckDB makes the log anew after each checkpoint, and flushes its content
	// alone.
	return syncDir(filepath.Dir(t.f.path))
}

// steps are what an attempt does between the beginning of its transaction and
// the end.
func (t *insertion) steps() []func() error {
	all := tables()
	row := func(i int, c *column) any { return c.value(&t.batch.Events[i]) }
	var fresh, again, rejected []int
	return []func() error{
		func() (err error) {
			fresh, again, err = t.events()
			t.result.Landed, t.result.Duplicates = len(fresh), len(again)
			return err
		},
		func() (err error) {
			rejected, err = t.rejected()
			t.result.Rejected = len(rejected)
			return err
		},
		func() error { return t.append(all[0], fresh, row) },
		func() error { return t.append(all[2], again, row) },
		func() error {
			return t.append(all[1], rejected, func(i int, c *column) any { return valid(c.of(&t.batch.Rejected[i])) })
		},
	}
}

// transaction runs f in a transaction and ends it, after an error of f without
// a trace.
func (t *insertion) transaction(f func() error, end string) error {
	if err := t.f.exec(t.ctx, "BEGIN TRANSACTION"); err != nil {
		return err
	}
	if err := f(); err != nil {
		// If this fails too, closing the file does the same.
		_ = t.f.exec(context.WithoutCancel(t.ctx), "ROLLBACK")
		return err
	}
	if err := t.f.exec(t.ctx, end); err != nil {
		_ = t.f.exec(context.WithoutCancel(t.ctx), "ROLLBACK")
		return err
	}
	return t.f.gone()
}

// stored is what decides what an event of the same key is.
type stored struct {
	content  int64
	received time.Time
	payload  []byte // only of events of the batch, and where content differs
}

// events says which events are new and which are to be noted as received again,
// by their indexes, and counts the others.
func (t *insertion) events() (fresh, again []int, err error) {
	events := t.batch.Events
	first := make(map[[16]byte]int, len(events)) // index of each key's first event
	unique := make([]int, 0, len(events))
	for i := range events {
		if _, out := t.refused[i]; out {
			continue
		}
		if _, ok := first[events[i].KeyHash]; !ok {
			first[events[i].KeyHash] = i
			unique = append(unique, i)
		}
	}
	known, err := t.known(unique)
	if err != nil {
		return nil, nil, err
	}
	if err := t.payloads(known, first); err != nil {
		return nil, nil, err
	}
	type arrival struct {
		key      [16]byte
		received int64
	}
	arrivals := map[arrival]bool{}
	for i := range events {
		e := &events[i]
		if _, out := t.refused[i]; out {
			continue
		}
		received := e.ReceivedAt.Truncate(time.Microsecond)
		s, ok := known[first[e.KeyHash]]
		switch {
		case !ok:
			known[i] = stored{e.ContentHash, received, e.Payload}
			fresh = append(fresh, i)
		case s.content != e.ContentHash && !t.same(s.payload, e.Payload):
			t.result.Conflicts = append(t.result.Conflicts, i)
		case s.received.Equal(received), arrivals[arrival{e.KeyHash, received.UnixMicro()}]:
			t.result.Redelivered++
		default:
			arrivals[arrival{e.KeyHash, received.UnixMicro()}] = true
			again = append(again, i)
		}
	}
	noted, err := t.noted(again)
	if err != nil {
		return nil, nil, err
	}
	t.result.Redelivered += len(noted)
	again = slices.DeleteFunc(again, func(i int) bool { return noted[i] })
	return fresh, again, nil
}

// known returns what has landed of the keys of events, by index.
func (t *insertion) known(indexes []int) (map[int]stored, error) {
	found := map[int]stored{}
	err := t.join(indexes, func(i int) [16]byte { return t.batch.Events[i].KeyHash },
		"SELECT s.i, e.content_hash, e.received_at FROM events e JOIN staged_keys s ON e.key_hash = s.key",
		func(scan func(...any) error) error {
			var i int
			var s stored
			if err := scan(&i, &s.content, &s.received); err != nil {
				return err
			}
			found[i] = s
			return nil
		})
	return found, err
}

// payloadsAtOnce bounds the memory for payloads that are compared.
const payloadsAtOnce = 256

// payloads adds the payloads of what has landed with another content than an
// event of its key has.
func (t *insertion) payloads(known map[int]stored, first map[[16]byte]int) error {
	var differ []int
	for i := range t.batch.Events {
		e := &t.batch.Events[i]
		if k, ok := first[e.KeyHash]; ok {
			if s, ok := known[k]; ok && s.content != e.ContentHash {
				differ = append(differ, k)
			}
		}
	}
	slices.Sort(differ)
	for some := range slices.Chunk(slices.Compact(differ), payloadsAtOnce) {
		err := t.join(some, func(i int) [16]byte { return t.batch.Events[i].KeyHash },
			"SELECT s.i, CAST(e.payload AS VARCHAR) FROM events e JOIN staged_keys s ON e.key_hash = s.key",
			func(scan func(...any) error) error {
				var i int
				var payload []byte
				if err := scan(&i, &payload); err != nil {
					return err
				}
				s := known[i]
				s.payload = payload
				known[i] = s
				return nil
			})
		if err != nil {
			return err
		}
	}
	return nil
}

// noted returns which of the events are in events_duplicates already.
func (t *insertion) noted(indexes []int) (map[int]bool, error) {
	found := map[int]bool{}
	err := t.join(indexes, func(i int) [16]byte { return t.batch.Events[i].KeyHash },
		"SELECT s.i, d.received_at FROM events_duplicates d JOIN staged_keys s ON d.key_hash = s.key",
		func(scan func(...any) error) error {
			var i int
			var received time.Time
			if err := scan(&i, &received); err != nil {
				return err
			}
			if received.Equal(t.batch.Events[i].ReceivedAt.Truncate(time.Microsecond)) {
				found[i] = true
			}
			return nil
		})
	return found, err
}

// rejected returns the indexes of rejected events that are new.
func (t *insertion) rejected() ([]int, error) {
	first := map[[16]byte]bool{}
	var unique []int
	for i := range t.batch.Rejected {
		if id := t.batch.Rejected[i].RejectedID; !first[id] {
			first[id] = true
			unique = append(unique, i)
		}
	}
	known := map[int]bool{}
	err := t.join(unique, func(i int) [16]byte { return t.batch.Rejected[i].RejectedID },
		"SELECT s.i FROM events_rejected r JOIN staged_keys s ON r.rejected_id = s.key",
		func(scan func(...any) error) error {
			var i int
			if err := scan(&i); err != nil {
				return err
			}
			known[i] = true
			return nil
		})
	return slices.DeleteFunc(unique, func(i int) bool { return known[i] }), err
}

// join runs a query over the keys that indexes have. The query finds them in
// staged_keys.
func (t *insertion) join(indexes []int, key func(i int) [16]byte, query string, row func(scan func(...any) error) error) error {
	if len(indexes) == 0 {
		return nil
	}
	err := t.f.writer.Raw(func(conn any) error {
		a, err := duckdb.NewAppender(conn.(driver.Conn), "temp", "main", "staged_keys")
		if err != nil {
			return err
		}
		for _, i := range indexes {
			if err := a.AppendRow(int32(i), duckdb.UUID(key(i))); err != nil {
				return errors.Join(err, a.Close())
			}
		}
		return a.CloseWithCancel(t.ctx)
	})
	if err != nil {
		return fmt.Errorf("stage keys: %w", err)
	}
	rows, err := t.f.writer.QueryContext(t.ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if err := rows.Close(); err != nil {
		return err
	}
	return t.f.exec(t.ctx, "TRUNCATE temp.main.staged_keys")
}

// throughLog returns about how many bytes of a batch go through the log, as events
// do that are no whole row group.
func (b *Batch) throughLog() (bytes int) {
	if len(b.Events) < rowGroup {
		for i := range b.Events {
			bytes += len(b.Events[i].Payload) + len(b.Events[i].PrivateMetadata)
		}
	}
	for i := range b.Rejected {
		bytes += len(b.Rejected[i].Payload) + len(b.Rejected[i].PrivateMetadata) + len(b.Rejected[i].Bytes)
	}
	return bytes
}

// halves returns the parts of a batch that has more than one row.
func (b *Batch) halves() (first, second *Batch) {
	events, rejected := len(b.Events)/2, len(b.Rejected)/2
	if len(b.Events) == 1 && len(b.Rejected) == 1 {
		events = 1
	}
	return &Batch{b.Events[:events], b.Rejected[:rejected]}, &Batch{b.Events[events:], b.Rejected[rejected:]}
}

// add adds what became of events that come after the first so many.
func (r *Result) add(more Result, after int) {
	r.Landed += more.Landed
	r.Duplicates += more.Duplicates
	r.Redelivered += more.Redelivered
	r.Rejected += more.Rejected
	for _, i := range more.Conflicts {
		r.Conflicts = append(r.Conflicts, after+i)
	}
	for _, refusal := range more.Refused {
		r.Refused = append(r.Refused, Refusal{after + refusal.Index, refusal.Message})
	}
}
