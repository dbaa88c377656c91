// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package command is what the command lines of all our programs share: commands
// within commands, flags with their environment twins, help, errors and exit
// codes. Nothing but a program imports it.
//
// A program exits with 0 when a command did what it was asked, with 1 when it
// could not, and with 2 when it was asked wrongly: flags, environment or files
// that only a person can mend. An error is one line on stderr.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode"
)

// Main runs the command that the process's arguments name, until the first
// signal to stop, and exits.
func Main(g Group) {
	os.Exit(Report(g.Run(UntilSignal(), os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

// UntilSignal returns a context that the first signal to stop ends. Before it
// does, the default behaviour is back, so that a second signal ends the process
// at once, however soon it comes. signal.NotifyContext would leave a gap.
func UntilSignal() context.Context {
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

// Command is one command. Its Run prints help when it is given -h.
type Command struct {
	Name, Summary string
	Run           func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

// Group is a command that has commands.
type Group struct {
	Name     string // in full, such as "telemetry license"
	Intro    string
	Commands []Command
}

// Run runs the command that args name. Errors it returns carry the name of the
// command that they come from.
func (g Group) Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		g.help(stderr)
		return ConfigError{ErrReported}
	}
	switch name := args[0]; {
	case name == "help" && len(args) > 1 && !strings.HasPrefix(args[1], "-"):
		return g.Run(ctx, append(args[1:len(args):len(args)], "-h"), stdout, stderr)
	case name == "help", isHelp(name):
		return g.help(stdout)
	}
	for _, c := range g.Commands {
		if c.Name != args[0] {
			continue
		}
		err := c.Run(ctx, args[1:], stdout, stderr)
		if named := (commandError{}); err == nil || errors.As(err, &named) {
			return err
		}
		return commandError{g.Name + " " + c.Name, err}
	}
	names := make([]string, 0, len(g.Commands))
	for _, c := range g.Commands {
		names = append(names, c.Name)
	}
	return commandError{g.Name, BadConfig("unknown command %q%s; %s help lists all commands",
		args[0], didYouMean(args[0], names, ""), g.Name)}
}

func (g Group) help(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s COMMAND [flags]\n\n%s\nCommands:\n\n", g.Name, g.Intro)
	for _, c := range g.Commands {
		fmt.Fprintf(&b, "  %-10s %s\n", c.Name, c.Summary)
	}
	fmt.Fprintf(&b, "\n%s help COMMAND says more about one of them.\n", g.Name)
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
	// ErrDone ends a command that has done all it was asked, such as printing
	// its help.
	ErrDone = errors.New("done")
	// ErrReported ends a command that failed and has said so itself.
	ErrReported = errors.New("failed")
)

// ConfigError is an error that only a person can mend, by asking differently.
type ConfigError struct{ error }

func (e ConfigError) Unwrap() error { return e.error }

// BadConfig returns an error for which the command exits with 2. The text says
// what to do.
func BadConfig(format string, args ...any) error {
	return ConfigError{fmt.Errorf(format, args...)}
}

// commandError is an error with the full name of the command it comes from.
type commandError struct {
	command string
	error
}

func (e commandError) Error() string { return e.command + ": " + e.error.Error() }
func (e commandError) Unwrap() error { return e.error }

// visible replaces what a terminal would take for a command: an error may quote
// what a sender wrote, as DuckDB's do.
func visible(r rune) rune {
	if unicode.IsGraphic(r) {
		return r
	}
	return unicode.ReplacementChar
}

// Report prints err as one line, unless there is nothing left to say, and
// returns the exit code.
func Report(err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, ErrDone) {
		return 0
	}
	if !errors.Is(err, ErrReported) {
		fmt.Fprintln(stderr, strings.Map(visible, strings.Join(strings.Fields(err.Error()), " ")))
	}
	if bad := (ConfigError{}); errors.As(err, &bad) {
		return 2
	}
	return 1
}

// Listen listens on the address that a flag called name gives.
func Listen(name, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, BadConfig("%s %s: %w; choose another address, or stop what uses it", name, address, errors.Unwrap(err))
	}
	return l, nil
}
