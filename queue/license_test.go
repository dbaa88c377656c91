// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/license"
)

func TestLicenseMode(t *testing.T) {
	const old, recent = "2023-10-03T23:59:59Z", "2023-10-04T00:00:00Z"
	key := func(created string, tags ...string) string {
		return unsignedKey(t, map[string]any{"v": 3, "c": created, "t": tags, "sf_sub_id": "s"})
	}
	for _, test := range []struct {
		name string
		key  string
		o    LicenseOptions
		want Mode
		why  string
	}{
		{"no key", "", LicenseOptions{}, All, "no licence key"},
		{"only spaces", " \n", LicenseOptions{}, All, "no licence key"},
		{"plain", key(recent, "plan:enterprise"), LicenseOptions{}, All, "restricts nothing"},
		{"no tags", key(recent), LicenseOptions{}, All, "restricts nothing"},
		{"as issued today", issuedKey(t), LicenseOptions{}, All, "restricts nothing"},

		{"air-gapped", key(recent, "allow-air-gapped"), LicenseOptions{}, Off, "allow-air-gapped"},
		{"air-gapped with stray spaces", key(recent, "plan:x", " allow-air-gapped\t"), LicenseOptions{}, Off, "allow-air-gapped"},
		{"air-gapped as issued today", issuedKey(t, "allow-air-gapped "), LicenseOptions{}, Off, "allow-air-gapped"},
		{"nearly air-gapped", key(recent, "allow-air-gapped-no"), LicenseOptions{}, All, ""},
		{"opted out", key(recent, "disable-telemetry-events-export"), LicenseOptions{}, Limited, "disable-telemetry-events-export"},
		{"opted out with stray spaces", key(recent, " disable-telemetry-events-export "), LicenseOptions{}, Limited, "disable-telemetry-events-export"},
		{"both tags", key(recent, "disable-telemetry-events-export", "allow-air-gapped"), LicenseOptions{}, Off, "allow-air-gapped"},
		{"old", key(old), LicenseOptions{}, Limited, "2023-10-04"},
		{"old in another time zone", key("2023-10-04T01:59:59+02:00"), LicenseOptions{}, Limited, "2023-10-04"},
		{"version 1", unsignedKey(t, map[string]any{"v": 1, "t": []string{"plan:x"}}), LicenseOptions{}, Limited, "2023-10-04"},

		// Each option against what stands above and below it in the order.
		{"all, air-gapped", key(old, "allow-air-gapped"), LicenseOptions{ExportAll: true}, All, "environment"},
		{"vendor, air-gapped", key(old, "allow-air-gapped"), LicenseOptions{Vendor: true}, All, "vendor"},
		{"usage data, air-gapped", key(recent, "allow-air-gapped"), LicenseOptions{UsageDataEnabled: true}, Off, "allow-air-gapped"},
		{"usage data, opted out", key(recent, "disable-telemetry-events-export"), LicenseOptions{UsageDataEnabled: true}, Limited, "disable"},
		{"usage data, old", key(old), LicenseOptions{UsageDataEnabled: true}, All, "usage data"},
		{"vendor, no key", "", LicenseOptions{Vendor: true}, All, "no licence key"},

		{"damaged", key(recent, "allow-air-gapped")[4:], LicenseOptions{}, All, "damaged"},
		{"damaged, what to do", "canary", LicenseOptions{}, All, "copy the whole key again"},
		{"a version that is not known yet", unsignedKey(t, map[string]any{"v": 5, "c": recent, "t": []string{"allow-air-gapped"}}), LicenseOptions{}, Off, "allow-air-gapped"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, why := LicenseMode(test.key, test.o)
			if got != test.want || !strings.Contains(why, test.why) || why == "" {
				t.Errorf("got %v because %q; want %v because of %q", got, why, test.want, test.why)
			}
			if key := strings.TrimSpace(test.key); key != "" && strings.Contains(why, key) {
				t.Errorf("the reason quotes the key: %s", why)
			}
		})
	}
}

// unsignedKey has the form of a key, and a signature that is none.
func unsignedKey(t *testing.T, info map[string]any) string {
	t.Helper()
	signed, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{
		"sig":  map[string]any{"Format": "ssh-rsa", "Blob": []byte("forged"), "Rest": nil},
		"info": signed,
	})
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func issuedKey(t *testing.T, tags ...string) string {
	t.Helper()
	private, err := license.GenerateKey("test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := license.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	created := time.Date(2026, time.January, 2, 0, 0, 0, 0, time.UTC)
	key, err := license.Issue(signer, license.Info{Tags: tags, CreatedAt: created, ExpiresAt: created.AddDate(1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return key
}
