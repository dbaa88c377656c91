// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by a release build with -ldflags "-X main.version=v1.2.3".
// Otherwise it is what the go command recorded.
var version string

// build is what this binary was built from.
type build struct {
	Version string `json:"version"`
	// Commit ends in "+dirty" if the source had changes that it lacks, and is
	// "unknown" if the source was not under version control.
	Commit string `json:"commit"`
	Go     string `json:"go"`
}

func readBuild() build {
	b := build{Version: version, Commit: "unknown", Go: runtime.Version()}
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
func (b build) String() string {
	return fmt.Sprintf("telemetry %s (commit %s, %s)", b.Version, b.Commit, b.Go)
}

const versionHelp = `[-json]

Prints the version, the commit and the Go release that this binary was built
from.

  telemetry version
  telemetry version -json
`

func runVersion(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("telemetry version", versionHelp)
	asJSON := f.Bool("json", false, "print a JSON object")
	if err := f.parse(args, stdout, stderr); err != nil {
		return err
	}
	b := readBuild()
	if *asJSON {
		return json.NewEncoder(stdout).Encode(b)
	}
	_, err := fmt.Fprintln(stdout, b)
	return err
}
