// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// away checks that a pipeline which cannot insert says so, to people, probes and
// metrics, that it acknowledges nothing and does not end.
func (s *stream) away(t *testing.T, p *process, says string) {
	t.Helper()
	said := regexp.MustCompile(says)
	status, body := 0, ""
	poll(t, "pipeline that is not ready", func() bool {
		status, body = p.get(t, "/readyz")
		return status == http.StatusServiceUnavailable && said.MatchString(body)
	}, func() string {
		return fmt.Sprintf("/readyz: %d %s, want it to say %q\n%s", status, body, says, p.tail(20))
	})
	p.await(t, `level=(?:ERROR|WARN) .*`+says)
	if status, body := p.get(t, "/livez"); status != http.StatusOK {
		t.Errorf("/livez while the warehouse is away: %d %s", status, body)
	}
	if up := p.metric(t, "telemetry_pipeline_warehouse_up", ""); up != 0 {
		t.Errorf("telemetry_pipeline_warehouse_up is %v while it is away", up)
	}
	if p.metric(t, "telemetry_pipeline_events_total", "redelivered") > 0 {
		t.Error("messages are delivered again while the warehouse is away")
	}
}

// recovered checks that the same pipeline goes on by itself, and that no message
// was delivered again: a warehouse that is away makes nobody work twice.
func (s *stream) recovered(t *testing.T, g, p *process) {
	t.Helper()
	awaitReady(t, p)
	s.flush(t, g)
	s.drained(t, p)
	if n := p.metric(t, "telemetry_pipeline_events_total", "redelivered"); n > 0 {
		t.Errorf("%v messages were delivered again", n)
	}
	if up := p.metric(t, "telemetry_pipeline_warehouse_up", ""); up != 1 {
		t.Errorf("telemetry_pipeline_warehouse_up is %v with the warehouse back", up)
	}
	t.Log(s.finishWith(t, p))
}

// TestLandingLocked starts a pipeline while another process has the file of its
// warehouse, which a DuckDB file lets only one have.
func TestLandingLocked(t *testing.T) {
	t.Parallel()
	s := streamIn(t)
	g := s.startGateway(t)
	p := s.start(t)
	s.burst(t, g, 3)
	s.drained(t, p)
	stopPipeline(t, p)

	analyst := openWarehouse(t, s.warehouse, "read_write")
	p = s.spawn(t)
	p.listens(t)
	stop := s.run(t, g, 10*time.Millisecond)
	s.away(t, p, fmt.Sprintf("(?i:process|PID) ?%d|in use", os.Getpid()))
	before := unread(t, openTopic(t, s.landing.topic))
	poll(t, "load", func() bool { return unread(t, openTopic(t, s.landing.topic)) > before+500 }, g.last)
	stop()
	analyst.Close()
	s.recovered(t, g, p)
}

// TestLandingReadOnly has the warehouse on a file system that cannot be written
// to for a while.
func TestLandingReadOnly(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	if d == nil {
		return
	}
	s := newStream(t, t.TempDir(), d.folder)
	g := s.startGateway(t)
	p := s.start(t)
	s.burst(t, g, 3)
	s.drained(t, p)
	stopPipeline(t, p)

	if err := command("mount", "-o", "remount,ro", d.folder); err != nil {
		t.Fatal(err)
	}
	p = s.spawn(t)
	p.listens(t)
	stop := s.run(t, g, 10*time.Millisecond)
	s.away(t, p, "(?i)read-only")
	stop()
	if err := command("mount", "-o", "remount,rw", d.folder); err != nil {
		t.Fatal(err)
	}
	s.recovered(t, g, p)
}

// TestLandingDiskFull fills the disk that the warehouse is on, under load.
func TestLandingDiskFull(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	if d == nil {
		return
	}
	s := newStream(t, t.TempDir(), d.folder)
	g := s.startGateway(t)
	p := s.start(t)
	s.burst(t, g, 3)
	s.drained(t, p)
	filler := filepath.Join(d.folder, "filler")
	fill(t, filler)
	stop := s.run(t, g, 5*time.Millisecond)
	s.away(t, p, "(?i)no space|full")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	stop()
	s.recovered(t, g, p)
}

// TestLandingSlow has the disk of the warehouse answer no write for 30 seconds,
// twice as long as a lease. A second pipeline is there, and must not take over
// what the first one still has.
func TestLandingSlow(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	if d == nil {
		return
	}
	s := newStream(t, t.TempDir(), d.folder)
	g := s.startGateway(t)
	p := s.start(t)
	s.burst(t, g, 3)
	s.drained(t, p)

	thaw := d.freeze(t)
	stop := s.run(t, g, 200*time.Millisecond)
	topic := openTopic(t, s.landing.topic)
	var owner string
	lease := func() (until int64) {
		var o string
		if err := topic.QueryRow("SELECT owner, lease_until FROM subscriptions WHERE name = 'pipeline'").Scan(&o, &until); err != nil {
			t.Fatal(err)
		}
		if owner == "" {
			owner = o
		}
		if o != owner {
			t.Fatal("another receiver has what the slow pipeline is working on")
		}
		return until
	}
	poll(t, "message", func() bool { return unread(t, topic) > 0 }, g.last)
	standby := s.spawn(t)
	standby.listens(t)
	// A lease is for 15 seconds, so that this one is renewed all the while.
	goal := time.Now().Add(45 * time.Second).UnixMilli()
	poll(t, "lease that was renewed for 30 s", func() bool { return lease() >= goal }, p.last)
	if unread(t, topic) == 0 {
		t.Error("messages are acknowledged that cannot have been written")
	}
	thaw()
	stop()
	standby.kill()
	s.recovered(t, g, p)
}

// freeze has the disk answer no write until it thaws.
func (d *disk) freeze(t *testing.T) (thaw func()) {
	t.Helper()
	const (
		fifreeze = 0xc0045877
		fithaw   = 0xc0045878
	)
	f, err := os.Open(d.folder)
	if err != nil {
		t.Fatal(err)
	}
	frozen := true
	set := func(request uint) error { return unix.IoctlSetInt(int(f.Fd()), request, 0) }
	if err := set(fifreeze); err != nil {
		t.Fatal(err)
	}
	thaw = func() {
		if frozen {
			if err := set(fithaw); err != nil {
				t.Error(err)
			}
			frozen = false
			f.Close()
		}
	}
	t.Cleanup(thaw)
	return thaw
}

// TestLandingTakeover has two pipelines for one subscription and one warehouse.
// One works; when it is killed, under load, the other one goes on by itself.
func TestLandingTakeover(t *testing.T) {
	t.Parallel()
	s := streamIn(t)
	g := s.startGateway(t)
	first := s.start(t)
	s.burst(t, g, 3)
	s.drained(t, first)
	second := s.spawn(t)
	second.listens(t)
	stop := s.run(t, g, 50*time.Millisecond)
	poll(t, "row", func() bool { return first.metric(t, "telemetry_pipeline_events_total", "landed") > 1000 }, first.last)
	first.kill()
	awaitReady(t, second)
	poll(t, "row of the second", func() bool { return second.metric(t, "telemetry_pipeline_events_total", "landed") > 0 }, second.last)
	stop()
	s.flush(t, g)
	t.Log(s.finishWith(t, second))
}
