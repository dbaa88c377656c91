// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
)

// shipped returns the command telemetry, which it builds the first time.
func (a *arena) shipped() (program string, err error) {
	if a.program == "" {
		program := filepath.Join(a.dir, "telemetry")
		out, err := exec.Command("go", "build", "-o", program, "github.com/telemetrygateway/telemetry/cmd/telemetry").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("build the command: %w: %s", err, out)
		}
		a.program = program
	}
	return a.program, nil
}

var listening = regexp.MustCompile(`msg="gateway started".* listen=(\S+)`)

// shippedRole is the gateway as it is shipped, in a process that has nothing of
// this program. Its memory is what it says is taken.
func shippedRole(c childConfig) (*served, error) {
	ctx, cancel := context.WithCancel(context.Background())
	gateway := exec.CommandContext(ctx, c.Program, "gateway", "-listen", "127.0.0.1:0", "-admin", "off",
		"-license-keys", c.KeysFile, "-topic", c.Topic, "-deadletter", c.Topic)
	gateway.Cancel = func() error { return gateway.Process.Signal(syscall.SIGTERM) }
	log, err := gateway.StderrPipe()
	if err == nil {
		err = gateway.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	s := &served{
		count: func(u *usage) (err error) {
			u.Resident, u.Peak, err = residentMemory(fmt.Sprint(gateway.Process.Pid))
			return err
		},
		stop: func() error {
			cancel()
			if err := gateway.Wait(); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	lines := bufio.NewScanner(log)
	var last string
	for s.address == "" && lines.Scan() {
		last = lines.Text()
		if m := listening.FindStringSubmatch(last); m != nil {
			s.address = m[1]
		}
	}
	if s.address == "" {
		return nil, errors.Join(fmt.Errorf("the gateway did not start: %s", last), s.stop())
	}
	go func() {
		for lines.Scan() { // so that it can go on writing
		}
	}()
	return s, nil
}
