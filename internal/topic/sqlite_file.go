// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// sqliteApplicationID marks our files, so that another application's
	// database is refused and not altered: "tgtp" in ASCII.
	sqliteApplicationID = 0x74677470
	sqliteVersion       = 1

	// sqlitePageBytes is the size of a new file's pages. In SQLite's of 4 KiB
	// there is room for three usual events, and each page is a call to write.
	sqlitePageBytes = 16 << 10

	// lockPatience is how long opening and acknowledging wait for
	// another process's write lock, which is normally held for milliseconds.
	lockPatience = 10 * time.Second
)

// A key, attributes or data that are empty are stored as NULL. Attributes are
// length-prefixed and not JSON, so that any bytes come back as they were.
// totals has one row, so that nobody has to count.
const sqliteSchema = `
CREATE TABLE messages (
	seq          INTEGER PRIMARY KEY AUTOINCREMENT,
	published_at INTEGER NOT NULL, -- Unix milliseconds
	key          TEXT,
	attributes   BLOB,
	data         BLOB
) STRICT;
CREATE TABLE subscriptions (
	name        TEXT PRIMARY KEY,
	position    INTEGER NOT NULL, -- seq of the last message acknowledged
	owner       TEXT NOT NULL DEFAULT '',
	lease_until INTEGER NOT NULL DEFAULT 0 -- Unix milliseconds
) STRICT, WITHOUT ROWID;
CREATE TABLE totals (
	messages       INTEGER NOT NULL,
	bytes          INTEGER NOT NULL,
	expired_unread INTEGER NOT NULL
) STRICT;
INSERT INTO totals VALUES (0, 0, 0);
`

// sqliteFile is one connection to a topic's file.
type sqliteFile struct {
	*sql.Conn
	db   *sql.DB
	path string
	info os.FileInfo
}

// openSQLiteFile opens a topic's file and leaves any other file as it is.
func openSQLiteFile(ctx context.Context, path, pragmas string) (_ *sqliteFile, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%s is empty, which a topic's file never is; remove it", path)
	}
	db, err := connect(path, pragmas)
	if err != nil {
		return nil, err
	}
	f := &sqliteFile{db: db, path: path, info: info}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	if err := whileBusy(ctx, func() error { f.Conn, err = db.Conn(context.Background()); return err }); err != nil {
		return nil, hint(path, err)
	}
	return f, whileBusy(ctx, f.check)
}

// openSQLiteWriter opens a topic's file to write to it. It settles the log
// first; only if it must, it fails when others who read keep it from that.
func openSQLiteWriter(ctx context.Context, path, pragmas string, must bool) (_ *sqliteFile, err error) {
	f, err := openSQLiteFile(ctx, path, pragmas)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	// A copy made by SQLite's tools may have another mode.
	err = f.begin(ctx, time.Second)
	if err == nil {
		err = f.exec("ROLLBACK; PRAGMA journal_mode = WAL")
	}
	if err != nil && !errors.Is(err, errBusy) {
		return nil, err
	}
	if err := f.settle(ctx, time.Second); err != nil && (must || !errors.Is(err, errBusy)) {
		return nil, err
	}
	// The name of the write-ahead log must outlive a power cut as well.
	return f, syncDir(filepath.Dir(path))
}

// check returns an error unless the file is a topic that this version knows.
func (f *sqliteFile) check() error {
	var id, version int
	if err := f.scan("PRAGMA application_id", nil, &id); err != nil {
		return err
	}
	if err := f.scan("PRAGMA user_version", nil, &version); err != nil {
		return err
	}
	switch {
	case id != sqliteApplicationID:
		return fmt.Errorf("%s is an SQLite file that belongs to another application; name another path", f.path)
	case version > sqliteVersion:
		return fmt.Errorf("%s was written by a newer version (format %d, this one knows %d); run that version", f.path, version, sqliteVersion)
	}
	return nil
}

// settle copies everything in the write-ahead log to the database and empties
// the log. After a failed fsync the kernel may hold, as if written, pages that
// never reached the disk: SQLite would take them for committed and build on
// them. Copied, they are written anew. While others read, it is tried again for
// as long as patience says.
func (f *sqliteFile) settle(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return whileBusy(ctx, func() error {
		var busy, pages, copied int
		if err := f.scan("PRAGMA wal_checkpoint(TRUNCATE)", nil, &busy, &pages, &copied); err != nil {
			return err
		}
		if busy != 0 {
			return errBusy
		}
		return nil
	})
}

// bound settles a log that has become larger than most bytes, because there was
// a reader at every moment when SQLite could have begun it anew.
func (f *sqliteFile) bound(most int64) {
	if f == nil {
		return
	}
	if log, err := os.Stat(f.path + "-wal"); err == nil && log.Size() > most {
		// If readers are in the way, the next commit tries again.
		_ = f.settle(context.Background(), 20*time.Millisecond)
	}
}

// gone returns an error if the path no longer names the file that is open: what
// is written to it then is lost.
func (f *sqliteFile) gone() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("topic's file is gone: %w", err)
	}
	if !os.SameFile(info, f.info) {
		return fmt.Errorf("topic's file %s has been replaced by another", f.path)
	}
	return nil
}

// begin begins a write transaction. It waits for other writers.
func (f *sqliteFile) begin(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return whileBusy(ctx, func() error { return f.exec("BEGIN IMMEDIATE") })
}

// The context of exec and scan is never one that ends: the driver would start a
// goroutine for each call.
func (f *sqliteFile) exec(query string, args ...any) error {
	_, err := f.ExecContext(context.Background(), query, args...)
	return hint(f.path, err)
}

func (f *sqliteFile) scan(query string, args []any, dst ...any) error {
	return hint(f.path, f.QueryRowContext(context.Background(), query, args...).Scan(dst...))
}

// Close ends a transaction under way without committing it.
func (f *sqliteFile) Close() error {
	if f.Conn != nil {
		f.Conn.Close()
	}
	return f.db.Close()
}

func connect(path, pragmas string) (*sql.DB, error) {
	// mode=rw: a file that has gone away is not made anew by SQLite.
	// Waiting for locks is ours, see whileBusy.
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() +
		"?mode=rw&_pragma=busy_timeout(0)&_pragma=synchronous(FULL)&_pragma=journal_size_limit(67108864)" + pragmas
	connector, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db, nil
}

// createSQLiteFile makes an empty topic at path, and the folders above it,
// unless there is a file already. The file appears whole or not at all, also
// when two processes do this at once or the power fails.
func createSQLiteFile(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, suffix := range []string{"-wal", "-journal"} {
		if _, err := os.Stat(path + suffix); err == nil {
			return fmt.Errorf("%s is missing, but %s%s is there and may hold its last messages: put the file back, or remove both", path, path, suffix)
		}
	}
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return fmt.Errorf("make folder for %s, where this user must be able to write: %w", path, err)
	}
	// CreateTemp gives it mode 0600, which the log will have as well.
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("make %s, whose folder must be writable by this user: %w", path, err)
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	db, err := connect(temp.Name(), "")
	if err != nil {
		return err
	}
	_, err = db.Exec(fmt.Sprintf("PRAGMA page_size = %d; PRAGMA application_id = %d; PRAGMA user_version = %d; %s PRAGMA journal_mode = WAL;",
		sqlitePageBytes, sqliteApplicationID, sqliteVersion, sqliteSchema))
	if err := errors.Join(err, db.Close()); err != nil {
		return hint(path, err)
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces a file.
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
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
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
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

var errBusy = errors.New("another process keeps the file locked")

// whileBusy repeats f, at short random intervals, while another connection has
// the lock that f needs, until ctx ends. SQLite's own busy handler sleeps up to
// 100 ms at a time, and so would hardly ever get the lock from a process that
// writes all the time.
func whileBusy(ctx context.Context, f func() error) error {
	for {
		err := f()
		if code := sqliteCode(err); code != sqlite3.SQLITE_BUSY && code != sqlite3.SQLITE_LOCKED && err != errBusy {
			return err
		}
		pause(ctx, rand.N(time.Millisecond))
		if ctx.Err() != nil {
			return fmt.Errorf("%w (%w)", errBusy, ctx.Err())
		}
	}
}

// sqliteCode returns SQLite's primary result code for err, or 0.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

// hint adds to an error which file it is about and, if it is SQLite's, what to
// do.
func hint(path string, err error) error {
	if err == nil {
		return nil
	}
	switch sqliteCode(err) {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%s: the disk is full; free some space and publishing goes on by itself: %w", path, err)
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%s is damaged or is no topic's file; name another path, or move it aside and read what is left with sqlite3's .recover: %w", path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%s and its folder must be readable and writable by this user: %w", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
