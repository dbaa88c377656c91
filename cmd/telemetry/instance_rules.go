// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/license"
	"github.com/telemetrygateway/telemetry/internal/watch"
	"github.com/telemetrygateway/telemetry/queue"
)

const (
	// watchInterval is how often files are looked at.
	watchInterval = 2 * time.Second
	// adminTokenBytes is the shortest token that is not a joke.
	adminTokenBytes = 16
)

// rules are what an instance goes by that may change while it runs: its licence,
// the private metadata that may leave, and the administrators' token.
type rules struct {
	c      *instanceConfig
	log    *slog.Logger
	failed func(file string)  // counts failures to read a file again
	set    func(queue.Policy) // brings a policy into force

	sends   atomic.Bool // whether anything may leave, traces included
	files   []*watch.File
	license atomic.Pointer[string]
	token   atomic.Pointer[[sha256.Size]byte] // hashed; nil for no administrators
	allow   *queue.AllowList                  // of -allow-private
	also    *queue.AllowList                  // of -allow-private-events
	why     string                            // logged last
}

// readRules reads all that the flags name. An error is one that only a person
// can mend.
func readRules(c *instanceConfig, log *slog.Logger) (*rules, error) {
	r := &rules{c: c, log: log, failed: func(string) {}, set: func(queue.Policy) {}}
	key := strings.TrimSpace(string(*c.license))
	path, inFile := strings.CutPrefix(key, "@")
	if inFile {
		key = ""
	} else {
		path = ""
	}
	r.license.Store(&key)
	var err error
	if r.also, err = queue.ParseAllowed(c.allowPrivateEvents); err != nil {
		return nil, command.BadConfig("-allow-private-events: %w", err)
	}
	for _, f := range []struct {
		flag, metric, path string
		take               func([]byte) error
	}{
		{"license", "license", path, r.takeLicense},
		{"allow-private", "allow_private", c.allowPrivate, r.takeAllowList},
		{"admin-token-file", "admin_token", c.adminTokenFile, r.takeToken},
	} {
		if f.path == "" {
			continue
		}
		w := &watch.File{Path: f.path, Take: f.take, Looked: func(err error) {
			if err != nil {
				r.failed(f.metric)
			}
		}}
		if _, err := w.Read(); err != nil {
			return nil, command.BadConfig("-%s: %w", f.flag, err)
		}
		r.files = append(r.files, w)
	}
	if inFile && path == "" {
		return nil, command.BadConfig("-license: there is no file name after the @")
	}
	if path := c.adminTokenFile; path != "" {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 != 0 {
			log.Warn("everybody on this machine can read the administrators' token: chmod 600 it", "file", path)
		}
	}
	return r, nil
}

// takeLicense takes any text for a key at first, because a key that cannot be
// read must not keep the instance from recording; but never in place of a key
// that can be.
func (r *rules) takeLicense(content []byte) error {
	key := strings.TrimSpace(string(content))
	if key == "" {
		return errors.New("it is empty")
	}
	if _, err := license.Claims(key); err != nil && *r.license.Load() != "" {
		return err
	}
	r.license.Store(&key)
	return nil
}

func (r *rules) takeAllowList(content []byte) error {
	allow, err := queue.ParseAllowList(content)
	if err == nil {
		r.allow = allow
	}
	return err
}

func (r *rules) takeToken(content []byte) error {
	token := strings.TrimSpace(string(content))
	if len(token) < adminTokenBytes || len(strings.Fields(token)) != 1 {
		return errors.New("the token must be one word of at least 16 characters, such as openssl rand -hex 32 makes")
	}
	hash := sha256.Sum256([]byte(token))
	r.token.Store(&hash)
	return nil
}

// policy returns what is in force, and why, for people. The strictest of what
// administrator and licence say wins.
func (r *rules) policy() (queue.Policy, string) {
	vendor := r.c.operatedBy == "vendor"
	licensed, why := queue.LicenseMode(*r.license.Load(), queue.LicenseOptions{
		ExportAll: r.c.exportAll, UsageDataEnabled: r.c.usageData, Vendor: vendor,
	})
	mode := queue.Strictest(r.c.adminMode, licensed)
	switch {
	case r.c.doNotTrack:
		why = "DO_NOT_TRACK is set"
	case licensed == mode && mode != queue.All && mode == r.c.adminMode:
		why = "-mode says so, and " + why
	case licensed != mode:
		why = "-mode says so"
	}
	return queue.Policy{Mode: mode, Features: list(r.c.features), Allow: r.allow.With(r.also), Vendor: vendor}, why
}

// enforce brings the policy into force, and logs it if it is another one.
func (r *rules) enforce() {
	p, why := r.policy()
	r.sends.Store(p.Mode == queue.All || p.Mode == queue.Limited)
	r.set(p)
	if why = p.Mode.String() + ": " + why; why != r.why {
		r.why = why
		r.log.Info("export mode", "mode", p.Mode.String(), "because", strings.TrimPrefix(why, p.Mode.String()+": "))
	}
}

// watch reads files again when they change, until ctx ends.
func (r *rules) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed := false
		for _, f := range r.files {
			// An error has been logged.
			if again, _ := f.Reload(r.log); again {
				changed = true
			}
		}
		if changed {
			r.enforce()
		}
	}
}

// admin says whether a request carries the administrators' token.
func (r *rules) admin(req *http.Request) bool {
	want := r.token.Load()
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if want == nil || !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "token") {
		return false
	}
	// Hashes have one length, so that the time to compare tells nothing about
	// the token's.
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
