// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/telemetrygateway/telemetry/internal/database/cluster"
)

func query(t *testing.T, url, q string) (answer string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), q).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestCluster(t *testing.T) {
	c, err := cluster.Start("")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	if err := c.CreateDatabase("a b"); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateDatabase("a b"); err == nil {
		t.Error("made the same database twice")
	}
	url := c.URL("a b")
	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "listen_addresses": "", "server_version_num": "15"} {
		if got := query(t, url, "SHOW "+setting); got != want && !(want != "" && strings.HasPrefix(got, want)) {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	started := func() string { return query(t, url, "SELECT pg_postmaster_start_time()::text") }
	before := started()
	for _, mode := range []string{"fast", "immediate"} {
		if err := c.Restart(mode); err != nil {
			t.Fatal(err)
		}
		if after := started(); after == before {
			t.Errorf("%s did not restart it", mode)
		} else {
			before = after
		}
	}
	if err := c.Restart("slow"); err == nil {
		t.Error("knows a mode that there is not")
	}
	if err := errors.Join(c.Stop(), c.Stop()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", c.Dir(), err)
	}
}

// TestLongPath: a folder may be deeper than the path of a socket.
func TestLongPath(t *testing.T) {
	// The user postgres must be able to reach it, so it is not in t.TempDir.
	root, err := os.MkdirTemp("", "postgres-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Start(filepath.Join(root, strings.Repeat("x", 100)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	if got := query(t, c.URL("postgres"), "SELECT 'it works'"); got != "it works" {
		t.Error(got)
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir(), "data")); err != nil {
		t.Errorf("a folder that was given is gone: %v", err)
	}
	// What it has made cannot be made again.
	if _, err := cluster.Start(c.Dir()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("start PostgreSQL in %s: initdb: ", c.Dir())) {
		t.Errorf("got %v", err)
	}
}

func TestUnreachableFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		return // PostgreSQL runs as whoever made the folder
	}
	c, err := cluster.Start(filepath.Join(t.TempDir(), "x"))
	if err == nil {
		c.Stop()
	}
	if err == nil || !strings.Contains(err.Error(), "the user postgres must be able to reach the folder") {
		t.Errorf("got %v", err)
	}
}
