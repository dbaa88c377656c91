// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/duckdb/duckdb-go/v2"
)

// An insertion is one attempt to land a batch, in one transaction.
type insertion struct {
	f     *duckDBFile
	w     *writer // while the transaction is open
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
	if isVerdict(err) && ctx.Err() == nil {
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
	err := t.transaction(func(decided func()) error {
		for i, step := range t.steps() {
			if err := step(); err != nil {
				return err
			}
			if i == lastDecision {
				decided()
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

// lastDecision is the step after which what is to be inserted is known.
const lastDecision = 1

// steps are what an attempt does between the beginning of its transaction and
// the end.
func (t *insertion) steps() []func() error {
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
		func() error { return t.put(t.w.events, fresh) },
		func() error { return t.put(t.w.duplicates, again) },
		func() error { return t.putRejected(rejected) },
	}
}

// put inserts events, given by their indexes.
func (t *insertion) put(to *staging, indexes []int) error {
	if len(indexes) == 0 {
		return nil
	}
	return to.run(t.ctx, t.w, len(indexes), func(row int, c *column) any { return c.field(&t.batch.Events[indexes[row]]) })
}

// putRejected inserts rejected events, given by their indexes.
func (t *insertion) putRejected(indexes []int) error {
	if len(indexes) == 0 {
		return nil
	}
	sound := make([]*Rejected, len(indexes))
	for row, i := range indexes {
		sound[row] = t.batch.Rejected[i].sound()
	}
	return t.w.rejected.run(t.ctx, t.w, len(sound), func(row int, c *column) any { return c.of(sound[row]) })
}

// transaction runs f in a transaction and ends it, after an error of f without a
// trace. Once f has called decided, another may run, with the other writer: it
// would not see what is not committed, and so waits if it has one of its keys.
func (t *insertion) transaction(f func(decided func()) error, end string) error {
	t.f.deciding.Lock()
	decided := sync.OnceFunc(t.f.deciding.Unlock)
	defer decided()
	t.w = t.f.nextWriter()
	t.w.busy.Lock()
	defer t.w.busy.Unlock()
	full := t.f.logIsFull()
	if other := t.f.other(t.w); full || t.meets(other) {
		other.await()
	}
	return t.w.do(t.f.ending, func() error {
		if full {
			if err := t.w.checkpoint(t.ctx); err != nil {
				return err
			}
		}
		return t.inThread(func() error { return f(decided) }, end)
	})
}

// inThread is transaction in the writer's thread.
func (t *insertion) inThread(f func() error, end string) error {
	if err := t.w.exec(t.ctx, "BEGIN TRANSACTION"); err != nil {
		return err
	}
	if err := f(); err != nil {
		// If this fails too, closing the file does the same.
		_ = t.w.exec(context.WithoutCancel(t.ctx), "ROLLBACK")
		return err
	}
	t.f.committing.Lock()
	defer t.f.committing.Unlock()
	err := t.f.broken
	if err == nil {
		err = t.w.exec(t.ctx, end)
		t.f.broken = err
	}
	if err != nil {
		_ = t.w.exec(context.WithoutCancel(t.ctx), "ROLLBACK")
		return err
	}
	return t.f.gone()
}

// meets says whether the batch has one of the keys of that which w inserts, or
// has inserted last.
func (t *insertion) meets(w *writer) bool {
	for i := range t.batch.Events {
		if _, ok := w.first[t.batch.Events[i].KeyHash]; ok {
			return true
		}
	}
	for i := range t.batch.Rejected {
		if _, ok := w.firstRejected[t.batch.Rejected[i].RejectedID]; ok {
			return true
		}
	}
	return false
}

// stored is what decides what an event of the same key is.
type stored struct {
	content  int64
	received time.Time
	payload  []byte // of what has landed before, only where content differs
}

// events says which events are new and which are to be noted as received again,
// by their indexes, and counts the others.
func (t *insertion) events() (fresh, again []int, err error) {
	events := t.batch.Events
	first := t.w.first // index of each key's first event
	clear(first)
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
	known, err := t.known(t.f.filter.learn(unique, func(i int) [16]byte { return events[i].KeyHash }))
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
		k := first[e.KeyHash]
		s, landed := known[k]
		if !landed {
			s = stored{events[k].ContentHash, events[k].ReceivedAt.Truncate(time.Microsecond), events[k].Payload}
		}
		switch {
		case !landed && i == k:
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
		"SELECT s.i, e.content_hash, e.received_at FROM events e JOIN %s s ON e.key_hash = s.key",
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
			"SELECT s.i, CAST(e.payload AS VARCHAR) FROM events e JOIN %s s ON e.key_hash = s.key",
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
		"SELECT s.i, d.received_at FROM events_duplicates d JOIN %s s ON d.key_hash = s.key",
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
	first := t.w.firstRejected
	clear(first)
	var unique []int
	for i := range t.batch.Rejected {
		id := t.batch.Rejected[i].RejectedID
		if _, ok := first[id]; !ok {
			first[id] = i
			unique = append(unique, i)
		}
	}
	known := map[int]bool{}
	err := t.join(unique, func(i int) [16]byte { return t.batch.Rejected[i].RejectedID },
		"SELECT s.i FROM events_rejected r JOIN %s s ON r.rejected_id = s.key",
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

// join runs a query over the keys that indexes have. In the query, a verb stands
// for the relation that has them.
func (t *insertion) join(indexes []int, key func(i int) [16]byte, query string, row func(scan func(...any) error) error) error {
	if len(indexes) == 0 {
		return nil
	}
	keys := &t.w.keys
	keys.count = len(indexes)
	keys.fill = func(chunk duckdb.DataChunk, from, n int) error {
		for at, i := range indexes[from : from+n] {
			k := duckdb.UUID(key(i))
			if err := errors.Join(duckdb.SetChunkValue(chunk, 0, at, int32(i)), duckdb.SetChunkValue(chunk, 1, at, &k)); err != nil {
				return err
			}
		}
		return nil
	}
	defer func() { keys.count, keys.fill = 0, nil }()
	rows, err := t.w.conn.QueryContext(t.ctx, fmt.Sprintf(query, t.w.keysCall))
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
	return rows.Close()
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

// isVerdict says whether err is about a row that DuckDB never takes.
func isVerdict(err error) bool {
	var e *duckdb.Error
	if errors.As(err, &e) {
		switch e.Type {
		case duckdb.ErrorTypeConversion, duckdb.ErrorTypeConstraint, duckdb.ErrorTypeInvalidInput,
			duckdb.ErrorTypeInvalidType, duckdb.ErrorTypeMismatchType, duckdb.ErrorTypeObjectSize, duckdb.ErrorTypeOutOfRange:
			return true
		}
	}
	return errors.Is(err, errNotText)
}

// refusals adds to refused the events, among those from one index to before
// another, that DuckDB never takes. It finds them by trying ever smaller parts.
func (t *insertion) refusals(from, to int) error {
	var indexes []int
	for i := from; i < to; i++ {
		if _, ok := t.refused[i]; !ok {
			indexes = append(indexes, i)
		}
	}
	if len(indexes) == 0 {
		return nil
	}
	err := t.transaction(func(func()) error { return t.put(t.w.events, indexes) }, "ROLLBACK")
	switch {
	case !isVerdict(err):
		return err
	case to-from == 1:
		t.refused[from] = verdict(err)
		return nil
	}
	middle := (from + to) / 2
	if err := t.refusals(from, middle); err != nil {
		return err
	}
	return t.refusals(middle, to)
}
