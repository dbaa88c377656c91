// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/database"
)

func TestAnSQLiteDatabaseIsDurableAndPrivate(t *testing.T) {
	t.Chdir(t.TempDir())
	for url, path := range map[string]string{
		"sqlite://new/folder/a.db":             "new/folder/a.db",
		"sqlite://b%20%3F%25.db":               "b ?%.db",
		"sqlite://" + t.TempDir() + "/c.db":    "",
		"sqlite://../" + wd(t) + "/plus+d#.db": "plus+d#.db",
	} {
		db, err := openDatabase(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		// Detect refuses what is not durable.
		if d, err := database.Detect(t.Context(), db); err != nil || d != database.SQLite {
			t.Errorf("%s: %v, %v", url, d, err)
		}
		if _, err := db.ExecContext(t.Context(), "CREATE TABLE t (x)"); err != nil {
			t.Error(err)
		}
		if path != "" {
			for _, name := range []string{path, path + "-wal"} {
				if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %s: %v, %v; want a file that only its user can read", url, name, info, err)
				}
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// wd is the name of the current folder.
func wd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(dir)
}

func TestAFileThatIsTakenAwayIsNotMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := openDatabase("sqlite://" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := db.PingContext(t.Context()); err == nil {
		t.Error("there is a database without a file")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file was made anew")
	}
}

// SQLite would throw the log of a missing file away, and the events in it.
func TestALogWithoutItsFileIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	write(t, path+"-wal", "events")
	if _, err := openDatabase("sqlite://" + path); err == nil || !strings.Contains(err.Error(), "put the file back, or remove both") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path + "-wal"); err != nil || string(b) != "events" {
		t.Errorf("the log has %q, %v", b, err)
	}
}

func TestDatabaseURLs(t *testing.T) {
	for url, want := range map[string]string{
		"sqlite://a.db":                                   "",
		"sqlite:///var/lib/a.db":                          "",
		"postgres://app@db/app":                           "",
		"postgresql://app:pw@db:5432/app?sslmode=require": "",
		"postgres:///app?host=/var/run/postgresql":        "",
		"postgres://db/app?user=app@db":                   "",

		"a.db":                      "begins with sqlite:// or postgres://",
		"":                          "begins with sqlite:// or postgres://",
		"mysql://db/app":            `unknown kind of database "mysql"`,
		"sqlite://":                 "needs the path of a file",
		"sqlite://data/":            "needs the path of a file",
		"sqlite://a%zz.db":          "invalid URL escape",
		"sqlite://a.db?mode=memory": "takes no parameters",
		"postgres://app:" + canary + "@db:port/app":          "cannot be understood",
		"postgres://app:" + canary + "@db/app?sslmode=maybe": "cannot be understood",
		"postgres://db/app?port=a&password=" + canary:        "cannot be understood",
		"postgres://app:pass@" + canary + "@db/app":          "cannot be understood",
		"postgres://app:1#" + canary + "@db/app":             "cannot be understood",
	} {
		err := checkDatabase(url)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error shows the password", url)
		}
	}
}

func TestAnErrorOfPostgreSQLShowsNoPassword(t *testing.T) {
	db, err := openDatabase("postgres://app:" + canary + "@127.0.0.1:1/app?connect_timeout=5")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.PingContext(t.Context()); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("got %v, want an error without the password", err)
	}
}
