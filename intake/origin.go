// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// What web pages of other origins may send, and for how long browsers remember
// that: most of them for two hours at most.
const (
	corsHeaders = "authorization, connect-protocol-version, connect-timeout-ms, content-encoding, content-type, " +
		"grpc-timeout, idempotency-key, traceparent, tracestate, x-grpc-web, x-requested-with, " +
		"x-sourcegraph-actor-anonymous-uid, x-sourcegraph-client, x-sourcegraph-interaction-id, x-sourcegraph-should-trace, " +
		"x-user-agent"
	corsMaxAge = "7200"
)

// CheckOrigin returns an error unless origin is one that browsers send as they
// are in Options.AllowedOrigins: scheme://host or scheme://host:port in lower
// case, without the scheme's own port, and without a wildcard.
func CheckOrigin(origin string) error {
	u, err := url.Parse(origin)
	switch {
	case strings.Contains(origin, "*"):
		return fmt.Errorf("origin %q has a wildcard: list each origin", origin)
	case err != nil || u.Scheme == "" || u.Host == "":
		return fmt.Errorf("origin %q is not like https://example.com", origin)
	}
	host := u.Host
	if u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" || strings.HasSuffix(host, ":") {
		host = strings.TrimSuffix(strings.TrimSuffix(host, u.Port()), ":")
	}
	if want := strings.ToLower(u.Scheme + "://" + host); origin != want {
		return fmt.Errorf("origin %q is not as browsers send it: use %q", origin, want)
	}
	for i := range len(origin) {
		if c := origin[i]; c <= ' ' || c > '~' {
			return fmt.Errorf("origin %q is not as browsers send it: use the name's form in ASCII, xn--…", origin)
		}
	}
	return nil
}

// origins are those whose pages may send events to here.
type origins map[string]bool

// foreign is what pages of all others are told.
var foreign = &refusal{http.StatusForbidden, "events are not taken from pages of this origin"}

// takes reports whether r may come from where it comes from. A browser sets
// Origin or Sec-Fetch-Site on whatever a page makes it send, with whatever
// content type; programs set neither, and have nobody's cookies.
func (o origins) takes(r *http.Request) bool {
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	switch {
	case len(r.Header["Origin"]) > 1 || origin == "null":
		return false
	case o[origin]:
		return true
	case origin == "":
		return site == "" || site == "same-origin" || site == "none"
	case site != "":
		return site == "same-origin"
	}
	// A browser from before 2023. It says where the page is from, but not
	// whether it has the scheme that this server is reached by.
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && u.Host == r.Host
}

// allow tells the browser that the page may read the response.
func (o origins) allow(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); o[origin] {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}
}

// preflight answers a browser that asks what a page of a listed origin may send.
func preflight(w http.ResponseWriter) {
	w.Header().Set("Access-Control-Allow-Methods", http.MethodPost)
	w.Header().Set("Access-Control-Allow-Headers", corsHeaders)
	w.Header().Set("Access-Control-Max-Age", corsMaxAge)
	w.WriteHeader(http.StatusNoContent)
}
