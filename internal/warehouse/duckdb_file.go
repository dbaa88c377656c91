// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/duckdb/duckdb-go/v2"
)

const (
	// rowGroup is how many rows DuckDB compresses together. A batch of as many
	// new rows goes into the file at once, compressed, and never through the
	// log; with DuckDB's own default it would be written twice, and rewritten as
	// its group grows.
	rowGroup = 8192

	// queriesAtOnce is how many queries run at the same time.
	queriesAtOnce = 2
)

// duckDBFile is an open file. The file is attached to a DuckDB that otherwise
// has nothing, since only ATTACH takes all options.
type duckDBFile struct {
	path     string
	readOnly bool
	info     os.FileInfo
	db       *sql.DB
	conn     *sql.Conn      // for everything but inserting and queries
	readers  chan *sql.Conn // those that no query uses
	all      []*sql.Conn
	release  func() // gives the file free for others in this process

	writers    [2]*writer
	deciding   sync.Mutex    // held until it is known what of a batch is to be inserted
	filter     *keyFilter    // of events; nil if they are too many
	filled     chan struct{} // closed when the filter has all keys that it will
	turn       int           // number of the writer that was used last; guarded by deciding
	committing sync.Mutex    // held during a commit
	broken     error         // why nothing more may be committed; guarded by committing

	// ending ends when the file is closed.
	ending     context.Context
	end        context.CancelCauseFunc
	background sync.WaitGroup // of what ends with it
	mu         sync.Mutex
	open       map[*duckDBRows]struct{}
}

// openDuckDBFile opens a file, which is made if it is to be written to and there
// is none. A file that is no warehouse is left as it is.
func openDuckDBFile(ctx context.Context, c duckDBConfig, readOnly bool) (_ *duckDBFile, err error) {
	if !readOnly {
		if err := createDuckDBFile(ctx, c); err != nil {
			return nil, err
		}
	}
	info, err := os.Stat(c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s does not exist; a pipeline that runs makes it", c.path)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", c.path)
	case info.Size() == 0:
		return nil, fmt.Errorf("%s is empty, which a warehouse never is; remove it", c.path)
	}
	release, err := claim(info, c.path)
	if err != nil {
		return nil, err
	}
	f := &duckDBFile{path: c.path, readOnly: readOnly, info: info, release: release, open: map[*duckDBRows]struct{}{}}
	f.ending, f.end = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			f.close()
			err = hintDuckDB(c.path, err)
		}
	}()
	// DuckDB would make it for everybody to read. Where it cannot be made, what
	// does not fit into memory fails and says so.
	_ = os.Mkdir(scratch(c.path), 0o700)
	if f.db, err = startDuckDB(c); err != nil {
		return nil, err
	}
	if f.conn, err = f.connect(ctx); err != nil {
		return nil, err
	}
	if readOnly {
		if err = f.exec(ctx, attach(c.path, "READ_ONLY")); err != nil {
			return nil, err
		}
		if _, err = f.version(ctx); err != nil {
			return nil, err
		}
		return f, f.prepare(ctx)
	}
	if err = f.check(ctx); err != nil {
		return nil, err
	}
	if err = recoverLog(c.path); err != nil {
		return nil, err
	}
	if err = f.exec(ctx, attach(c.path, fmt.Sprintf("ROW_GROUP_SIZE %d", rowGroup))); err != nil {
		return nil, err
	}
	if err = f.evolve(ctx); err != nil {
		return nil, err
	}
	return f, f.prepare(ctx)
}

// check returns an error if the file is no warehouse. Attached for writing, even
// a file that is somebody else's would change; so it is attached for reading
// first, by another name, at which it has no log that would have to be read twice.
func (f *duckDBFile) check(ctx context.Context) error {
	name := filepath.Join(scratch(f.path), "check")
	_ = os.Remove(name)
	defer os.Remove(name)
	if target, err := filepath.EvalSymlinks(f.path); err != nil || os.Link(target, name) != nil {
		name = f.path
	}
	if err := f.exec(ctx, attach(name, "READ_ONLY")); err != nil {
		return err
	}
	if _, err := f.version(ctx); err != nil {
		return err
	}
	return f.exec(ctx, "DETACH telemetry")
}

// startDuckDB starts a DuckDB without any data.
func startDuckDB(c duckDBConfig) (*sql.DB, error) {
	connector, err := duckdb.NewConnector("", nil)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	for _, s := range []string{
		fmt.Sprintf("SET memory_limit = '%dB'", c.memory),
		fmt.Sprintf("SET threads = %d", c.threads),
		"SET temp_directory = " + quote(scratch(c.path)),
		"SET max_temp_directory_size = '8GB'", // so that no query fills the disk
		"SET allowed_directories = [" + quote(scratch(c.path)) + "]",
		// Rows that an export holds in memory for each thread, before it writes them.
		"SET partitioned_write_flush_threshold = 2048",
		"SET autoinstall_known_extensions = false",
		"SET autoload_known_extensions = false",
		"SET allow_community_extensions = false",
		"SET allow_unredacted_secrets = false",
		"SET GLOBAL TimeZone = 'UTC'",
		// See fullLog.
		"SET wal_autocheckpoint = '1TB'",
		// After an error nothing more is to be written. Close does it otherwise.
		"PRAGMA disable_checkpoint_on_shutdown",
	} {
		if _, err := db.Exec(s); err != nil {
			db.Close()
			return nil, fmt.Errorf("%s: %w", s, err)
		}
	}
	return db, nil
}

// prepare opens all connections, then takes every freedom from this DuckDB, of
// which a connection that is opened later could not be told which database it
// is for.
func (f *duckDBFile) prepare(ctx context.Context) error {
	if !f.readOnly {
		for i := range f.writers {
			conn, err := f.connect(ctx)
			if err != nil {
				return err
			}
			if f.writers[i], err = newWriter(f.ending, i, conn); err != nil {
				return err
			}
		}
	}
	f.readers = make(chan *sql.Conn, queriesAtOnce)
	for range queriesAtOnce {
		conn, err := f.connect(ctx)
		if err != nil {
			return err
		}
		f.readers <- conn
	}
	for _, conn := range f.all {
		if _, err := conn.ExecContext(ctx, "USE telemetry"); err != nil {
			return err
		}
	}
	if !f.readOnly {
		var events int64
		if err := f.conn.QueryRowContext(ctx, "SELECT count(*) FROM telemetry.main.events").Scan(&events); err != nil {
			return err
		}
		f.filter = newKeyFilter(events)
	}
	return f.exec(ctx,
		"SET enable_external_access = false",
		"SET lock_configuration = true",
	)
}

// fillFilter begins to fill the filter. If that fails, keys are looked for in the
// file.
func (f *duckDBFile) fillFilter(log *slog.Logger) {
	f.filled = make(chan struct{})
	f.background.Go(func() {
		defer close(f.filled)
		if f.filter == nil {
			return
		}
		if err := f.filter.read(f.ending, f.conn); err != nil && f.ending.Err() == nil {
			log.Warn("the keys of the events that are there could not be read; until the next start each batch is looked for in the whole file, which takes longer", "warehouse", f.path, "error", err)
		}
	})
}

func (f *duckDBFile) connect(ctx context.Context) (*sql.Conn, error) {
	conn, err := f.db.Conn(ctx)
	if err == nil {
		f.all = append(f.all, conn)
	}
	return conn, err
}

func (f *duckDBFile) exec(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := f.conn.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// gone returns an error if the path no longer names the file that is open: what
// is written to it then is lost.
func (f *duckDBFile) gone() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("the warehouse's file is gone: %w", err)
	}
	if !os.SameFile(info, f.info) {
		return fmt.Errorf("the warehouse's file %s has been replaced by another", f.path)
	}
	return nil
}

// settle writes what the log holds into the file and begins it anew.
func (f *duckDBFile) settle(ctx context.Context) error {
	return hintDuckDB(f.path, f.exec(ctx, "FORCE CHECKPOINT telemetry"))
}

// finish ends queries and closes a file on which nothing has failed.
func (f *duckDBFile) finish() error {
	f.endQueries(ErrClosed)
	err := f.gone()
	if err == nil && !f.readOnly {
		err = f.settle(context.Background())
	}
	f.close()
	return err
}

// close ends queries and everything else without writing to the file.
func (f *duckDBFile) close() {
	f.endQueries(errors.New("the warehouse's file was closed after an error; ask again"))
	for _, conn := range f.all {
		conn.Close()
	}
	if f.db != nil {
		f.db.Close()
	}
	_ = os.Remove(scratch(f.path)) // only if it is empty
	f.release()
}

func (f *duckDBFile) endQueries(cause error) {
	f.end(cause)
	f.mu.Lock()
	open := f.open
	f.open = nil
	f.mu.Unlock()
	for rows := range open {
		rows.stop(cause)
	}
	f.background.Wait()
}

// scratch is where DuckDB puts what does not fit into memory.
func scratch(path string) string { return path + ".tmp" }

func attach(path, options string) string {
	return "ATTACH " + quote(path) + " AS telemetry (" + options + ")"
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// createDuckDBFile makes an empty warehouse at path, and the folders above it,
// unless there is a file already. The file appears whole or not at all, also
// when two processes do this at once or the power fails.
func createDuckDBFile(ctx context.Context, c duckDBConfig) error {
	if _, err := os.Stat(c.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(c.path + ".wal"); err == nil {
		return fmt.Errorf("%s is missing, but %s.wal is there and may hold its last rows: put the file back, or remove both", c.path, c.path)
	}
	dir := filepath.Dir(c.path)
	if err := makeDir(dir); err != nil {
		return fmt.Errorf("make folder for %s, where this user must be able to write: %w", c.path, err)
	}
	// The folder is this user's alone, and so nobody sees the file before its
	// permissions are right.
	temp, err := os.MkdirTemp(dir, "."+filepath.Base(c.path)+".new-*")
	if err != nil {
		// Without the name, which is another one each time.
		if e := new(fs.PathError); errors.As(err, &e) {
			err = e.Err
		}
		return fmt.Errorf("make %s, whose folder must be writable by this user: %w", c.path, err)
	}
	defer os.RemoveAll(temp)
	made := filepath.Join(temp, "warehouse")
	if err := makeDuckDBFile(ctx, c, made); err != nil {
		return hintDuckDB(c.path, err)
	}
	// Unlike a rename, a link never replaces a file.
	if err := os.Link(made, c.path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func makeDuckDBFile(ctx context.Context, c duckDBConfig, path string) error {
	db, err := startDuckDB(c)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, s := range append([]string{
		// Whoever reads the file with another DuckDB needs this version or a later one.
		attach(path, fmt.Sprintf("STORAGE_VERSION 'v1.5.0', ROW_GROUP_SIZE %d", rowGroup)),
		"USE telemetry",
	}, append(duckDBSchema(), "CHECKPOINT telemetry", "USE memory", "DETACH telemetry")...) {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}

// makeDir is os.MkdirAll whose folders outlive a power cut.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
