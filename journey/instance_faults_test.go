// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/database/cluster"
)

// openGateway starts a gateway that takes all that unlicensed instances send.
func openGateway(t *testing.T, dir string, flags ...string) *process {
	t.Helper()
	return startGateway(t, dir, append(flags, "-unlicensed-rate", "1e6", "-unlicensed-burst", "1000000",
		"-unlicensed-total-rate", "1e6", "-unlicensed-total-burst", "1000000")...)
}

// taken is what a gateway logs when it has taken events.
const taken = `msg="stream ended".* events=[1-9]`

// instanceOn starts an instance with a queue that others may have open as well.
func instanceOn(t *testing.T, db, gatewayURL string, flags ...string) *process {
	t.Helper()
	return instanceTo(t, gatewayURL, nil, append([]string{"-db", db, "-export-batch", "1000"}, flags...)...)
}

// postgres starts a server and returns it with the URL of an empty database.
func postgres(t *testing.T) (c *cluster.Cluster, db string) {
	t.Helper()
	c, err := cluster.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := c.CreateDatabase("instance"); err != nil {
		t.Fatal(err)
	}
	return c, c.URL("instance")
}

// Two instances work on one queue. The one that exports is killed, and the other
// takes over; then PostgreSQL restarts, in an orderly way and by crashes, while
// both record.
func TestInstancesOnPostgres(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := openGateway(t, dir)
	c, db := postgres(t)
	first := instanceOn(t, db, "http://"+g.address)
	f := newFlow(t)
	stop := f.start(t, first.address)
	g.await(t, taken)
	second := instanceOn(t, db, "http://"+g.address)
	second.await(t, "another exporter has the queue")
	stop()
	stop = f.start(t, first.address, second.address)
	f.succeed(t, 50)
	first.kill()
	second.await(t, "this exporter has the queue now")
	stop()

	third := instanceOn(t, db, "http://"+g.address)
	stop = f.start(t, second.address, third.address)
	for _, mode := range []string{"fast", "immediate", "immediate"} {
		f.succeed(t, 50)
		if err := c.Restart(mode); err != nil {
			t.Fatal(err)
		}
	}
	f.succeed(t, 50)
	stop()
	f.finishAll(t, third.address)
	f.check(t, db, dir)
	second.kill()
	third.kill() // before the server
}

// A full disk makes an instance refuse what it cannot keep. With room again, the
// same process goes on, and has all that it has taken.
func TestInstanceDiskFull(t *testing.T) {
	d := newDisk(t)
	if d == nil {
		return
	}
	dir := t.TempDir()
	g := openGateway(t, dir)
	db := "sqlite://" + filepath.Join(d.folder, "instance.db")
	i := instanceOn(t, db, "http://"+g.address, "-event-log", "off")
	f := newFlow(t)
	stop := f.start(t, i.address)
	f.succeed(t, 50)
	filler := filepath.Join(d.folder, "filler")
	fill(t, filler)
	f.fail(t, 100)
	if status, body := i.get(t, "/livez"); status != http.StatusOK {
		t.Errorf("alive with the disk full: %d %s", status, body)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	f.succeed(t, 50)
	stop()
	f.finishAll(t, i.address)
	f.check(t, db, dir)
	i.kill() // lets go of the disk
}

// TestInstancePowerCut cuts the power of the disk that the queue is on, while an
// instance records and exports. What it has said to be recorded arrives.
func TestInstancePowerCut(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	if d == nil {
		return
	}
	const cuts = 3
	dir := t.TempDir()
	g := openGateway(t, dir)
	db := "sqlite://" + filepath.Join(d.folder, "instance.db")
	f := newFlow(t)
	for range cuts {
		i := instanceOn(t, db, "http://"+g.address, "-event-log", "off")
		stop := f.start(t, i.address)
		g.awaitMore(t, taken, 2)
		f.succeed(t, 100)
		f.cut()
		if err := d.cut(); err != nil {
			t.Fatal(err)
		}
		i.kill()
		stop()
		if err := d.detach(); err != nil {
			t.Fatal(err)
		}
		if err := d.attach(); err != nil {
			t.Fatal(err)
		}
		f.mend()
	}
	i := instanceOn(t, db, "http://"+g.address, "-event-log", "off")
	f.finishAll(t, i.address)
	f.check(t, db, dir)
	i.kill()
}

// The gateway is not there at first, then its acknowledgements are lost on their
// way, then it is killed and comes back.
func TestInstanceWithoutGateway(t *testing.T) {
	dir := t.TempDir()
	g := openGateway(t, dir)
	address := g.address
	g.kill()

	var swallow atomic.Int64
	via := detour(t, address, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if swallow.Add(-1) < 0 {
			pass.ServeHTTP(w, r)
			return
		}
		pass.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
	db := "sqlite://" + filepath.Join(dir, "instance.db")
	i := instanceOn(t, db, via, "-event-log", "off")
	f := newFlow(t)
	stop := f.start(t, i.address)
	i.await(t, "export failed")
	f.succeed(t, 50)
	stop()
	swallow.Store(5)
	g = openGateway(t, dir, "-listen", address)
	i.await(t, "export works again")
	if n := swallow.Load(); n > 0 {
		t.Errorf("%d acknowledgements were to be swallowed that never were", n)
	}
	stop = f.start(t, i.address)
	i.awaitMore(t, `msg="export pass".* accepted=[1-9]`, 1)
	g.kill()
	f.succeed(t, 50)
	openGateway(t, dir, "-listen", address)
	stop()
	if f.failed > 2*flowWorkers { // those that stop has ended
		t.Errorf("%d calls failed: recording must not need a gateway", f.failed)
	}
	f.finishAll(t, i.address)
	f.check(t, db, dir)
}

// An instance that is told to stop under load has kept what it said it has, and
// has marked the batch that was on its way, which therefore does not go again.
func TestInstanceStops(t *testing.T) {
	dir := t.TempDir()
	g := openGateway(t, dir)
	calls, held, goOn := new(atomic.Int64), make(chan struct{}), make(chan struct{})
	via := detour(t, g.address, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if calls.Add(1) == 5 {
			close(held)
			<-goOn
		}
		pass.ServeHTTP(w, r)
	})
	db := "sqlite://" + filepath.Join(dir, "instance.db")
	i := instanceOn(t, db, via)
	f := newFlow(t)
	stop := f.start(t, i.address)
	within(t, "the fifth call", held)
	f.succeed(t, 50)
	i.signal(t, syscall.SIGTERM)
	i.await(t, "instance stopping")
	close(goOn)
	if s := i.wait(t); s.ExitCode() != 0 {
		t.Errorf("the instance ended with %v", s)
	}
	stop()
	numbers, messages := published(t, dir)
	s := queueSums(t, db)
	if s.Pending == 0 || s.Exported == 0 {
		t.Errorf("nothing is proven by %+v", s)
	}
	if messages != len(numbers) || messages != s.Exported {
		t.Errorf("%d events arrived, %d times, and %d are marked", len(numbers), messages, s.Exported)
	}
	if len(f.recorded) > s.Recorded {
		t.Errorf("%d events were recorded, and %d are there", len(f.recorded), s.Recorded)
	}
	i = instanceOn(t, db, "http://"+g.address)
	f.finishAll(t, i.address)
	f.check(t, db, dir)
	if numbers, messages := published(t, dir); messages != len(numbers) {
		t.Errorf("%d events arrived %d times", len(numbers), messages)
	}
}
