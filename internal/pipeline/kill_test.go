// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// victimEnv is set in processes that are to be killed, to a victim.
const victimEnv = "PIPELINE_TEST_VICTIM"

// A victim is a process that lands what there is in the topics of a directory,
// and dies at a step: before or after a batch is received, inserted or made dead
// letters, and before it is acknowledged.
type victim struct {
	Dir string
	// KillAt is the step at which it dies when it comes there for the KillNth time.
	KillAt  string
	KillNth int64
	// KillIn is how long after that it dies instead.
	KillIn time.Duration
}

// steps are what victims do with each batch, and say before they go on.
var steps = []string{"received", "to be inserted", "inserted", "to be made dead letters", "made dead letters", "to be acknowledged"}

// TestKilledAtEachStep has pipelines land what is in a topic and die on the way:
// before and after each step, and at some moment of an insertion. A hundred times
// later nothing is lost and nothing is there twice.
func TestKilledAtEachStep(t *testing.T) {
	if v := os.Getenv(victimEnv); v != "" {
		var it victim
		if err := json.Unmarshal([]byte(v), &it); err != nil {
			t.Fatal(err)
		}
		it.live(t)
		return
	}
	v := &victim{Dir: t.TempDir()}
	r, l := v.road(t), newLedger()
	n := 0
	more := func() {
		t.Helper()
		var ms []topic.Message
		for range 16 {
			ms = append(ms, l.add(t, occurrence{sender: fmt.Sprintf("site-%d", n%2), n: n / 2}))
			n++
		}
		// Of this batch and of earlier ones, some come again: just so, sent again
		// by their sender, and with other content.
		for i, back := range []int{2, 5, 40} {
			o := occurrence{sender: fmt.Sprintf("site-%d", (n-back)&1), n: (n - back) / 2}
			if o.n < 0 {
				continue
			}
			ms = append(ms, l.add(t, o))
			o.received = time.Duration(n) * time.Second
			ms = append(ms, l.add(t, o))
			o.variant = 1 + i
			ms = append(ms, l.add(t, o))
		}
		publish(t, r.events, append(ms, l.addPoison(n))...)
	}

	const kills = 100
	died := map[string]int{} // by the last thing said
	killed := 0
	for v.KillNth = 1; v.KillNth <= 8; v.KillNth++ {
		for _, v.KillAt = range steps {
			more()
			if _, _, dead := v.run(t); dead {
				died[v.KillAt]++
				killed++
			}
		}
	}
	v.KillAt = ""
	more()
	_, longest, _ := v.run(t)
	v.KillAt = "to be inserted"
	for runs := 0; killed < kills; runs++ {
		if runs == 3*kills {
			t.Fatalf("only %d were killed", killed)
		}
		more()
		v.KillNth, v.KillIn = int64(1+runs%3), longest*time.Duration(1+runs%20)/20
		if last, _, dead := v.run(t); dead {
			died[last]++
			killed++
		}
	}
	t.Logf("killed %d times, after: %v", killed, died)
	for _, step := range append(steps, "inserting") {
		if died[step] == 0 {
			t.Errorf("nothing is proven: none was killed after %q", step)
		}
	}
	r.drain(t)
	l.check(t, r)
}

// road is where everything is.
func (v *victim) road(t testing.TB) *road {
	return &road{
		sqliteCarrier(t, filepath.Join(v.Dir, "topic.db")), sqliteCarrier(t, filepath.Join(v.Dir, "deadletter.db")),
		"duckdb://" + filepath.Join(v.Dir, "warehouse.duckdb"),
	}
}

// run runs the victim and returns the last thing that it said, how long its
// longest insertion took, and whether it was killed.
func (v *victim) run(t testing.TB) (last string, took time.Duration, killed bool) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v.outlast(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledAtEachStep$")
	cmd.Env = append(os.Environ(), victimEnv+"="+string(b))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var errs strings.Builder
	var said []string
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if d, err := time.ParseDuration(lines.Text()); err == nil {
			took = max(took, d)
		} else {
			said = append(said, lines.Text())
		}
	}
	err = cmd.Wait()
	last = strings.Join(said[max(0, len(said)-1):], "")
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return last, took, true
	}
	if err != nil {
		t.Fatalf("the victim %+v: %v\n%s\n%s", *v, err, strings.Join(said, "\n"), &errs)
	}
	return last, took, false
}

// outlast ends the leases of those who were killed, as time would.
func (v *victim) outlast(t testing.TB) {
	t.Helper()
	for _, name := range []string{"topic.db", "deadletter.db"} {
		db, err := sql.Open("sqlite", filepath.Join(v.Dir, name)+"?_pragma=busy_timeout(10000)")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("UPDATE subscriptions SET owner = '', lease_until = 0"); err != nil {
			t.Fatal(err)
		}
		db.Close()
	}
}

// live is what the victim does.
func (v *victim) live(t *testing.T) {
	r := v.road(t)
	var times atomic.Int64
	step := func(what string) {
		fmt.Println(what)
		if what != v.KillAt || times.Add(1) != v.KillNth {
			return
		}
		if v.KillIn == 0 {
			die()
		}
		time.AfterFunc(v.KillIn, die)
	}
	received := func(s topic.Subscription) topic.Subscription {
		return tapped{s, func(ctx context.Context, ms []topic.Message, f receiver) error {
			step("received")
			err := f(ctx, ms)
			step("to be acknowledged")
			return err
		}}
	}
	o := r.options(t)
	b := topic.BatchOptions{Messages: 10, InFlight: 2}
	o.Events, o.DeadLetters = received(r.events.subscribe(t, b)), received(r.deadLetters.subscribe(t, b))
	o.DeadLetterTopic = letters{r.deadLetters, func(ctx context.Context, ms []topic.Message, publish func(context.Context, []topic.Message) []error) []error {
		step("to be made dead letters")
		errs := publish(ctx, ms)
		step("made dead letters")
		return errs
	}}
	o.Open = r.trouble(func(ctx context.Context, b *warehouse.Batch, insert inserter) (warehouse.Result, error) {
		step("to be inserted")
		fmt.Println("inserting")
		began := time.Now()
		result, err := insert(ctx, b)
		fmt.Println(time.Since(began))
		step("inserted")
		return result, err
	})
	// It ends when nothing is left. Events are acknowledged after their dead
	// letters are there.
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for {
			unread := int64(0)
			for _, name := range []string{"topic.db", "deadletter.db"} {
				infos, err := topic.Subscriptions(ctx, "sqlite://"+filepath.Join(v.Dir, name))
				if err != nil {
					t.Error(err)
					return
				}
				for _, i := range infos {
					unread += i.Unread
				}
			}
			if unread == 0 {
				return
			}
			pause(ctx, 10*time.Millisecond)
		}
	}()
	if err := New(o).Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
