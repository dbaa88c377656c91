// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
)

// The folder always has a file, so the backend builds without Node. app.js is
// made from page/app.ts and is not committed.
//
//go:embed page/public
var embedded embed.FS

// pagePolicy lets the page load its own files and talk to its own backend, and
// nothing else: no inline script or style, no other host.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func page() (http.Handler, error) {
	files, err := fs.Sub(embedded, "page/public")
	if err != nil {
		return nil, err
	}
	return site(files)
}

// site serves the files, once the page's script has been built. Browsers ask each
// time whether they have changed, and get them again only then.
func site(files fs.FS) (http.Handler, error) {
	if _, err := fs.Stat(files, "app.js"); err != nil {
		return nil, errors.New("the page's script was not there when this was built: run make example, or see examples/service/README.md")
	}
	version, err := versionOf(files)
	if err != nil {
		return nil, err
	}
	serve := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", version)
		serve.ServeHTTP(w, r)
	}), nil
}

// versionOf returns what tells these files from others: embedded ones have no
// times.
func versionOf(files fs.FS) (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		sum.Write(content)
		return err
	})
	return fmt.Sprintf(`"%x"`, sum.Sum(nil)[:16]), err
}
