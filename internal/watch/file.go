// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package watch reads files again when they change. While a file cannot be read
// or understood, what it said last stays in force: one that is gone or damaged
// must not lock everyone out, bring a revoked licence back, or let more leave
// an instance.
package watch

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
)

// File is a file that may change. Its methods are for one goroutine at a time.
type File struct {
	Path string
	// Take brings the file's content into force, or returns an error that leaves
	// everything as it was.
	Take func(content []byte) error
	// Looked is told how each look at the file ended.
	Looked func(err error)

	content []byte // in force
	failing string // the error already logged
}

// Read looks at the file, and says whether something else is in force now.
func (f *File) Read() (changed bool, err error) {
	defer func() { f.Looked(err) }()
	content, err := os.ReadFile(f.Path)
	if err != nil {
		return false, err
	}
	if f.content != nil && bytes.Equal(content, f.content) {
		return false, nil
	}
	if err := f.Take(content); err != nil {
		return false, fmt.Errorf("%s: %w", f.Path, err)
	}
	f.content = content
	return true, nil
}

// Reload is Read for a file that was read before. It logs what came of it, each
// error once.
func (f *File) Reload(log *slog.Logger) (changed bool, err error) {
	changed, err = f.Read()
	switch {
	case err != nil && err.Error() != f.failing:
		f.failing = err.Error()
		log.Error("file cannot be read again; what it said before stays in force", "file", f.Path, "error", err)
	case err == nil && (changed || f.failing != ""):
		f.failing = ""
		log.Info("file read again", "file", f.Path)
	}
	return changed, err
}
