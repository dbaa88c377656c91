// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Admin serves what only operators may see: metrics, profiles and probes. It
// has no access control of its own, so it belongs on an address that only they
// can reach. A CPU profile takes as long as it is asked to: the server that
// Admin is part of must have no write timeout.
func Admin(metrics http.Handler, h *Health) http.Handler {
	mux := http.NewServeMux()
	h.Handle(mux)
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /debug/pprof/{$}", func(w http.ResponseWriter, _ *http.Request) {
		names := []string{"profile?seconds=10", "trace?seconds=1"}
		for _, p := range pprof.Profiles() {
			names = append(names, p.Name()+"?debug=1")
		}
		page(w, "Profiles", names)
	})
	mux.HandleFunc("GET /debug/pprof/{profile}", serveProfile)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		page(w, "Telemetry Gateway", []string{"livez", "readyz", "version", "metrics", "debug/pprof/"})
	})
	return mux
}

// serveProfile serves what go tool pprof and go tool trace read. It does not
// use net/http/pprof, because importing that adds handlers to the default mux
// of every program that links this package.
func serveProfile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("profile")
	switch name {
	case "profile":
		record(w, r, 30*time.Second, pprof.StartCPUProfile, pprof.StopCPUProfile)
	case "trace":
		record(w, r, time.Second, trace.Start, trace.Stop)
	default:
		p := pprof.Lookup(name)
		if p == nil {
			answer(w, http.StatusNotFound, "there is no such profile")
			return
		}
		if name == "heap" && r.FormValue("gc") != "" {
			runtime.GC()
		}
		debug, _ := strconv.Atoi(r.FormValue("debug"))
		if debug == 0 {
			download(w, name)
		} else {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		}
		// An error means that the client has gone.
		_ = p.WriteTo(w, debug)
	}
}

// record runs a recording for as long as the request asks.
func record(w http.ResponseWriter, r *http.Request, d time.Duration, start func(io.Writer) error, stop func()) {
	if s := r.FormValue("seconds"); s != "" {
		seconds, err := strconv.ParseFloat(s, 64)
		if err != nil || !(seconds > 0 && seconds <= 300) {
			answer(w, http.StatusBadRequest, "seconds must be a number above 0, at most 300")
			return
		}
		d = time.Duration(seconds * float64(time.Second))
	}
	download(w, r.PathValue("profile"))
	if err := start(w); err != nil {
		w.Header().Del("Content-Disposition")
		answer(w, http.StatusConflict, err.Error())
		return
	}
	defer stop()
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

func download(w http.ResponseWriter, name string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
}

// page lists links. Titles and links are ours, so nothing needs escaping.
func page(w http.ResponseWriter, title string, links []string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	var b strings.Builder
	fmt.Fprintf(&b, "<!doctype html>\n<html lang=\"en\">\n<title>%s</title>\n<h1>%s</h1>\n<ul>\n", title, title)
	for l := range slices.Values(links) {
		text, _, _ := strings.Cut(l, "?")
		fmt.Fprintf(&b, "<li><a href=\"%s\">%s</a></li>\n", l, text)
	}
	b.WriteString("</ul>\n</html>\n")
	_, _ = io.WriteString(w, b.String())
}
