// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/internal/license"
)

const (
	// sendStreams is how many streams send at once, each on a connection of its
	// own, and sendWindow how many messages each leaves unanswered.
	sendStreams = 4
	sendWindow  = 2
	// sendEvents is how many events a message has.
	sendEvents = 500
)

// An arena is where servers run: a directory, a licence that they know, and
// messages to send.
type arena struct {
	dir, key, keysFile string
	profiles           string // directory for CPU profiles; empty for none
	messages           []message
}

func newArena(dir, profiles string) (*arena, error) {
	a := &arena{dir: dir, profiles: profiles, keysFile: filepath.Join(dir, "license.pub")}
	private, err := license.GenerateKey("bench")
	if err != nil {
		return nil, err
	}
	signer, err := license.ParseSigner(private)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if a.key, err = license.Issue(signer, license.Info{
		Tags: []string{"plan:bench"}, Users: 1000, CreatedAt: now, ExpiresAt: now.Add(24 * time.Hour),
	}); err != nil {
		return nil, err
	}
	if err := os.WriteFile(a.keysFile, signer.PublicKey(), 0o600); err != nil {
		return nil, err
	}
	a.messages, err = newMix(1).messages(slices.Repeat([]int{sendEvents}, 40)...)
	return a, err
}

// start starts a server in a directory of its own.
func (a *arena) start(name string, c childConfig) (*child, error) {
	dir, err := os.MkdirTemp(a.dir, c.Role)
	if err != nil {
		return nil, err
	}
	if a.profiles != "" {
		c.Profile = filepath.Join(a.profiles, strings.ReplaceAll(name, "/", "-")+".pprof")
	}
	c.KeysFile = a.keysFile
	return startChild(dir, c)
}

// endToEndCells measure servers that a sender streams to as fast as they take
// it.
func (a *arena) endToEndCells() []cell {
	var cells []cell
	add := func(name, role, topic string) {
		cells = append(cells, cell{name, func(d time.Duration) (sample, error) { return a.endToEnd(name, role, topic, d) }})
	}
	pubsub := fmt.Sprintf("gcppubsub://projects/%s/topics/%s", pubsubProject, pubsubTopic)
	add("discard/gateway", "gateway", "discard:")
	add("discard/obvious", "obvious", "discard:")
	add("discard/floor", "floor", "discard:")
	add("pubsub/gateway", "gateway", pubsub)
	add("pubsub/obvious", "obvious", pubsub)
	add("pubsub/floor", "floor", pubsub)
	add("sqlite/gateway", "gateway", "sqlite://topic.db")
	add("sqlite/floor", "floor", "sqlite://topic.db")
	return cells
}

func (a *arena) endToEnd(name, role, topic string, d time.Duration) (s sample, err error) {
	c := childConfig{Role: role, Topic: topic}
	if strings.HasPrefix(topic, "gcppubsub:") {
		fake, err := startChild(a.dir, childConfig{Role: "pubsub"})
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, fake.stop()) }()
		c.Env = map[string]string{"PUBSUB_EMULATOR_HOST": fake.Address}
	}
	server, err := a.start(name, c)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	load, err := newLoader(server.Address, sendStreams, licensedMetadata(a.key))
	if err != nil {
		return s, err
	}
	defer load.close()
	if _, err := load.run(sendWindow, a.until(time.Now().Add(d/4))); err != nil { // to warm up
		return s, err
	}
	before, err := server.usage()
	if err != nil {
		return s, err
	}
	started := time.Now()
	acks, err := load.run(sendWindow, a.until(started.Add(d)))
	if err != nil {
		return s, err
	}
	took := time.Since(started)
	after, err := server.usage()
	if err != nil {
		return s, err
	}
	events := 0
	for _, ack := range acks {
		events += ack.events
	}
	return newSample(events, took, after.minus(before), latencies(acks)), nil
}

// until returns messages to send at once, until end.
func (a *arena) until(end time.Time) func(stream int) (message, time.Time, bool) {
	var sent [sendStreams]int
	return func(stream int) (message, time.Time, bool) {
		now := time.Now()
		// Streams start at different places, and each keeps its own.
		m := a.messages[(stream*len(a.messages)/sendStreams+sent[stream])%len(a.messages)]
		sent[stream]++
		return m, now, now.Before(end)
	}
}
