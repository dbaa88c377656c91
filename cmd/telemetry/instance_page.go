// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"embed"
	"net/http"
)

//go:embed instance_page
var instancePage embed.FS

const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// handleDemoPage serves a page that records an event as shipped web apps do. It
// changes nothing but through the instance's own door.
func handleDemoPage(mux *http.ServeMux) {
	for pattern, file := range map[string]string{
		"GET /{$}":      "index.html",
		"GET /page.js":  "page.js",
		"GET /page.css": "page.css",
		"GET /icon.svg": "icon.svg",
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Security-Policy", pagePolicy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Cache-Control", "no-cache")
			http.ServeFileFS(w, r, instancePage, "instance_page/"+file)
		})
	}
}
