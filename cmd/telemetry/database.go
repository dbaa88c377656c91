// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"
)

// Connections to a database, at most. SQLite has one writer at a time, so that
// all others read; PostgreSQL has a limit for all its clients together.
const (
	sqliteConnections   = 4
	postgresConnections = 10
)

// openDatabase opens the database that a URL names:
//
//	sqlite://PATH            a file, which is made if there is none
//	postgres://USER@HOST/DB  PostgreSQL; parameters as libpq has them
//
// The path of sqlite: is relative, as in sqlite://data/instance.db, unless a
// third slash begins it; a % or ? in it is written %25 or %3F. No connection to
// PostgreSQL is made yet. An error holds no password.
func openDatabase(rawURL string) (*sql.DB, error) {
	if err := checkDatabase(rawURL); err != nil {
		return nil, err
	}
	if path, ok := sqlitePath(rawURL); ok {
		return openSQLite(path)
	}
	config, err := pgx.ParseConfig(rawURL)
	if err != nil {
		return nil, errPostgresURL
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(postgresConnections)
	db.SetMaxIdleConns(postgresConnections / 2)
	// Connections are given up in time for a balancer in between to move them.
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(30 * time.Minute)
	return db, nil
}

var errPostgresURL = errors.New("the URL of a PostgreSQL database cannot be understood: write it as postgres://USER:PASSWORD@HOST:5432/DATABASE, with characters such as / and @ in a password escaped, as in %2F and %40; sslmode is disable, prefer, require, verify-ca or verify-full")

// checkDatabase finds what is wrong with a database's URL alone, and touches
// nothing.
func checkDatabase(rawURL string) error {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		return fmt.Errorf("a database's URL begins with sqlite:// or postgres://")
	}
	switch scheme {
	case "sqlite":
		escaped, params, _ := strings.Cut(rest, "?")
		path, err := url.PathUnescape(escaped)
		switch {
		case err != nil:
			return err
		case path == "" || strings.HasSuffix(path, "/"):
			return errors.New("sqlite:// needs the path of a file")
		case params != "":
			return errors.New("sqlite:// takes no parameters; write a ? in a path as %3F")
		}
		return nil
	case "postgres", "postgresql":
		// The library's error may quote the URL, and with it the password. It takes
		// what follows an @ in a password for the host, to look up and to log.
		authority, _, _ := strings.Cut(rest, "/")
		_, err := pgx.ParseConfig(rawURL)
		if err != nil || strings.Count(authority, "@") > 1 || strings.Contains(rest, "#") {
			return errPostgresURL
		}
		return nil
	}
	return fmt.Errorf("unknown kind of database %q; known are sqlite and postgres", scheme)
}

// sqlitePath returns the path in an sqlite: URL that checkDatabase has passed.
func sqlitePath(rawURL string) (string, bool) {
	escaped, ok := strings.CutPrefix(rawURL, "sqlite://")
	if !ok {
		return "", false
	}
	path, err := url.PathUnescape(escaped)
	return path, err == nil
}

// openSQLite opens a file so that what is committed survives a power cut.
func openSQLite(path string) (*sql.DB, error) {
	if err := createFile(path); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	// mode=rw: a file that has gone away is not made anew. The stores wait for
	// locks themselves, and fairly, so SQLite need not.
	connector, err := sqlite.NewConnector("file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=rw&_txlock=immediate" +
		"&_pragma=busy_timeout(50)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=journal_size_limit(67108864)")
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(sqliteConnections)
	db.SetMaxIdleConns(sqliteConnections)
	return db, nil
}

// createFile makes an empty file, which only this user may read, and the folders
// above it, unless they are there. An empty file is a database without tables.
// Its name outlives a power cut.
func createFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, suffix := range []string{"-wal", "-journal"} {
		if _, err := os.Stat(path + suffix); err == nil {
			return fmt.Errorf("the file is missing, but %s%s is there and may hold its last events: put the file back, or remove both", path, suffix)
		}
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// The folder's own name as well, in case it is new.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := syncFolder(d); err != nil {
			return err
		}
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
