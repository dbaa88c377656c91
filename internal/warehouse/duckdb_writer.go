// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"runtime"
	"sync"

	"github.com/duckdb/duckdb-go/v2"
)

// writer is a connection that inserts, one batch at a time. A file has two, which
// take turns.
//
// It works in a thread of its own: what DuckDB's allocator keeps for a thread is
// then used again by the next batch, where it would otherwise pile up in all
// threads that Go happens to use.
type writer struct {
	number int
	conn   *sql.Conn
	work   chan func()
	busy   sync.Mutex // held during a transaction; locked by who holds deciding

	events, rejected, duplicates *staging

	keys     relation // i, the index of what has it, and key
	keysCall string

	// The keys of the last batch, each with the index of the first that has it.
	first, firstRejected map[[16]byte]int
}

func newWriter(ctx context.Context, number int, conn *sql.Conn) (*writer, error) {
	w := &writer{number: number, conn: conn, work: make(chan func()), first: map[[16]byte]int{}, firstRejected: map[[16]byte]int{}}
	for _, c := range []struct {
		name string
		typ  duckdb.Type
	}{{"i", duckdb.TYPE_INTEGER}, {"key", duckdb.TYPE_UUID}} {
		info, err := duckdb.NewTypeInfo(c.typ)
		if err != nil {
			return nil, err
		}
		w.keys.columns = append(w.keys.columns, duckdb.ColumnInfo{Name: c.name, T: info})
	}
	var err error
	if w.keysCall, err = w.register("keys", &w.keys); err != nil {
		return nil, err
	}
	for i, s := range []**staging{&w.events, &w.rejected, &w.duplicates} {
		if *s, err = w.stage(tables()[i]); err != nil {
			return nil, err
		}
	}
	go w.run(ctx)
	return w, nil
}

// run calls what do gives it, all in one thread, until ctx ends.
func (w *writer) run(ctx context.Context) {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	for {
		select {
		case f := <-w.work:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// do has run call f, and returns its error, unless ctx, which is that of run, ends
// before it begins.
func (w *writer) do(ctx context.Context, f func() error) error {
	done := make(chan error)
	select {
	case w.work <- func() { done <- f() }:
		return <-done
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *writer) exec(ctx context.Context, statement string) error {
	_, err := w.conn.ExecContext(ctx, statement)
	return err
}

// nextWriter returns the writer that was not used last. The caller holds
// deciding.
func (f *duckDBFile) nextWriter() *writer {
	f.turn = 1 - f.turn
	return f.writers[f.turn]
}

// other returns the other writer.
func (f *duckDBFile) other(w *writer) *writer { return f.writers[1-w.number] }

// await waits for the transaction under way. The caller holds deciding, so that no
// other begins.
func (w *writer) await() {
	w.busy.Lock()
	defer w.busy.Unlock()
}

// fullLog is when the log is brought into the file, in bytes. DuckDB would do so
// within a commit. But if that fails while another transaction is open, as when the
// disk is full, the process ends: DuckDB throws when it is told to close the other
// connection. So it happens between transactions.
const fullLog = 16 << 20

func (f *duckDBFile) logIsFull() bool {
	info, err := os.Stat(f.path + ".wal")
	return err == nil && info.Size() > fullLog
}

// checkpoint brings the log into the file, unless a query keeps it from that. The
// next insertion tries again.
func (w *writer) checkpoint(ctx context.Context) error {
	err := w.exec(ctx, "CHECKPOINT telemetry")
	if e := new(duckdb.Error); errors.As(err, &e) && e.Type == duckdb.ErrorTypeTransaction {
		return nil
	}
	return err
}
