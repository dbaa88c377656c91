// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
)

// watched is a list in a file that is read again when it changes. While it
// cannot be read or understood, what it said last stays in force: a file that
// is gone or damaged must not lock everyone out, nor bring a revoked licence
// back. Its methods are for one goroutine at a time.
type watched struct {
	name, path string
	// take brings the file's content into force and returns how many entries
	// it has, or an error that leaves everything as it was.
	take func(content []byte) (entries int, err error)
	// loaded is told about every look at the file.
	loaded func(name string, entries int, err error)

	content []byte // in force
	entries int
	failing string // the error already logged
}

// read looks at the file.
func (w *watched) read() (changed bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read %s: %w", w.name, err)
			w.loaded(w.name, 0, err)
			return
		}
		w.loaded(w.name, w.entries, nil)
	}()
	content, err := os.ReadFile(w.path)
	if err != nil {
		return false, err
	}
	if w.content != nil && bytes.Equal(content, w.content) {
		return false, nil
	}
	entries, err := w.take(content)
	if err != nil {
		return false, fmt.Errorf("%s: %w", w.path, err)
	}
	w.content, w.entries = content, entries
	return true, nil
}

// reload reads the file and logs what came of it, each error once.
func (w *watched) reload(log *slog.Logger) error {
	changed, err := w.read()
	switch {
	case err != nil && err.Error() != w.failing:
		w.failing = err.Error()
		log.Error("licence file cannot be read again; what it said before stays in force", "file", w.path, "error", err)
	case err == nil && (changed || w.failing != ""):
		w.failing = ""
		log.Info("licence file read again", "file", w.path, "entries", w.entries)
	}
	return err
}
