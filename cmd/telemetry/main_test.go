// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	_ "github.com/telemetrygateway/telemetry/internal/golden" // for its flag -update
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"telemetry": main})
}

// storyPatience is how long the stories may take, all of them together. They
// take seconds.
const storyPatience = 3 * time.Minute

// TestScripts runs the stories in testdata: what a person types, and what they
// see. Stories begin with an empty environment. With -update, the output that
// a story expects is rewritten.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       flag.Lookup("update").Value.String() == "true",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(storyPatience),
		Setup: func(e *testscript.Env) error {
			e.Values[processesKey{}] = processes{e.T(), map[string]func(){}}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"gateway": storyGateway, "instance": storyInstance, "provider": storyProvider, "end": storyEnd, "post": storyPost,
		},
	})
}

func TestExitCodesAndTheirOneLine(t *testing.T) {
	broken := errors.New("the disk\nis full")
	for _, c := range []struct {
		err  error
		code int
		line string
	}{
		{nil, 0, ""},
		{errDone, 0, ""},
		{errReported, 1, ""},
		{commandError{"telemetry send", errReported}, 1, ""},
		{configError{errReported}, 2, ""},
		{commandError{"telemetry send", broken}, 1, "telemetry send: the disk is full\n"},
		{commandError{"telemetry send", badConfig("-file: %w", broken)}, 2, "telemetry send: -file: the disk is full\n"},
		{fmt.Errorf("a: %w", badConfig("b")), 2, "a: b\n"},
	} {
		var stderr strings.Builder
		if code := report(c.err, &stderr); code != c.code || stderr.String() != c.line {
			t.Errorf("%v: got %d %q, want %d %q", c.err, code, stderr.String(), c.code, c.line)
		}
	}
	if err := badConfig("open: %w", os.ErrNotExist); !errors.Is(err, os.ErrNotExist) {
		t.Error("badConfig hides its cause")
	}
}

// A command that hangs while it stops is ended by a second signal.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	if os.Getenv("HANG_ON_SIGNAL") != "" {
		ctx := untilSignal()
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
		untilSignal()
		fmt.Println("ignored:", signal.Ignored(os.Interrupt))
		return
	}
	child := exec.Command("sh", "-c", `trap "" INT; exec "$0" -test.run='^TestInterruptsThatAreIgnoredStayIgnored$'`, os.Args[0])
	child.Env = append(os.Environ(), "TELL_INTERRUPT=1")
	if out, err := child.Output(); err != nil || !strings.Contains(string(out), "ignored: true\n") {
		t.Errorf("got %q, %v", out, err)
	}
}
