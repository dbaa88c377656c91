// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// storyGateway is the command "gateway [flags]" of stories: it starts telemetry
// gateway as a process of its own, at a free port, waits until it takes events
// and puts its URL into $GATEWAY. The process is stopped when the story ends.
func storyGateway(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("gateway cannot be negated: use ! exec telemetry gateway")
	}
	bin, _, _ := strings.Cut(ts.Getenv("PATH"), string(filepath.ListSeparator))
	cmd := exec.Command(filepath.Join(bin, "telemetry"),
		append([]string{"gateway", "-listen", "127.0.0.1:0", "-admin", ""}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	address, log := listeningAt(stderr)
	if address == "" {
		ts.Fatalf("the gateway did not start:\n%s", log)
	}
	ts.Setenv("GATEWAY", "http://"+address)
}

// listeningAt reads a gateway's log until it says where it listens. The rest is
// read and thrown away in the background.
func listeningAt(r io.Reader) (address, log string) {
	var b strings.Builder
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(&b, lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return address, b.String()
}
