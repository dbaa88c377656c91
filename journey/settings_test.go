// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSettings shows that flags, away from their defaults, do what they say.
func TestSettings(t *testing.T) {
	dir := t.TempDir()
	licence, public := issueLicence(t)
	expired, stderr, exit := run(t, dir, nil, "license", "issue", "-key", filepath.Join(filepath.Dir(public), "license.key"), "-users", "1", "-expires", "1ns")
	if exit != 0 {
		t.Fatalf("issue an expired licence: %s", stderr)
	}
	revoked := filepath.Join(t.TempDir(), "revoked")
	if err := os.WriteFile(revoked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, dir, "-license-keys", public, "-license-revoked", revoked, "-license-expired", "deny", "-payload-license-key", "full",
		"-unlicensed", "deny", "-trusted-proxies", "127.0.0.0/8", "-max-message-bytes", "65536")
	send := func(args ...string) (stderr string, exit int) {
		_, stderr, exit = run(t, dir, nil, append([]string{"send", "-gateway", "http://" + g.address, "-site-id", "site"}, args...)...)
		return stderr, exit
	}

	if stderr, exit := send("-license", licence, "-count", "2"); exit != 0 {
		t.Fatalf("licensed: exit %d: %s", exit, stderr)
	}
	if stderr, exit := send("-license", licence, "-count", "1000"); exit != 1 || !strings.Contains(stderr, "takes up to 65536") {
		t.Errorf("-max-message-bytes: exit %d: %s", exit, stderr)
	}
	stdout, stderr, exit := run(t, dir, nil, "tail", "-from-start")
	var line struct {
		Data struct {
			Metadata struct {
				Identifier struct {
					LicensedInstance struct {
						LicenseKey string
						License    struct{ ID string }
					}
				}
			}
		}
	}
	first, _, _ := strings.Cut(stdout, "\n")
	if err := json.Unmarshal([]byte(first), &line); err != nil {
		t.Fatalf("tail: exit %d, %v: %s", exit, err, stderr)
	}
	instance := line.Data.Metadata.Identifier.LicensedInstance
	if instance.LicenseKey != licence {
		t.Errorf("-payload-license-key full: the payload does not have the key: %s", first)
	}

	if err := os.WriteFile(revoked, []byte(instance.License.ID+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.await(t, `msg="file read again"`)

	for _, row := range []struct {
		flag string
		args []string
		want string
	}{
		{"-license-revoked", []string{"-license", licence, "-count", "1"}, "revoked"},
		{"-license-expired deny", []string{"-license", strings.TrimSpace(expired), "-count", "1"}, "expired"},
		{"-unlicensed deny", []string{"-count", "1"}, "no events from unlicensed instances"},
	} {
		if stderr, exit := send(row.args...); exit != 1 || !strings.Contains(stderr, row.want) {
			t.Errorf("%s: exit %d, want 1 and %q: %s", row.flag, exit, row.want, stderr)
		}
	}

	code, body := curl(t, "-H", "Content-Type: application/json", "-H", "X-Forwarded-For: 203.0.113.9", "-d",
		`{"metadata": {"identifier": {"unlicensedInstance": {"instanceId": "far"}}}}`,
		"http://"+g.address+"/telemetrygateway.v1.TelemetryGatewayService/RecordEventBatch")
	if code != "403" {
		t.Errorf("an unlicensed instance behind a proxy: %s %s", code, body)
	}
	g.await(t, `msg="sender refused".* address=203\.0\.113\.9`)

	_, metrics := curl(t, "http://"+g.admin+"/metrics")
	for _, want := range []string{
		`telemetry_gateway_license_file_entries{file="keys"} 1`,
		`telemetry_gateway_license_file_entries{file="revoked"} 1`,
		`telemetry_gateway_topic_stored_messages{topic="events"} 2`,
		`telemetry_gateway_topic_stored_messages{topic="deadletter"} 0`,
	} {
		if !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}
