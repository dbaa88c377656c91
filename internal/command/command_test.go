// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

func TestExitCodesAndTheirOneLine(t *testing.T) {
	broken := errors.New("the disk\nis full")
	for _, c := range []struct {
		err  error
		code int
		line string
	}{
		{nil, 0, ""},
		{ErrDone, 0, ""},
		{ErrReported, 1, ""},
		{commandError{"telemetry send", ErrReported}, 1, ""},
		{ConfigError{ErrReported}, 2, ""},
		{commandError{"telemetry send", broken}, 1, "telemetry send: the disk is full\n"},
		{commandError{"telemetry send", BadConfig("-file: %w", broken)}, 2, "telemetry send: -file: the disk is full\n"},
		{fmt.Errorf("a: %w", BadConfig("b")), 2, "a: b\n"},
		{errors.New("no number: \x1b]0;é\a\u009b\u202e"), 1, "no number: \ufffd]0;é\ufffd\ufffd\ufffd\n"},
	} {
		var stderr strings.Builder
		if code := Report(c.err, &stderr); code != c.code || stderr.String() != c.line {
			t.Errorf("%v: got %d %q, want %d %q", c.err, code, stderr.String(), c.code, c.line)
		}
	}
	if err := BadConfig("open: %w", os.ErrNotExist); !errors.Is(err, os.ErrNotExist) {
		t.Error("BadConfig hides its cause")
	}
}

// A command that hangs while it stops is ended by a second signal.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	if os.Getenv("HANG_ON_SIGNAL") != "" {
		ctx := UntilSignal()
		fmt.Println("started")
		<-ctx.Done()
		fmt.Println("stopping")
		select {}
	}
	child := exec.Command(os.Args[0], "-test.run=^TestASecondSignalEndsAtOnce$")
	child.Env = append(os.Environ(), "HANG_ON_SIGNAL=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill() }()
	for _, want := range []string{"started\n", "stopping\n"} {
		got := make([]byte, len(want))
		if _, err := out.Read(got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
		if err := child.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	err = child.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the process ended with %v, want by the second signal", err)
	}
}

// What a shell runs in its background leaves Ctrl-C to what is in front.
func TestInterruptsThatAreIgnoredStayIgnored(t *testing.T) {
	if os.Getenv("TELL_INTERRUPT") != "" {
		UntilSignal()
		fmt.Println("ignored:", signal.Ignored(os.Interrupt))
		return
	}
	child := exec.Command("sh", "-c", `trap "" INT; exec "$0" -test.run='^TestInterruptsThatAreIgnoredStayIgnored$'`, os.Args[0])
	child.Env = append(os.Environ(), "TELL_INTERRUPT=1")
	if out, err := child.Output(); err != nil || !strings.Contains(string(out), "ignored: true\n") {
		t.Errorf("got %q, %v", out, err)
	}
}
