// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/internal/license"
)

// A load is how a server is loaded: streams send messages of so many events of a
// kind, and leave window messages each unanswered.
type load struct {
	kind                    kind
	streams, events, window int
	interval                time.Duration // from one message to the next; zero for as fast as they are taken
}

// sendEvents is how many events a message usually has.
const sendEvents = 500

func usualLoad() load { return load{kind: kinds()[0], streams: 4, events: sendEvents, window: 2} }

// An arena is where servers run: a directory, a licence that they know, and
// messages to send.
type arena struct {
	dir, key, keysFile string
	profiles           string // directory for CPU profiles; empty for none
	program            string // the command that is shipped, once it is built
	made               map[batch][]message
}

// A batch says what is in a message: so many events of a kind.
type batch struct {
	suffix string // of the kind
	events int
}

func newArena(dir, profiles string) (*arena, error) {
	a := &arena{dir: dir, profiles: profiles, keysFile: filepath.Join(dir, "license.pub"), made: map[batch][]message{}}
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
	return a, nil
}

// messages returns messages of so many events, which it makes the first time:
// 10,000 events, or fewer if the messages are small.
func (a *arena) messages(k kind, events int) (_ []message, err error) {
	of := batch{k.suffix, events}
	if a.made[of] == nil {
		a.made[of], err = newMixOf(1, k.event).messages(slices.Repeat([]int{events}, min(10_000/events, 1000))...)
	}
	return a.made[of], err
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
		cells = append(cells, cell{name, func(d time.Duration) (sample, error) { return a.endToEnd(name, role, topic, usualLoad(), d) }})
	}
	add("discard/gateway", "gateway", "discard:")
	add("discard/obvious", "obvious", "discard:")
	add("discard/floor", "floor", "discard:")
	add("pubsub/gateway", "gateway", pubsubURL)
	add("pubsub/obvious", "obvious", pubsubURL)
	add("pubsub/floor", "floor", pubsubURL)
	add("sqlite/gateway", "gateway", "sqlite://topic.db")
	add("sqlite/floor", "floor", "sqlite://topic.db")
	return append(cells, cell{"sqlite/bare", a.bare})
}

func (a *arena) endToEnd(name, role, topic string, l load, d time.Duration) (s sample, err error) {
	c := childConfig{Role: role, Topic: topic}
	if topic == pubsubURL {
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
	o, err := a.send(server, l, d)
	return newSample(eventsOf(o.acks), o.took, o.server, latencies(o.acks)), err
}

// outcome is what came of sending, and what it took.
type outcome struct {
	acks           []ack
	took           time.Duration
	server, sender usage
}

// send loads a server for d, after it has warmed up.
func (a *arena) send(server *child, l load, d time.Duration) (o outcome, err error) {
	messages, err := a.messages(l.kind, l.events)
	if err != nil {
		return o, err
	}
	sender, err := newLoader(server.Address, l.streams, licensedMetadata(a.key))
	if err != nil {
		return o, err
	}
	defer sender.close()
	if err := sender.open(); err != nil {
		return o, err
	}
	warm := min(l.window, usualLoad().window)
	if _, err := sender.run(warm, until(messages, l.streams, time.Now().Add(d/4))); err != nil {
		return o, err
	}
	usages := func() (theirs, ours usage, err error) {
		if theirs, err = server.usage(); err == nil {
			ours, err = ownUsage()
		}
		return theirs, ours, err
	}
	theirs, ours, err := usages()
	if err != nil {
		return o, err
	}
	started := time.Now()
	next := until(messages, l.streams, started.Add(d))
	if l.interval > 0 {
		p, err := newPacer(messages, l.streams, l.interval, started, d)
		if err != nil {
			return o, err
		}
		defer p.close()
		next = p.next
	}
	if o.acks, err = sender.run(l.window, next); err != nil {
		return o, err
	}
	o.took = time.Since(started)
	if o.server, o.sender, err = usages(); err != nil {
		return o, err
	}
	o.server, o.sender = o.server.minus(theirs), o.sender.minus(ours)
	return o, sender.hangUp()
}

// until returns messages to send at once, until end. Each stream sends one at
// least.
func until(messages []message, streams int, end time.Time) func(stream int) (message, time.Time, bool) {
	sent := make([]int, streams)
	return func(stream int) (message, time.Time, bool) {
		now := time.Now()
		// Streams start at different places, and each keeps its own.
		k := sent[stream]
		sent[stream]++
		return messages[(stream*len(messages)/streams+k)%len(messages)], now, k == 0 || now.Before(end)
	}
}
