// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

const (
	// duckDBBatchBytes is some six thousand bytes for each row of a full row
	// group, which is more than events have.
	duckDBBatchBytes = 48 << 20

	// logBytes is how much goes through the log at once at most: DuckDB takes
	// several times as much memory for that, which counts for no limit.
	logBytes = 8 << 20

	defaultMemoryLimit = "128MB"
	// Beside a second thread, the one that inserts would not sleep while it has
	// nothing to do.
	writerThreads = 1
	readerThreads = 2

	// mostMemory is what DuckDB may take in the end where its limit is too low:
	// it holds 2,048 values of a column in memory at once, however large.
	mostMemory = 8 << 30
)

// duckDBConfig is what a duckdb: URL says.
type duckDBConfig struct {
	path    string
	memory  int64 // bytes
	threads int   // 0 means the default
}

var memoryLimit = regexp.MustCompile(`^([1-9][0-9]{0,8})(KB|MB|GB|KiB|MiB|GiB)$`)

// parseMemory returns how many bytes a size such as 128MB is, or 0 if it is none.
func parseMemory(s string) int64 {
	m := memoryLimit.FindStringSubmatch(s)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // nine digits
	return n * map[string]int64{"KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[m[2]]
}

func parseDuckDB(rawURL string) (c duckDBConfig, err error) {
	rest, ok := strings.CutPrefix(rawURL, "duckdb://")
	if !ok {
		return c, errors.New("write duckdb://relative/path or duckdb:///absolute/path")
	}
	// All of it is a path, as net/url would not have it.
	escaped, params, _ := strings.Cut(rest, "?")
	if c.path, err = url.PathUnescape(escaped); err != nil {
		return c, err
	}
	switch {
	case c.path == "":
		return c, errors.New("name a file: duckdb:///absolute/path or duckdb://relative/path")
	case strings.ContainsAny(c.path, "?\x00"):
		// DuckDB takes what follows a ? for parameters and not for a name.
		return c, errors.New("DuckDB cannot keep a file whose path has a ? or a NUL in it")
	}
	q, err := query(params, "memory_limit", "threads")
	if err != nil {
		return c, err
	}
	c.memory = parseMemory(defaultMemoryLimit)
	if s := q.Get("memory_limit"); q.Has("memory_limit") {
		if c.memory = parseMemory(s); c.memory == 0 {
			return c, fmt.Errorf("memory_limit=%s: want a size such as 128MB or 1GB", s)
		}
	}
	if s := q.Get("threads"); q.Has("threads") {
		if c.threads, err = strconv.Atoi(s); err != nil || c.threads < 1 || c.threads > 1024 {
			return c, fmt.Errorf("threads=%s: want a number, 1 or more", s)
		}
	}
	return c, nil
}

// duckDB is a warehouse in a file. After an error of which nobody knows what it
// left behind, the file is closed, and opened again when it is next needed: that
// is how DuckDB recovers, and how files that come back are found.
type duckDB struct {
	c        duckDBConfig
	o        Options
	readOnly bool

	inserting sync.RWMutex // held by Insert, and by Close for good

	mu      sync.Mutex // guards what follows
	file    *duckDBFile
	failure error // of the last Insert, or of opening the file; nil after a success
	closed  bool
}

func openDuckDB(ctx context.Context, rawURL string, o Options) (Warehouse, error) {
	return newDuckDB(ctx, rawURL, o, false)
}

func openDuckDBReader(ctx context.Context, rawURL string, o Options) (Reader, error) {
	return newDuckDB(ctx, rawURL, o, true)
}

func newDuckDB(ctx context.Context, rawURL string, o Options, readOnly bool) (*duckDB, error) {
	c, err := parseDuckDB(rawURL)
	if err != nil {
		return nil, err
	}
	if c.threads == 0 {
		c.threads = writerThreads
		if readOnly {
			c.threads = readerThreads
		}
	}
	w := &duckDB{c: c, o: o, readOnly: readOnly}
	if _, err := w.open(ctx); err != nil {
		return nil, err
	}
	return w, nil
}

// open returns the file, which it opens unless it is open.
func (w *duckDB) open(ctx context.Context) (*duckDBFile, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return nil, ErrClosed
	case w.file != nil:
		return w.file, nil
	}
	file, err := openDuckDBFile(ctx, w.c, w.readOnly)
	if err == nil && w.failure != nil {
		// What the kernel holds of the log may never have reached the disk.
		err = file.settle(ctx)
		if err != nil {
			file.close()
		}
	}
	if err != nil {
		w.failed(err)
		return nil, err
	}
	file.fillFilter(w.o.Log)
	w.file = file
	return file, nil
}

// Insert is all or nothing, save for a batch that takes too much memory, and so
// lands in parts.
func (w *duckDB) Insert(ctx context.Context, b *Batch) (Result, error) {
	w.inserting.RLock()
	defer w.inserting.RUnlock()
	return w.insert(ctx, b)
}

func (w *duckDB) insert(ctx context.Context, b *Batch) (Result, error) {
	if one := len(b.Events)+len(b.Rejected) < 2; one || b.throughLog() <= logBytes {
		result, err := w.insertOnce(ctx, b)
		if one || !isOutOfMemory(err) {
			return result, err
		}
		// It would be too large for ever.
	}
	first, second := b.halves()
	result, err := w.insert(ctx, first)
	if err != nil {
		return Result{}, err
	}
	rest, err := w.insert(ctx, second)
	if err != nil {
		return Result{}, err
	}
	result.add(rest, len(first.Events))
	return result, nil
}

func (w *duckDB) insertOnce(ctx context.Context, b *Batch) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	file, err := w.open(ctx)
	if err != nil {
		return Result{}, err
	}
	// Without the filter, all rows would be read for each batch, and not only once.
	select {
	case <-file.filled:
	case <-ctx.Done():
		return Result{}, context.Cause(ctx)
	}
	result, err := file.insert(ctx, b, w.o.Same)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch current := w.file == file; {
	case err != nil && current:
		w.file = nil
		w.failed(err)
		file.close()
	case err != nil && w.failure != nil:
		err = w.failure // why the file was closed meanwhile
	case current:
		w.failure = nil
	}
	if err != nil {
		return Result{}, fmt.Errorf("insert %d events and %d rejected: %w", len(b.Events), len(b.Rejected), err)
	}
	return result, nil
}

// failed notes an error. Where DuckDB had too little memory to bring its file in
// order, it has more the next time: nothing could land otherwise. The caller
// holds mu.
func (w *duckDB) failed(err error) {
	w.failure = err
	if !isCheckpointOutOfMemory(err) || w.c.memory >= mostMemory {
		return
	}
	w.c.memory *= 2
	w.o.Log.Warn("events are so large that DuckDB needs more memory than its memory_limit; it gets more", "warehouse", w.c.path, "bytes", w.c.memory)
}

// Ping looks whether the file is still there. What made Insert fail stays what is
// wrong until Insert succeeds: there is no smaller write that would tell whether
// a disk has room again for a batch.
func (w *duckDB) Ping(ctx context.Context) error {
	w.mu.Lock()
	failure := w.failure
	w.mu.Unlock()
	file, err := w.open(ctx)
	switch {
	case err != nil:
		return err
	case failure != nil:
		return failure
	}
	return file.gone()
}

// Close writes the log's content to the file, so that it alone can be copied.
func (w *duckDB) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	file := w.file
	w.mu.Unlock()
	w.inserting.Lock()
	defer w.inserting.Unlock()
	if file == nil {
		return nil
	}
	return file.finish()
}
