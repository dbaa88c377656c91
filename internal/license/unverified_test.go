// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package license_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/telemetrygateway/telemetry/internal/license"
)

// TestClaimsOfVectors: of a good key they are what Verify says.
func TestClaimsOfVectors(t *testing.T) {
	for _, v := range vectors {
		key := readVector(t, v.name)
		want, err := license.Verify(key, trusted(t), license.Options{AllowSHA1: true})
		if err != nil {
			t.Fatal(err)
		}
		got, err := license.Claims(key)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		if diff := cmp.Diff(&want.Info, got); diff != "" {
			t.Errorf("%s (-verified +claimed):\n%s", v.name, diff)
		}
	}
}

// TestClaimsAreUnproven: the same from keys that do not verify.
func TestClaimsAreUnproven(t *testing.T) {
	forged := &ssh.Signature{Format: "ssh-dss", Blob: []byte("forged")}
	for name, info := range map[string]string{
		"forged":          string(infoV4),
		"no ID":           `{"v":4,"t":["plan:enterprise"]}`,
		"newer":           `{"v":5,"t":["plan:enterprise"]}`,
		"without version": `{"t":["plan:enterprise"]}`,
	} {
		key := pack(t, originalContainer{forged, []byte(info)})
		if _, err := license.Verify(key, trusted(t), license.Options{AllowSHA1: true}); err == nil {
			t.Fatalf("%s: it verifies", name)
		}
		i, err := license.Claims(key)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !i.HasTag("plan:enterprise") {
			t.Errorf("%s: tags are %q", name, i.Tags)
		}
	}
}

func TestClaimsOfDamagedKeys(t *testing.T) {
	whole := strings.TrimSpace(readVector(t, "v4-ed25519"))
	sig := &ssh.Signature{Format: "ssh-rsa", Blob: []byte("x")}
	for name, key := range map[string]string{
		"empty":         "",
		"cut short":     whole[:len(whole)-5],
		"no signature":  pack(t, `{"info":"e30="}`),
		"info not JSON": pack(t, originalContainer{sig, []byte("canary-canary")}),
		"a wrong field": pack(t, originalContainer{sig, []byte(`{"v":5,"t":{"canary-canary":1}}`)}),
	} {
		i, err := license.Claims(key)
		if !errors.Is(err, license.ErrMalformed) || i != nil {
			t.Errorf("%s: %+v, %v", name, i, err)
			continue
		}
		noSecrets(t, err.Error(), key, "canary-canary")
	}
}
