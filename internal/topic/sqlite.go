// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"
)

const (
	// A transaction takes at most this many messages and bytes, save that one
	// Publish is never split: this bounds how long a lock is held.
	commitMessages = 10_000
	commitBytes    = 32 << 20
	// sqliteMessageBytes is the largest message. SQLite's own limit for a row
	// is 1,000,000,000 bytes.
	sqliteMessageBytes = 512 << 20
)

func openSQLite(ctx context.Context, u *url.URL, log *slog.Logger) (Topic, error) {
	o, err := parseSQLite(u)
	if err != nil {
		return nil, err
	}
	return newSQLiteTopic(ctx, u.Path, o, log)
}

var errNoPath = errors.New("name a file: sqlite:///absolute/path or sqlite://relative/path")

// sqliteTopic publishes to a file. One goroutine, the writer, has the only
// connection. While it commits, calls to Publish gather in the queue, and the
// next transaction takes them all: the more publishers, the fewer fsyncs each.
type sqliteTopic struct {
	path string
	o    sqliteOptions
	log  *slog.Logger
	wake chan struct{} // tells the writer to look again; holds one token
	done chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	queue   []*publishing
	closed  bool
	failure error // of the last write; nil after a success

	// The writer's own.
	file    *sqliteFile // nil after an error, until the next write opens it
	insert  *inserter
	count   *sql.Stmt
	commits int
	cleaner cleaner
}

// publishing is a call to Publish. The writer reads ms only between taking the
// call from the queue and closing free.
type publishing struct {
	ms   []Message
	size int
	// abandoned is guarded by the topic's mu and set only while queued.
	queued, abandoned bool
	free              chan struct{}
	done              chan struct{} // closed when errs is final
	errs              []error
}

func newSQLiteTopic(ctx context.Context, path string, o sqliteOptions, log *slog.Logger) (*sqliteTopic, error) {
	t := &sqliteTopic{
		path: path, o: o, log: log,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	t.cleaner.o = o
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	go t.write()
	return t, nil
}

func (t *sqliteTopic) Publish(ctx context.Context, ms []Message) []error {
	if len(ms) == 0 {
		return nil
	}
	return t.publish(ctx, ms)
}

// publish with no messages is a write that changes nothing; its one error is
// the outcome.
func (t *sqliteTopic) publish(ctx context.Context, ms []Message) []error {
	p := &publishing{ms: ms, queued: true, free: make(chan struct{}), done: make(chan struct{})}
	for i := range ms {
		p.size += ms[i].size()
	}
	if err := ctx.Err(); err != nil {
		return p.failed(err)
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return p.failed(ErrClosed)
	}
	t.queue = append(t.queue, p)
	t.mu.Unlock()
	t.nudge()

	select {
	case <-p.done:
		return p.errs
	case <-ctx.Done():
	}
	t.mu.Lock()
	if p.queued {
		p.abandoned = true
		t.mu.Unlock()
		return p.failed(context.Cause(ctx))
	}
	t.mu.Unlock()
	// The writer is copying the messages into SQLite, which takes no longer
	// than that; what can take long, locks and fsync, comes before and after.
	<-p.free
	select {
	case <-p.done:
		return p.errs
	default:
		return p.failed(fmt.Errorf("outcome unknown: %w", context.Cause(ctx)))
	}
}

// failed returns err for each message. A call without messages has one error.
func (p *publishing) failed(err error) []error {
	if len(p.ms) == 0 {
		return []error{err}
	}
	return errorForEach(p.ms, err)
}

// Ping is cheap unless the last write failed: then it tries another one.
func (t *sqliteTopic) Ping(ctx context.Context) error {
	t.mu.Lock()
	closed, failure := t.closed, t.failure
	t.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case failure == nil:
		return nil
	}
	return errors.Join(t.publish(ctx, nil)...)
}

// Close publishes what is queued, then closes the file.
func (t *sqliteTopic) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.nudge()
	<-t.done
	return nil
}

func (t *sqliteTopic) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// write is the writer.
func (t *sqliteTopic) write() {
	defer close(t.done)
	defer t.closeFile()
	clean := time.NewTimer(0)
	defer clean.Stop()
	for {
		t.mu.Lock()
		waiting, closed := t.waiting(), t.closed
		t.mu.Unlock()
		switch {
		case waiting:
			t.commit()
			t.file.bound(t.o.logBytes)
			// At full load there is no other moment for it.
			if t.cleaner.due() {
				t.clean()
				clean.Reset(t.cleaner.pause())
			}
		case closed:
			return
		default:
			select {
			case <-t.wake:
			case <-clean.C:
				t.clean()
				clean.Reset(t.cleaner.pause())
			}
		}
	}
}

// waiting drops calls that were abandoned and says whether any are left. The
// caller holds mu.
func (t *sqliteTopic) waiting() bool {
	t.queue = slices.DeleteFunc(t.queue, func(p *publishing) bool { return p.abandoned })
	return len(t.queue) > 0
}

// commit publishes the calls at the head of the queue in one transaction.
func (t *sqliteTopic) commit() {
	err := t.begin()
	if errors.Is(err, errNobodyWaits) {
		return
	}
	calls := t.take()
	messages := 0
	if err == nil {
		messages, err = t.insertAll(calls)
	}
	for _, p := range calls {
		close(p.free)
	}
	if err == nil {
		err = t.end()
	}
	if err != nil {
		t.fail(err)
		for _, p := range calls {
			p.errs = p.failed(err)
			close(p.done)
		}
		return
	}
	t.commits++
	t.cleaner.wrote(messages)
	t.setFailure(nil)
	for _, p := range calls {
		close(p.done)
	}
}

var errNobodyWaits = errors.New("nobody waits")

// begin begins a transaction for the queue, for as long as anyone waits for it.
func (t *sqliteTopic) begin() error {
	if err := t.open(context.Background()); err != nil {
		return err
	}
	for {
		err := t.file.begin(context.Background(), time.Second)
		if !errors.Is(err, errBusy) {
			return err
		}
		t.setFailure(err)
		t.mu.Lock()
		waiting := t.waiting()
		t.mu.Unlock()
		if !waiting {
			return errNobodyWaits
		}
	}
}

// end commits, unless the file has been taken away.
func (t *sqliteTopic) end() error {
	if err := t.file.gone(); err != nil {
		return err
	}
	return t.file.exec("COMMIT")
}

// take takes calls from the queue, within the bounds of a transaction.
func (t *sqliteTopic) take() []*publishing {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting()
	n, messages, size := 0, 0, 0
	for _, p := range t.queue {
		messages += len(p.ms)
		size += p.size
		if n > 0 && (messages > commitMessages || size > commitBytes) {
			break
		}
		p.queued = false
		n++
	}
	calls := slices.Clone(t.queue[:n])
	t.queue = slices.Delete(t.queue, 0, n)
	return calls
}

// insertAll returns how many messages it inserted.
func (t *sqliteTopic) insertAll(calls []*publishing) (messages int, err error) {
	now, size := time.Now().UnixMilli(), 0
	for _, p := range calls {
		for i := range p.ms {
			m := &p.ms[i]
			if m.size() > sqliteMessageBytes {
				if p.errs == nil {
					p.errs = make([]error, len(p.ms))
				}
				p.errs[i] = fmt.Errorf("%w: it has %d bytes and the most is %d", ErrRejected, m.size(), sqliteMessageBytes)
				continue
			}
			n, err := t.insert.add(now, m)
			if err != nil {
				return 0, hint(t.path, err)
			}
			messages++
			size += n
		}
	}
	if err := t.insert.flush(); err != nil {
		return 0, hint(t.path, err)
	}
	err = t.count.QueryRowContext(context.Background(), messages, size).Scan(&t.cleaner.bytes)
	return messages, hint(t.path, err)
}

// open opens the file for writing, unless it is open, and makes it if there is
// none.
func (t *sqliteTopic) open(ctx context.Context) error {
	if t.file != nil {
		return nil
	}
	if err := createSQLiteFile(t.path); err != nil {
		return err
	}
	f, err := openSQLiteWriter(ctx, t.path, t.o.pragmas, t.failure != nil)
	if err != nil {
		return err
	}
	t.insert, err = newInserter(ctx, f)
	if err == nil {
		t.count, err = f.PrepareContext(ctx, "UPDATE totals SET messages = messages + ?, bytes = bytes + ? RETURNING bytes")
	}
	if err == nil {
		err = f.scan("SELECT bytes FROM totals", nil, &t.cleaner.bytes)
	}
	t.file = f
	if err != nil {
		t.closeFile()
		return hint(t.path, err)
	}
	return nil
}

// fail ends the transaction and gives up the connection: what it, SQLite or the
// kernel believe about the file after an error is not to be built on.
func (t *sqliteTopic) fail(err error) {
	t.closeFile()
	t.setFailure(err)
}

func (t *sqliteTopic) setFailure(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil && t.failure == nil:
		t.log.Error("publishing fails", "topic", t.path, "error", err)
	case err == nil && t.failure != nil:
		t.log.Info("publishing works again", "topic", t.path)
	}
	t.failure = err
}

func (t *sqliteTopic) closeFile() {
	if t.file != nil {
		_ = t.insert.close()
		if t.count != nil {
			t.count.Close()
		}
		t.file.Close()
		t.file, t.insert, t.count = nil, nil, nil
	}
}
