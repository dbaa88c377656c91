// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/license"
	"github.com/telemetrygateway/telemetry/queue"
)

const testToken = "0123456789abcdef0123"

// licenseWith returns a licence key with tags.
func licenseWith(t *testing.T, tags ...string) string {
	t.Helper()
	private, err := license.GenerateKey("test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := license.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := license.Issue(signer, license.Info{Tags: tags, Users: 1, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The strictest of what administrator and licence say wins.
func TestTheStrictestModeWins(t *testing.T) {
	airGapped, limited, free := licenseWith(t, "allow-air-gapped"), licenseWith(t, "disable-telemetry-events-export"), licenseWith(t, "plan:pro")
	for _, c := range []struct {
		doNotTrack, key string
		args            []string
		want            queue.Mode
		why             string
	}{
		{want: queue.All, why: "there is no licence key"},
		{key: free, want: queue.All, why: "the licence restricts nothing"},
		{args: []string{"-mode", "local"}, want: queue.Local, why: "-mode says so"},
		{key: limited, want: queue.Limited, why: `the licence has the tag "disable-telemetry-events-export"`},
		{key: limited, args: []string{"-mode", "local"}, want: queue.Local, why: "-mode says so"},
		{key: limited, args: []string{"-mode", "limited"}, want: queue.Limited, why: `-mode says so, and the licence has the tag "disable-telemetry-events-export"`},
		{key: airGapped, args: []string{"-mode", "local"}, want: queue.Off, why: `the licence has the tag "allow-air-gapped"`},
		{key: airGapped, args: []string{"-ignore-license-mode"}, want: queue.All, why: "the environment says that everything is exported, whatever the licence says"},
		{key: limited, args: []string{"-ignore-license-mode", "-mode", "local"}, want: queue.Local, why: "-mode says so"},
		{doNotTrack: "1", key: free, want: queue.Off, why: "DO_NOT_TRACK is set"},
		{doNotTrack: "TRUE", args: []string{"-mode", "all", "-ignore-license-mode", "-operated-by", "vendor"}, want: queue.Off, why: "DO_NOT_TRACK is set"},
		{doNotTrack: "please", want: queue.Off, why: "DO_NOT_TRACK is set"},
		{doNotTrack: "0", want: queue.All, why: "there is no licence key"},
		{doNotTrack: "false", want: queue.All, why: "there is no licence key"},
	} {
		t.Setenv("DO_NOT_TRACK", c.doNotTrack)
		t.Setenv("TELEMETRY_LICENSE", c.key)
		config, err := parseInstance(c.args, t.Output(), t.Output())
		if err != nil {
			t.Fatal(err)
		}
		r, err := readRules(config, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if p, why := r.policy(); p.Mode != c.want || why != c.why {
			t.Errorf("DO_NOT_TRACK=%s %q: got %v because %s, want %v because %s", c.doNotTrack, c.args, p.Mode, why, c.want, c.why)
		}
	}
}

// Files are read again when they change. A slip in one changes nothing but the
// log and the count of errors.
func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	keyFile, allowFile, tokenFile := filepath.Join(dir, "license.txt"), filepath.Join(dir, "allow.yaml"), filepath.Join(dir, "token.txt")
	free, limited := licenseWith(t, "plan:pro"), licenseWith(t, "disable-telemetry-events-export")
	allow := func(key string) string {
		return "allow:\n  - {feature: search, action: run, keys: [" + key + "], reason: a test}\n"
	}
	write(t, keyFile, free+"\n")
	write(t, allowFile, allow("lang"))
	write(t, tokenFile, testToken+"\n")
	t.Setenv("DO_NOT_TRACK", "")
	config, err := parseInstance([]string{
		"-license", "@" + keyFile, "-allow-private", allowFile, "-admin-token-file", tokenFile, "-allow-private-events", "blob::*::size",
	}, t.Output(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		r, err := readRules(config, slog.New(slog.NewTextHandler(&lines, nil)))
		if err != nil {
			t.Fatal(err)
		}
		var set queue.Policy
		errors := map[string]int{}
		r.set = func(p queue.Policy) { set = p }
		r.failed = func(file string) { errors[file]++ }
		r.enforce()
		go r.watch(t.Context())
		admin := func(token string) bool {
			request := httptest.NewRequest("POST", "/", nil)
			request.Header.Set("Authorization", "Bearer "+token)
			return r.admin(request)
		}
		check := func(when, key string, mode queue.Mode, allowed, token string) {
			t.Helper()
			time.Sleep(watchInterval + time.Nanosecond)
			synctest.Wait()
			if *r.license.Load() != key || set.Mode != mode || !admin(token) {
				t.Errorf("%s: mode %v, licence as wanted: %v, token as wanted: %v", when, set.Mode, *r.license.Load() == key, admin(token))
			}
			all := set.Allow.All()
			if len(all) != 2 || all[0].Feature != "blob" || strings.Join(all[1].Keys, ",") != allowed {
				t.Errorf("%s: allowed are %v, want blob's and %s", when, all, allowed)
			}
		}
		check("at first", free, queue.All, "lang", testToken)

		write(t, keyFile, limited)
		write(t, allowFile, allow("size"))
		write(t, tokenFile, "another"+testToken)
		check("changed", limited, queue.Limited, "size", "another"+testToken)
		if admin(testToken) {
			t.Error("the token from before still holds")
		}

		lines.Reset()
		write(t, keyFile, "no licence")
		write(t, allowFile, "allow: everything")
		write(t, tokenFile, "short")
		check("broken", limited, queue.Limited, "size", "another"+testToken)
		for _, file := range []string{keyFile, allowFile, tokenFile} {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		check("gone", limited, queue.Limited, "size", "another"+testToken)
		check("still gone", limited, queue.Limited, "size", "another"+testToken)
		if n := strings.Count(lines.String(), "level=ERROR"); n != 6 {
			t.Errorf("%d errors were logged, want one for each that is new:\n%s", n, &lines)
		}
		if errors["license"] < 3 || errors["allow_private"] < 3 || errors["admin_token"] < 3 {
			t.Errorf("errors counted: %v", errors)
		}
		if strings.Contains(lines.String(), limited) || strings.Contains(lines.String(), testToken) {
			t.Error("the log shows a secret")
		}

		write(t, keyFile, free)
		write(t, allowFile, allow("lang"))
		write(t, tokenFile, testToken)
		check("mended", free, queue.All, "lang", testToken)
		if !strings.Contains(lines.String(), `msg="export mode" mode=all because="the licence restricts nothing"`) {
			t.Errorf("the new mode is not in the log:\n%s", &lines)
		}
	})
}

// A key that nobody can read must not keep an instance from recording: it may
// still be the one that the gateway knows.
func TestAnUnreadableLicenceIsTakenAtTheStart(t *testing.T) {
	t.Setenv("DO_NOT_TRACK", "")
	file := filepath.Join(t.TempDir(), "license.txt")
	write(t, file, "no licence")
	for _, flag := range []string{"no licence", "@" + file} {
		config, err := parseInstance([]string{"-license", flag}, t.Output(), t.Output())
		if err != nil {
			t.Fatal(err)
		}
		r, err := readRules(config, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if p, why := r.policy(); p.Mode != queue.All || !strings.Contains(why, "restricts nothing") || *r.license.Load() != "no licence" {
			t.Errorf("%s: mode %v because %s", flag, p.Mode, why)
		}
	}
}

func TestAdministrators(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token.txt")
	write(t, file, testToken+"\n")
	config, err := parseInstance([]string{"-admin-token-file", file}, t.Output(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	with, err := readRules(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	without, err := readRules(&instanceConfig{license: new(command.Secret)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]bool{
		"Bearer " + testToken:       true,
		"bearer " + testToken:       true,
		"token " + testToken:        true,
		"Bearer " + testToken + "x": false,
		"Bearer " + testToken[1:]:   false,
		"Bearer":                    false,
		"Bearer ":                   false,
		"Basic " + testToken:        false,
		testToken:                   false,
		"":                          false,
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Authorization", header)
		if got := with.admin(r); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
		if without.admin(r) {
			t.Errorf("%q: an administrator, where there is no token", header)
		}
	}
}

func TestATokenThatEverybodyCanReadIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token.txt")
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		write(t, file, testToken)
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		var lines bytes.Buffer
		if _, err := readRules(&instanceConfig{license: new(command.Secret), adminTokenFile: file}, slog.New(slog.NewTextHandler(&lines, nil))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(lines.String(), "level=WARN"); got != want {
			t.Errorf("mode %v: warned %v, want %v", mode, got, want)
		}
	}
}
