// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// readyFor is how long an answer about readiness holds, so that a flood of
	// probes is not passed on to the topic.
	readyFor = time.Second
	// readyTimeout is how long readiness may take to find out.
	readyTimeout = 2 * time.Second
)

// HealthOptions say what Health knows.
type HealthOptions struct {
	// Ready returns an error that says why the process cannot take work now. It
	// is called at most once at a time, and once a second.
	Ready func(context.Context) error
	// Note, if set, returns a line about what is not well although the process
	// can take work, or nothing. /readyz shows it.
	Note func() string
	// Version is served as text; Build, which marshals to a JSON object, with
	// more detail.
	Version string
	Build   any
	// DiagnosticsSecret, if not empty, is the bearer token that /-/healthz asks
	// for.
	DiagnosticsSecret string
}

// Health answers probes.
type Health struct {
	o        HealthOptions
	stopping atomic.Bool
	flight   singleflight.Group

	mu    sync.Mutex
	asked time.Time // zero before the first answer
	err   error
}

// NewHealth returns a Health that is ready when o.Ready says so.
func NewHealth(o HealthOptions) *Health { return &Health{o: o} }

// Stop makes the process not ready from now on, for load balancers to send new
// work elsewhere while calls under way finish.
func (h *Health) Stop() { h.stopping.Store(true) }

var errStopping = errors.New("stopping")

// Check returns nil if the process can take work, or an error that says why it
// cannot. The answer may be a second old. Check waits for it no longer than 2 s.
func (h *Health) Check(ctx context.Context) error {
	if h.stopping.Load() {
		return errStopping
	}
	if err, fresh := h.last(); fresh {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	answer := h.flight.DoChan("", func() (any, error) {
		// Another flight may have landed since we looked.
		if err, fresh := h.last(); fresh {
			return nil, err
		}
		// The answer is for everybody who asks, not only for who asks first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
		defer cancel()
		err := h.o.Ready(ctx)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.asked, h.err = time.Now(), err
		return nil, err
	})
	select {
	case a := <-answer:
		return a.Err
	case <-ctx.Done():
		return fmt.Errorf("no answer about readiness: %w", ctx.Err())
	}
}

func (h *Health) last() (err error, fresh bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err, !h.asked.IsZero() && time.Since(h.asked) < readyFor
}

// Handle adds to mux:
//
//	/livez       200 as long as the process can answer at all
//	/readyz      200 "ok" and perhaps a note, or 503 with one line that says
//	             what is wrong
//	/version     a JSON object
//	/-/version   the version as text
//	/-/healthz   200 "healthz: ok" or 500 "healthz: …", behind the secret
func (h *Health) Handle(mux *http.ServeMux) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := h.Check(r.Context()); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		text := "ok"
		if h.o.Note != nil {
			if note := h.o.Note(); note != "" {
				text += ", but " + note
			}
		}
		answer(w, http.StatusOK, text)
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		b, err := json.Marshal(h.o.Build)
		if err != nil {
			answer(w, http.StatusInternalServerError, err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "%s\n", b)
	})
	mux.HandleFunc("GET /-/version", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, h.o.Version)
	})
	mux.HandleFunc("GET /-/healthz", func(w http.ResponseWriter, r *http.Request) {
		if code, text := h.authorize(r); code != http.StatusOK {
			if code == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			answer(w, code, text)
			return
		}
		if err := h.Check(r.Context()); err != nil {
			answer(w, http.StatusInternalServerError, "healthz: "+err.Error())
			return
		}
		answer(w, http.StatusOK, "healthz: ok")
	})
}

// authorize says whether r carries the diagnostics secret, if there is one.
func (h *Health) authorize(r *http.Request) (code int, text string) {
	if h.o.DiagnosticsSecret == "" {
		return http.StatusOK, ""
	}
	header := r.Header.Get("Authorization")
	if header == "" {
		return http.StatusUnauthorized, "the diagnostics secret is needed: Authorization: Bearer SECRET"
	}
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return http.StatusBadRequest, "the header must be of the form Authorization: Bearer SECRET"
	}
	// Hashes have one length, so that the time to compare tells nothing about
	// the secret's.
	got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(h.o.DiagnosticsSecret))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return http.StatusUnauthorized, "this is not the diagnostics secret"
	}
	return http.StatusOK, ""
}

// answer writes text as one line.
func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	fmt.Fprintln(w, strings.Join(strings.Fields(text), " "))
}
