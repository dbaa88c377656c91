// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/golden"
)

const (
	vectorKeys = "../../internal/license/testdata/keys/trusted.pub"
	vectorV4   = "../../internal/license/testdata/vectors/v4-ed25519.key"
)

// TestLicenseInspectOutput holds what scripts read. The licence is revoked so
// that the output does not change on the day it expires.
func TestLicenseInspectOutput(t *testing.T) {
	revoked := writeFile(t, "revoked", "018df9a4-3b00-7c3d-9e4f-0123456789ab\n")
	code, stdout, stderr := runOnce(t.Context(), "license", "inspect", "-keys", vectorKeys, "-revoked", revoked, "@"+vectorV4)
	if code != 0 || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
	golden.Check(t, []byte(stdout), "testdata/license-inspect.json")
}

func TestLicenseKeygenModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "keys")
	if code, _, stderr := runOnce(t.Context(), "license", "keygen", "-out", dir); code != 0 {
		t.Fatal(stderr)
	}
	for name, want := range map[string]fs.FileMode{".": 0o700, "license.key": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
}

// TestLicenseKeygenLeavesNoHalf: without license.pub there is no license.key.
func TestLicenseKeygenLeavesNoHalf(t *testing.T) {
	pub := writeFile(t, "license.pub", "someone else's")
	dir := filepath.Dir(pub)
	if code, _, _ := runOnce(t.Context(), "license", "keygen", "-out", dir); code != 2 {
		t.Errorf("exit %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, "license.key")); !os.IsNotExist(err) {
		t.Errorf("license.key is there: %v", err)
	}
	if b, err := os.ReadFile(pub); err != nil || string(b) != "someone else's" {
		t.Errorf("license.pub was touched: %q, %v", b, err)
	}
}

func TestLicenseExitCodes(t *testing.T) {
	dir := t.TempDir()
	if code, _, stderr := runOnce(t.Context(), "license", "keygen", "-out", dir); code != 0 {
		t.Fatal(stderr)
	}
	private, public := filepath.Join(dir, "license.key"), filepath.Join(dir, "license.pub")
	vector, err := os.ReadFile(vectorV4)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.ToLower(string(vector))
	for _, test := range []struct {
		args string
		code int
		want string // in stderr
	}{
		{"", 2, ""},
		{"issu", 2, "did you mean issue?"},
		{"keygen", 2, "Set -out"},
		{"keygen -out " + private, 2, "make folder"},
		{"keygen -out " + dir + "/x -id -x", 2, "a key ID has"},
		{"keygen -out x y", 2, "unexpected argument"},
		{"issue", 2, "Set -key"},
		{"issue -key k", 2, "Set -users"},
		{"issue -key k -users -1", 2, "invalid value"},
		{"issue -key k -users 1", 2, "Set -expires"},
		{"issue -key k -users 1 -expires soon", 2, "a time from now"},
		{"issue -key " + dir + "/none -users 1 -expires 1h", 2, "read private key"},
		{"issue -key " + public + " -users 1 -expires 1h", 2, "not a private key"},
		{"issue -key " + private + " -users 1 -expires 1h -tags " + strings.Repeat("x", 20_000), 1, "fewer or shorter tags"},
		{"issue -key " + private + " -users 1 -expires 1h", 0, ""},
		{"inspect @" + vectorV4, 2, "Set -keys"},
		{"inspect -keys " + vectorKeys, 2, "Give one key"},
		{"inspect -keys " + vectorKeys + " a b", 2, "Give one key"},
		{"inspect -keys " + vectorKeys + " @" + dir + "/none", 2, "no such file"},
		{"inspect -keys " + dir + "/none @" + vectorV4, 2, "no such file"},
		{"inspect -keys " + private + " @" + vectorV4, 2, "license.key: line 1: this is a private key"},
		{"inspect -keys " + vectorKeys + " -revoked " + public + " @" + vectorV4, 2, "license.pub: line 1: this is neither"},
		{"inspect -keys " + vectorKeys + " @" + vectorV4, 0, ""},
		{"inspect @" + vectorV4 + " -keys " + vectorKeys, 0, ""},
		{"inspect -keys " + public + " @" + vectorV4, 1, "not known here"},
		{"inspect -keys " + vectorKeys + " " + forged, 1, "damaged"},
	} {
		code, stdout, stderr := runOnce(t.Context(), append([]string{"license"}, strings.Fields(test.args)...)...)
		if code != test.code || !strings.Contains(stderr, test.want) {
			t.Errorf("license %s: exit %d, want %d and %q: %s", test.args, code, test.code, test.want, stderr)
		}
		if code == 2 && stdout != "" {
			t.Errorf("license %s: stdout %q", test.args, stdout)
		}
		if strings.Contains(stdout+stderr, strings.TrimSpace(forged)[:40]) {
			t.Errorf("license %s: shows the key", test.args)
		}
	}
}

func TestParseExpiry(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct{ in, want string }{
		{"8760h", "2027-06-01T12:00:00Z"},
		{"365d", "2027-06-01T12:00:00Z"},
		{"1d", "2026-06-02T12:00:00Z"},
		{"1h30m", "2026-06-01T13:30:00Z"},
		{"36500d", "2126-05-08T12:00:00Z"},
		{"2026-06-02", "2026-06-02T00:00:00Z"},
		{"2026-06-01T15:00:00+02:00", "2026-06-01T13:00:00Z"},
		{"36501d", ""},
		{"99999999999999999999d", ""},
		{"-99999999999999999d", ""},
		{"-1d", ""},
		{"0d", ""},
		{"1.5d", ""},
		{"d", ""},
		{"0", ""},
		{"-1h", ""},
		{"1y", ""},
		{"2026-06-01", ""},
		{"2026-06-01T12:00:00Z", ""},
		{"2027-02-29", ""},
		{"31.12.2027", ""},
		{"", ""},
	} {
		got, err := parseExpiry(test.in, now)
		if (err == nil) != (test.want != "") || err == nil && got.UTC().Format(time.RFC3339) != test.want {
			t.Errorf("%q: got %v, %v, want %q", test.in, got, err, test.want)
		}
	}
}
