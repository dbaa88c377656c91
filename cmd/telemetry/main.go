// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Command telemetry is the gateway and everything that talks to it, in one
// binary. Each command lives in the file of its name.
//
// It exits with 0 when the command did what it was asked, with 1 when it could
// not, and with 2 when it was asked wrongly: flags, environment or files that
// only a person can mend. An error is one line on stderr.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	os.Exit(report(root().run(untilSignal(), os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

// untilSignal returns a context that the first signal to stop ends. Before it
// does, the default behaviour is back, so that a second signal ends the process
// at once, however soon it comes. signal.NotifyContext would leave a gap.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	// A shell starts what runs in its background with interrupts ignored, for
	// Ctrl-C to end only what is in front.
	if !signal.Ignored(os.Interrupt) {
		signal.Notify(signals, os.Interrupt)
	}
	go func() {
		<-signals
		signal.Stop(signals)
		cancel()
	}()
	return ctx
}

func root() group {
	return group{
		name: "telemetry",
		intro: `Telemetry Gateway carries usage events from product instances to whoever makes
the product, and loses none:

  product ─► instance ─► gateway ─► topic

An instance records events on its own disk, keeps back what is private, and
exports the rest. The gateway takes them from instances that can prove who they
are, and acknowledges each once it is durable in a topic.

Try it on this machine, in two terminals, with a page at http://127.0.0.1:6090:

  telemetry gateway
  telemetry instance -gateway http://127.0.0.1:6080 -export-interval 2s -demo-page

What a click on the page became:

  telemetry queue list -state exported
  telemetry tail -topic sqlite://data/topic.db -from-start
`,
		commands: []command{
			{"instance", "record a product's events, keep them and export them to a gateway", runInstance},
			{"queue", "look into an instance's queue, and mend it", runQueue},
			{"gateway", "take events over gRPC, gRPC-Web and Connect and publish them", runGateway},
			{"send", "send events to a gateway without keeping them first", runSend},
			{"tail", "print the messages of a topic", runTail},
			{"license", "make and inspect licence keys", runLicense},
			{"version", "print what this binary was built from", runVersion},
		},
	}
}

// command is one command. Its run prints help when it is given -h.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

// group is a command that has commands.
type group struct {
	name     string // in full, such as "telemetry license"
	intro    string
	commands []command
}

// run runs the command that args name. Errors it returns carry the name of the
// command that they come from.
func (g group) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		g.help(stderr)
		return configError{errReported}
	}
	switch name := args[0]; {
	case name == "help" && len(args) > 1 && !strings.HasPrefix(args[1], "-"):
		return g.run(ctx, append(args[1:len(args):len(args)], "-h"), stdout, stderr)
	case name == "help", isHelp(name):
		return g.help(stdout)
	}
	for _, c := range g.commands {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, args[1:], stdout, stderr)
		if named := (commandError{}); err == nil || errors.As(err, &named) {
			return err
		}
		return commandError{g.name + " " + c.name, err}
	}
	names := make([]string, 0, len(g.commands))
	for _, c := range g.commands {
		names = append(names, c.name)
	}
	return commandError{g.name, badConfig("unknown command %q%s; %s help lists all commands",
		args[0], didYouMean(args[0], names, ""), g.name)}
}

func (g group) help(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s COMMAND [flags]\n\n%s\nCommands:\n\n", g.name, g.intro)
	for _, c := range g.commands {
		fmt.Fprintf(&b, "  %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(&b, "\n%s help COMMAND says more about one of them.\n", g.name)
	_, err := io.WriteString(w, b.String())
	return err
}

func isHelp(arg string) bool {
	switch arg {
	case "-h", "--h", "-help", "--help":
		return true
	}
	return false
}

var (
	// errDone ends a command that has done all it was asked, such as printing
	// its help.
	errDone = errors.New("done")
	// errReported ends a command that failed and has said so itself.
	errReported = errors.New("failed")
)

// configError is an error that only a person can mend, by asking differently.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

// badConfig returns an error for which the command exits with 2. The text says
// what to do.
func badConfig(format string, args ...any) error {
	return configError{fmt.Errorf(format, args...)}
}

// commandError is an error with the full name of the command it comes from.
type commandError struct {
	command string
	error
}

func (e commandError) Error() string { return e.command + ": " + e.error.Error() }
func (e commandError) Unwrap() error { return e.error }

// report prints err as one line, unless there is nothing left to say, and
// returns the exit code.
func report(err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, errDone) {
		return 0
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(stderr, strings.Join(strings.Fields(err.Error()), " "))
	}
	if bad := (configError{}); errors.As(err, &bad) {
		return 2
	}
	return 1
}
