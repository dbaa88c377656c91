// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	_ "github.com/telemetrygateway/telemetry/internal/golden" // for its flag -update
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"telemetry-pipeline": main})
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
			"pipeline": storyPipeline, "publish": storyPublish, "end": storyEnd, "until": storyUntil,
		},
	})
}
