// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/topic"
)

// unlimited are the flags of a gateway that takes all that unlicensed instances
// send.
var unlimited = []string{"-unlicensed-rate", "1e6", "-unlicensed-burst", "1000000", "-unlicensed-total-rate", "1e6", "-unlicensed-total-burst", "1000000"}

// A stream is a load on a gateway together with the pipeline behind it: senders
// with and without a licence, whose IDs are all the same.
type stream struct {
	*load
	*landing
	pace    chan struct{}
	license string // ID
	planted []expectation
}

// newStream has topics in one folder and a warehouse in another.
func newStream(t testing.TB, topics, warehouse string) *stream {
	t.Helper()
	s := &stream{load: newLoad(t, topics), landing: landingIn(topics, warehouse), pace: make(chan struct{})}
	l := s.load
	l.flags = append(l.flags, unlimited...)
	l.senders = append(l.senders[:2], newSender(l.senders[0].id, "", l.ledger, 99))
	for _, sender := range l.senders {
		sender.pace = s.pace
	}
	s.license = licenseID(t, l.senders[0].license, l.flags[1])
	return s
}

// startGateway starts the gateway, which may be one that was killed.
func (s *stream) startGateway(t testing.TB) *process {
	t.Helper()
	return startGateway(t, s.dir, s.load.flags...)
}

// run has all senders send, until what it returns is called or the gateway ends.
// Each time that every passes, or when it is zero as fast as the gateway allows,
// one of them sends some 50 events.
func (s *stream) run(t testing.TB, g *process, every time.Duration) (stop func()) {
	t.Helper()
	s.ledger.round(1 << 30)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, sender := range s.senders {
		running.Go(func() {
			if err := sender.send(ctx, g.address, true); err == nil {
				t.Error("a stream that is not closed ended without an error")
			}
		})
	}
	running.Go(func() {
		tick := time.NewTicker(max(every, time.Microsecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			select {
			case s.pace <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	})
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); running.Wait() }) }
	t.Cleanup(stop)
	return stop
}

// burst has senders send n messages of some 50 events, and waits until what they
// sent is acknowledged.
func (s *stream) burst(t testing.TB, g *process, n int) {
	t.Helper()
	for i := range n {
		sender := s.senders[i%len(s.senders)]
		sender.kept = append(sender.kept, sender.make(50)...)
	}
	s.flush(t, g)
}

// flush sends again what was not acknowledged.
func (s *stream) flush(t testing.TB, g *process) {
	t.Helper()
	s.ledger.round(1 << 30)
	for _, sender := range s.senders {
		if err := sender.send(t.Context(), g.address, false); err != nil {
			t.Fatalf("%s could not send what was left: %v", sender.id, err)
		}
	}
}

// finish sends what is left, has a pipeline that nothing happens to land all of
// it, and audits the warehouse.
func (s *stream) finish(t testing.TB, g *process) holdings {
	t.Helper()
	s.flush(t, g)
	p := s.start(t)
	return s.finishWith(t, p)
}

func (s *stream) finishWith(t testing.TB, p *process) holdings {
	t.Helper()
	s.drained(t, p)
	s.balanced(t) // while it runs
	stopPipeline(t, p)
	s.balanced(t) // when nobody has the file
	for _, wrong := range s.ledger.wrong {
		t.Error(wrong)
	}
	return s.check(t, append(s.ledger.expectations(s.license), s.planted...))
}

// plant publishes among events, of which there must be some, what no gateway
// publishes: messages that can never land, and one that is delivered again and
// again.
func (s *stream) plant(t testing.TB) {
	t.Helper()
	db := openTopic(t, s.landing.topic)
	defer db.Close()
	var key, data string
	if err := db.QueryRow(`SELECT key, data FROM messages WHERE key LIKE 'license/%' AND CAST(data AS TEXT) LIKE '%"6.5.0"%' ORDER BY seq LIMIT 1`).Scan(&key, &data); err != nil {
		t.Fatal(err)
	}
	var p payload
	if err := json.Unmarshal([]byte(data), &p); err != nil {
		t.Fatal(err)
	}
	owner := senderName(p.Labels["publisher.source"], p.Labels["publisher.id"], p.Labels["license.id"])
	n := len(s.planted)
	broken := []struct{ sender, key, data string }{
		{senderName("", "", ""), fmt.Sprint("no-sender/", n), fmt.Sprintf("no payload \x00 %d", n)},
		{senderName("", "", ""), fmt.Sprint("no-sender/", n), fmt.Sprintf(`{"event":%d}`, n)},
		{owner, key[:strings.LastIndex(key, "/")+1] + fmt.Sprint("another-", n), strings.Replace(data, `{`, fmt.Sprintf(`{"planted":%d,`, n), 1)},
		{owner, key, strings.Replace(data, `"6.5.0"`, fmt.Sprintf(`"6.6.%d"`, n), 1)},
	}
	var messages []topic.Message
	for _, b := range broken {
		messages = append(messages, topic.Message{Key: b.key, Data: []byte(b.data)}, topic.Message{Key: key, Data: []byte(data)})
		s.planted = append(s.planted, expectation{sender: b.sender, poison: b.data, sent: 1, must: true})
		s.redelivered++
	}
	to, err := topic.Open(t.Context(), s.landing.topic, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	for _, err := range to.Publish(t.Context(), messages) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// streamIn has everything in a folder of the test's own.
func streamIn(t testing.TB) *stream {
	t.Helper()
	dir := t.TempDir()
	return newStream(t, dir, filepath.Join(dir, "warehouse"))
}
