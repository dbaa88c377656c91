// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

const (
	anonymousHeader = "X-Sourcegraph-Actor-Anonymous-UID"
	anonymousCookie = "sourcegraphAnonymousUid"
	anonymousDays   = 365
	// anonymousBytes is the longest anonymous ID that is believed.
	anonymousBytes = 128
)

// visitors puts into the context of each request who makes it. Everything that
// a client says about itself is only a claim; user and country count when a
// trusted proxy says so.
type visitors struct {
	userHeader, countryHeader string // empty for none
	proxies                   []netip.Prefix
	secure                    bool // the product is reached over https
	tracer                    trace.Tracer
}

func (v visitors) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// HTTP/2 has no bound of its own for a body that never comes to its end.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(limits.StallTimeout))
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := v.tracer.Start(ctx, r.URL.Path, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		actor := telemetry.Actor{AnonymousUserID: v.anonymous(w, r)}
		if v.trusts(r) {
			actor.UserID = userID(r.Header.Values(v.userHeader))
			if country := countryCode(r.Header.Values(v.countryHeader)); country != "" {
				ctx = telemetry.WithInteraction(ctx, telemetry.Interaction{CountryCode: country})
			}
		}
		next.ServeHTTP(w, r.WithContext(telemetry.WithActor(ctx, actor)))
	})
}

// traceID is what the recorder asks for the trace that an event belongs to: the
// one that the request brought in its header traceparent, or began.
func traceID(ctx context.Context) string {
	if s := trace.SpanContextFromContext(ctx); s.HasTraceID() {
		return s.TraceID().String()
	}
	return ""
}

// anonymous returns the ID that the client goes by. A page of the same site
// that has none is given one, in a cookie that its scripts can read.
func (v visitors) anonymous(w http.ResponseWriter, r *http.Request) string {
	if id := r.Header.Get(anonymousHeader); validAnonymous(id) {
		return id
	}
	if c, err := r.Cookie(anonymousCookie); err == nil && validAnonymous(c.Value) {
		return c.Value
	}
	if r.Method != http.MethodPost || !sameSite(r) {
		return ""
	}
	id := uuid.NewString()
	http.SetCookie(w, &http.Cookie{
		Name: anonymousCookie, Value: id, Path: "/",
		MaxAge: int(anonymousDays * 24 * time.Hour / time.Second), SameSite: http.SameSiteLaxMode,
		Secure: v.secure || r.TLS != nil,
	})
	return id
}

// validAnonymous says whether id is one that a cookie can carry.
func validAnonymous(id string) bool {
	return id != "" && len(id) <= anonymousBytes && !strings.ContainsFunc(id, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`",;\`, r)
	})
}

// sameSite says whether a browser sent r for a page of the same site. Whatever
// is no browser has no use for a cookie.
func sameSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "same-site":
		return true
	case "":
		origin, err := url.Parse(r.Header.Get("Origin"))
		return err == nil && origin.Host != "" && origin.Host == r.Host
	}
	return false
}

func (v visitors) trusts(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("")
	for _, p := range v.proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// userID returns the number in a header, or 0. A header that is there twice was
// not set by a proxy that replaces it, so it is not believed.
func userID(values []string) int64 {
	if len(values) != 1 {
		return 0
	}
	id, err := strconv.ParseInt(strings.TrimSpace(values[0]), 10, 64)
	if err != nil || id < 0 {
		return 0
	}
	return id
}

// countryCode returns the two letters of ISO 3166 in a header, or nothing; XX
// is what proxies write when they do not know.
func countryCode(values []string) string {
	if len(values) != 1 {
		return ""
	}
	code := strings.ToUpper(strings.TrimSpace(values[0]))
	if len(code) != 2 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || code == "XX" || code == "ZZ" {
		return ""
	}
	return code
}
