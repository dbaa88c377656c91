// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Command telemetry-pipeline lands events in a warehouse and answers questions
// about them. It is a binary of its own because DuckDB, which is C++, has no
// place in the process that faces the internet. Each command lives in the file
// of its name; flags, errors and exit codes are as internal/command says.
package main

import (
	"syscall"

	"github.com/telemetrygateway/telemetry/internal/command"
)

// version is set by a release build with -ldflags "-X main.version=v1.2.3".
// Otherwise it is what the go command recorded.
var version string

func main() {
	// DuckDB would make its log, and what it exports, for everybody to read.
	syscall.Umask(0o077)
	command.Main(root())
}

func root() command.Group {
	return command.Group{
		Name: "telemetry-pipeline",
		Intro: `The last part of the road of an event: it takes events from a gateway's topic and
lands each of them once in a warehouse.

  gateway ─► topic ─► pipeline ─► warehouse

The warehouse is a DuckDB file, or tables of Google BigQuery. What can never land
among the events lands beside them, with the reason, and can be replayed.

Try it on this machine, in three terminals:

  telemetry gateway
  telemetry-pipeline run
  telemetry send -site-id my-site -count 100

Ask, while it runs or later:

  telemetry-pipeline query "SELECT feature, action, count(*) AS n FROM events GROUP BY ALL"
  telemetry-pipeline query "SELECT * FROM daily_active_instances"
  telemetry-pipeline balance
`,
		Commands: []command.Command{
			{Name: "run", Summary: "land a topic's events in a warehouse", Run: runRun},
			{Name: "query", Summary: "ask the warehouse, in SQL", Run: runQuery},
			{Name: "export", Summary: "write the warehouse to Parquet files", Run: runExport},
			{Name: "balance", Summary: "check that every accepted event is accounted for", Run: runBalance},
			command.Version("telemetry-pipeline", version),
		},
	}
}
