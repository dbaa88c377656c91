// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
)

// watchedFile is read again when it changes. While it cannot be read or
// understood, what it said last stays in force: an administrator's slip must
// neither stop the instance nor let more leave it. Its methods are for one
// goroutine at a time.
type watchedFile struct {
	name, path string
	// take brings the file's content into force, or returns an error that
	// leaves everything as it was.
	take   func(content []byte) error
	failed func() // is told about every failure to read the file again

	content []byte // in force
	failing string // the error already logged
}

// read looks at the file, and says whether something else is in force now.
func (w *watchedFile) read() (changed bool, err error) {
	content, err := os.ReadFile(w.path)
	if err != nil {
		return false, err
	}
	if w.content != nil && bytes.Equal(content, w.content) {
		return false, nil
	}
	if err := w.take(content); err != nil {
		return false, fmt.Errorf("%s: %w", w.path, err)
	}
	w.content = content
	return true, nil
}

// reload reads the file again, and logs each error once.
func (w *watchedFile) reload(log *slog.Logger) (changed bool) {
	changed, err := w.read()
	switch {
	case err != nil:
		w.failed()
		if err.Error() != w.failing {
			log.Error("file cannot be read again; what it said before stays in force", "flag", "-"+w.name, "error", err)
		}
		w.failing = err.Error()
	case changed || w.failing != "":
		w.failing = ""
		log.Info("file read again", "flag", "-"+w.name, "file", w.path)
	}
	return changed
}
