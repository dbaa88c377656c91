// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"embed"
	"errors"
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

// page serves the files, once the page's script has been built.
func page() (http.Handler, error) {
	files, err := fs.Sub(embedded, "page/public")
	if err != nil {
		return nil, err
	}
	if _, err := fs.Stat(files, "app.js"); err != nil {
		return nil, errors.New("the page's script was not there when this was built: run make example, or see examples/service/README.md")
	}
	serve := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		serve.ServeHTTP(w, r)
	}), nil
}
