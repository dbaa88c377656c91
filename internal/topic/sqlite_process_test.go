// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestMain lets the tests of this file run the test binary as another process.
func TestMain(m *testing.M) {
	if at, ok := os.LookupEnv("TOPIC_TEST_PUBLISH"); ok {
		if err := publishForEver(at, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// publishForEver publishes messages from several goroutines and writes the key
// of each that was acknowledged to w, until that fails.
func publishForEver(at string, w io.Writer) error {
	topic, err := Open(context.Background(), at, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	failed := make(chan error, 8)
	for p := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				var ms []Message
				for i := range 20 {
					ms = append(ms, Message{Key: fmt.Sprintf("%d-%d-%d-%d", os.Getpid(), p, n, i), Data: make([]byte, 300)})
				}
				for _, err := range topic.Publish(context.Background(), ms) {
					if err != nil {
						failed <- err
						return
					}
				}
				mu.Lock()
				_, err := io.WriteString(w, strings.Join(keys(ms), "\n")+"\n")
				mu.Unlock()
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	return <-failed
}

// publisher is another process that publishes.
type publisher struct {
	cmd          *exec.Cmd
	acknowledged *bufio.Scanner
	stderr       strings.Builder
}

func startPublisher(t *testing.T, at string) *publisher {
	t.Helper()
	p := &publisher{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), "TOPIC_TEST_PUBLISH="+at)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.acknowledged = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

// read returns the next n keys that were acknowledged.
func (p *publisher) read(t *testing.T, n int) []string {
	t.Helper()
	var ks []string
	for range n {
		if !p.acknowledged.Scan() {
			t.Fatalf("the publisher has ended: %s", p.stderr.String())
		}
		ks = append(ks, p.acknowledged.Text())
	}
	return ks
}

// kill kills it, and returns the keys that it had acknowledged since.
func (p *publisher) kill(t *testing.T) []string {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var ks []string
	for p.acknowledged.Scan() {
		ks = append(ks, p.acknowledged.Text())
	}
	// The last line may be half a key; what is there of it counts for nothing.
	return ks[:max(0, len(ks)-1)]
}

// stored returns how often each key is in the topic.
func stored(t *testing.T, path string) map[string]int {
	t.Helper()
	f := rawSQLite(t, path)
	defer f.Close()
	var check string
	if err := f.scan("PRAGMA integrity_check", nil, &check); err != nil || check != "ok" {
		t.Fatalf("integrity_check: %s (%v)", check, err)
	}
	rows, err := f.QueryContext(t.Context(), "SELECT key FROM messages")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := make(map[string]int)
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			t.Fatal(err)
		}
		n[key]++
	}
	return n
}

func TestSQLiteKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topic.db")
	var acknowledged []string
	for round := range 20 {
		p := startPublisher(t, "sqlite://"+path)
		acknowledged = append(acknowledged, p.read(t, 20*(1+7*round))...)
		acknowledged = append(acknowledged, p.kill(t)...)

		// This process opens the file as it was left, and publishes at once.
		topic := sqliteTestTopic(t, path, sqliteOptions{})
		mustPublish(t, topic, Message{Key: strconv.Itoa(round)})
		acknowledged = append(acknowledged, strconv.Itoa(round))
		topic.Close()
		got := stored(t, path)
		for _, key := range acknowledged {
			if got[key] != 1 {
				t.Fatalf("round %d: %s was acknowledged and is stored %d times", round, key, got[key])
			}
		}
	}
	t.Logf("%d messages were acknowledged, and none lost", len(acknowledged))
}

// Two processes publish to one file as fast as they can, while this one
// publishes and receives as well.
func TestSQLiteSharedByProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topic.db")
	at := "sqlite://" + path
	topic, sub := mustOpen(t, at), mustSubscribe(t, at)
	a, b := startPublisher(t, at), startPublisher(t, at)
	want := make(map[string]bool)
	for n := range 10 {
		for _, key := range append(a.read(t, 200), b.read(t, 200)...) {
			want[key] = true
		}
		mustPublish(t, topic, numbered(n, n+1)...)
		want[strconv.Itoa(n)] = true
	}
	for _, key := range append(a.kill(t), b.kill(t)...) {
		want[key] = true
	}
	seen := make(map[string]int)
	for _, m := range receiveUntil(t, sub, func(m Message) bool {
		delete(want, m.Key)
		return len(want) == 0
	}) {
		if seen[m.Key]++; seen[m.Key] > 1 {
			t.Errorf("%s was received twice", m.Key)
		}
	}
}
