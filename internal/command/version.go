// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// Build is what a binary was built from.
type Build struct {
	Version string `json:"version"`
	// Commit ends in "+dirty" if the source had changes that it lacks, and is
	// "unknown" if the source was not under version control.
	Commit string `json:"commit"`
	Go     string `json:"go"`
}

// ReadBuild returns what this binary was built from. The version is the one that
// a release build sets; without one it is what the go command recorded.
func ReadBuild(version string) Build {
	b := Build{Version: version, Commit: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			b.Commit += "+dirty"
		}
	}
	return b
}

// String returns the build as one line.
func (b Build) String() string {
	return fmt.Sprintf("%s (commit %s, %s)", b.Version, b.Commit, b.Go)
}

const versionHelp = `[-json]

Prints the version, the commit and the Go release that this binary was built
from.

  %[1]s version
  %[1]s version -json
`

// Version returns the command that prints what a program was built from.
func Version(program, version string) Command {
	return Command{"version", "print what this binary was built from", func(_ context.Context, args []string, stdout, stderr io.Writer) error {
		f := NewFlags(program+" version", fmt.Sprintf(versionHelp, program))
		asJSON := f.Bool("json", false, "print a JSON object")
		if err := f.Parse(args, stdout, stderr); err != nil {
			return err
		}
		b := ReadBuild(version)
		if *asJSON {
			return json.NewEncoder(stdout).Encode(b)
		}
		_, err := fmt.Fprintln(stdout, program, b)
		return err
	}}
}
