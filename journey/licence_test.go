// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"path/filepath"
	"strings"
	"testing"
)

// issueLicence makes a key pair and a licence with the command, as a vendor
// does, and returns the licence key and the file for -license-keys.
func issueLicence(t testing.TB, tags ...string) (key, publicFile string) {
	t.Helper()
	dir := t.TempDir()
	if _, stderr, exit := run(t, dir, nil, "license", "keygen", "-out", dir); exit != 0 {
		t.Fatalf("telemetry license keygen: exit %d: %s", exit, stderr)
	}
	stdout, stderr, exit := run(t, dir, nil, "license", "issue", "-key", filepath.Join(dir, "license.key"),
		"-tags", strings.Join(append(tags, "plan:enterprise", "customer:journey"), ","), "-users", "100", "-expires", "8760h")
	if exit != 0 {
		t.Fatalf("telemetry license issue: exit %d: %s", exit, stderr)
	}
	return strings.TrimSpace(stdout), filepath.Join(dir, "license.pub")
}
