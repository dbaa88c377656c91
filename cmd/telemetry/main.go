// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Command telemetry is the gateway and everything that talks to it, in one
// binary. Each command lives in the file of its name.
package main

import "github.com/telemetrygateway/telemetry/internal/command"

// version is set by a release build with -ldflags "-X main.version=v1.2.3".
// Otherwise it is what the go command recorded.
var version string

func main() { command.Main(root()) }

func root() command.Group {
	return command.Group{
		Name: "telemetry",
		Intro: `Telemetry Gateway carries usage events from product instances to whoever makes
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
		Commands: []command.Command{
			{Name: "instance", Summary: "record a product's events, keep them and export them to a gateway", Run: runInstance},
			{Name: "queue", Summary: "look into an instance's queue, and mend it", Run: runQueue},
			{Name: "gateway", Summary: "take events over gRPC, gRPC-Web and Connect and publish them", Run: runGateway},
			{Name: "send", Summary: "send events to a gateway without keeping them first", Run: runSend},
			{Name: "tail", Summary: "print the messages of a topic", Run: runTail},
			{Name: "topic", Summary: "look at who reads a topic, and remove who no longer does", Run: runTopic},
			{Name: "deadletter", Summary: "look at dead letters, and publish their events after all", Run: runDeadletter},
			{Name: "license", Summary: "make and inspect licence keys", Run: runLicense},
			command.Version("telemetry", version),
		},
	}
}
