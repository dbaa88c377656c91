// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A reloading gateway has real files and a fake clock.
type reloading struct {
	*Identities
	dir string

	mu   sync.Mutex
	log  bytes.Buffer
	told []string // what Loaded was called with since the last look
}

// Write writes to the log.
func (r *reloading) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(line)
}

func startReloading(t *testing.T, keys, revoked string) *reloading {
	t.Helper()
	r := &reloading{dir: t.TempDir()}
	r.write(t, "keys", keys)
	r.write(t, "revoked", revoked)
	r.Identities = newIdentities(t, Options{Licenses: LicenseOptions{
		KeysFile: filepath.Join(r.dir, "keys"), RevokedFile: filepath.Join(r.dir, "revoked"),
		Log: slog.New(slog.NewTextHandler(r, nil)),
		Loaded: func(file string, entries int, err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if err != nil {
				r.told = append(r.told, file+" failed")
			} else {
				r.told = append(r.told, fmt.Sprintf("%s %d", file, entries))
			}
		},
	}})
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	go r.Run(ctx)
	return r
}

func (r *reloading) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *reloading) remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(r.dir, name)); err != nil {
		t.Fatal(err)
	}
}

// look lets the files be looked at once, and returns what was logged.
func (r *reloading) look(t *testing.T, told ...string) string {
	t.Helper()
	r.mu.Lock()
	r.told = nil
	r.log.Reset()
	r.mu.Unlock()
	time.Sleep(reloadInterval)
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.told, told) {
		t.Errorf("Loaded was told %q, want %q", r.told, told)
	}
	return r.log.String()
}

// sends says why the holder of a key is refused; "" if not.
func (r *reloading) sends(t *testing.T, key string) Reason {
	t.Helper()
	_, err := r.Identify(t.Context(), licensedID(key, "site", ""), somewhere)
	return reasonOf(t, err)
}

func reasonOf(t *testing.T, err error) Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	r, ok := err.(*Refusal)
	if !ok {
		t.Fatalf("error is %v, want a refusal", err)
	}
	return r.Reason
}

func TestRevocationIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vendor := newIssuer(t, "vendor")
		bad, good := vendor.issue(t, time.Hour), vendor.issue(t, time.Hour)
		r := startReloading(t, vendor.public, "")
		session := mustIdentify(t, r.Identities, licensedID(bad, "site", ""), somewhere)
		check := func(when string, want Reason) {
			t.Helper()
			if got := r.sends(t, bad); got != want {
				t.Errorf("%s: a new session is refused for %q, want %q", when, got, want)
			}
			if got := reasonOf(t, session.Recheck(t.Context())); got != want {
				t.Errorf("%s: the session is refused for %q, want %q", when, got, want)
			}
			if got := r.sends(t, good); got != "" {
				t.Errorf("%s: the other licence is refused for %q", when, got)
			}
		}

		check("at first", "")
		if log := r.look(t, "keys 1", "revoked 0"); log != "" {
			t.Errorf("nothing changed, yet the log says %s", log)
		}
		list := vendor.idOf(t, bad) + "\n"
		r.write(t, "revoked", list)
		check("before anyone looked", "")
		if log := r.look(t, "keys 1", "revoked 1"); !strings.Contains(log, "read again") {
			t.Errorf("a change is not logged: %s", log)
		}
		check("revoked", Revoked)

		r.write(t, "revoked", "no such form\n")
		if log := r.look(t, "keys 1", "revoked failed"); strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "line 1") {
			t.Errorf("want one error that names the line, got %s", log)
		}
		check("broken", Revoked)
		if log := r.look(t, "keys 1", "revoked failed"); log != "" {
			t.Errorf("the same error is logged again: %s", log)
		}
		check("still broken", Revoked)

		r.remove(t, "revoked")
		if log := r.look(t, "keys 1", "revoked failed"); strings.Count(log, "level=ERROR") != 1 {
			t.Errorf("want one error for a file that is gone, got %s", log)
		}
		check("gone", Revoked)

		r.write(t, "revoked", list)
		if log := r.look(t, "keys 1", "revoked 1"); strings.Count(log, "read again") != 1 {
			t.Errorf("that the file is back is not logged: %s", log)
		}
		check("back", Revoked)

		r.write(t, "revoked", "# nobody\n")
		r.look(t, "keys 1", "revoked 0")
		check("pardoned", "")
	})
}

func TestPublicKeysAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vendor, second := newIssuer(t, "vendor"), newIssuer(t, "second")
		one, two := vendor.issue(t, time.Hour), second.issue(t, time.Hour)
		r := startReloading(t, vendor.public, "")
		session := mustIdentify(t, r.Identities, licensedID(one, "site", ""), somewhere)
		check := func(when string, wantOne, wantTwo Reason) {
			t.Helper()
			if got := r.sends(t, one); got != wantOne {
				t.Errorf("%s: the first is refused for %q, want %q", when, got, wantOne)
			}
			if got := reasonOf(t, session.Recheck(t.Context())); got != wantOne {
				t.Errorf("%s: the first's session is refused for %q, want %q", when, got, wantOne)
			}
			if got := r.sends(t, two); got != wantTwo {
				t.Errorf("%s: the second is refused for %q, want %q", when, got, wantTwo)
			}
		}

		check("at first", "", BadSignature)
		r.write(t, "keys", vendor.public+second.public)
		r.look(t, "keys 2", "revoked 0")
		check("added", "", "")

		for _, broken := range []string{"", vendor.public[:40], vendor.public + "garbage\n"} {
			r.write(t, "keys", broken)
			if log := r.look(t, "keys failed", "revoked 0"); strings.Count(log, "level=ERROR") != 1 {
				t.Errorf("%q: want one error, got %s", broken, log)
			}
			check("broken", "", "")
		}
		r.remove(t, "keys")
		r.look(t, "keys failed", "revoked 0")
		check("gone", "", "")

		r.write(t, "revoked", vendor.idOf(t, one))
		r.look(t, "keys failed", "revoked 1")
		check("a revocation does not wait for the keys to be mended", Revoked, "")
		r.write(t, "revoked", "")

		r.write(t, "keys", second.public)
		r.look(t, "keys 1", "revoked 0")
		check("replaced", BadSignature, "")
	})
}

func TestReloadAtOnce(t *testing.T) {
	vendor := newIssuer(t, "vendor")
	key := vendor.issue(t, time.Hour)
	revoked := writeFile(t, "revoked", "")
	ids := newIdentities(t, Options{Licenses: LicenseOptions{KeysFile: writeFile(t, "keys", vendor.public), RevokedFile: revoked}})
	s := mustIdentify(t, ids, licensedID(key, "site", ""), somewhere)
	if err := os.WriteFile(revoked, []byte(vendor.idOf(t, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ids.Reload(); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, s.Recheck(t.Context()), Revoked)
	if err := os.Remove(revoked); err != nil {
		t.Fatal(err)
	}
	if err := ids.Reload(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error is %v, want one about the file that is gone", err)
	}
	wantRefusal(t, s.Recheck(t.Context()), Revoked)
	if err := newIdentities(t, Options{}).Reload(); err != nil {
		t.Errorf("without files: %v", err)
	}
}
