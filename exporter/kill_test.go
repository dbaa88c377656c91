// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"bufio"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pgx "github.com/jackc/pgx/v5/stdlib"
	sqlitedriver "modernc.org/sqlite"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/queue"
)

// victimEnv is set in processes that are to be killed, to a victim.
const victimEnv = "EXPORTER_TEST_VICTIM"

// A victim is a process that records and exports, and dies at a statement.
type victim struct {
	Driver, DSN string
	Gateway     string
	First       int           // number of its first event
	KillAt      int64         // the statement that it does not live to make
	Later       time.Duration // how far its clock is ahead, so that earlier leases have ended
}

// Each victim records so many events that are exported and one that is poison.
const victimEvents = 6

// TestKilledAtEachStatement kills a process that records and exports before
// each statement that it makes in its database, one after the other: in the
// middle of recording, of claiming, before and after calls, and before and after
// their marks are committed. Nothing that was recorded is lost.
func TestKilledAtEachStatement(t *testing.T) {
	// With PostgreSQL every statement takes its time, and it is the same code.
	stride := map[string]int64{"SQLite": 1, "PostgreSQL": 11}
	for _, db := range databases {
		t.Run(db.name, func(t *testing.T) {
			q, v := victimQueue(t, db.name)
			s := serve(t)
			v.Gateway = s.url
			ledger := map[int]bool{} // by number: recorded for certain
			for survived := false; !survived; v.KillAt += stride[db.name] {
				var recorded []int
				recorded, survived = v.run(t)
				for _, n := range recorded {
					ledger[n] = true
				}
				v.First += victimEvents + 1
				v.Later += time.Hour
				if v.KillAt > 300 {
					t.Fatal("it makes no end of statements")
				}
			}
			victims := v.First / (victimEvents + 1)
			if victims < 10 || len(ledger) < 2*victims {
				t.Fatalf("nothing is proven: %d victims recorded %d events", victims, len(ledger))
			}
			t.Logf("killed %d times; %d events were recorded for certain", victims-1, len(ledger))

			passes(t, newExporter(t, q(v.Later), s.url, Options{}), 10)
			arrived := map[string]int{}
			for _, id := range s.received(t) {
				arrived[id]++
			}
			dead := deadLetters(t, q(v.Later))
			for n := range ledger {
				id := event(n).GetId()
				switch {
				case poison(n) && (dead[id] != "feature_invalid" || arrived[id] > 0):
					t.Errorf("poison event %d is dead with reason %q, and arrived %d times", n, dead[id], arrived[id])
				case !poison(n) && (arrived[id] == 0 || dead[id] != ""):
					t.Errorf("event %d arrived %d times, and is dead with reason %q", n, arrived[id], dead[id])
				}
			}
			stats, err := q(v.Later).Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// What was recorded without the victim knowing has arrived too.
			wantStats(t, q(v.Later), queue.Stats{Recorded: int64(len(arrived) + len(dead)), Exported: int64(len(arrived)), DeadLettered: int64(len(dead))})
			if stats.Recorded < int64(len(ledger)) {
				t.Errorf("the queue counts %d events, of which %d were recorded for certain", stats.Recorded, len(ledger))
			}
		})
	}
}

// poison says whether the gateway can never publish event number n.
func poison(n int) bool { return n%(victimEvents+1) == 3 }

func deadLetters(t testing.TB, q *queue.Queue) map[string]string {
	t.Helper()
	reasons := map[string]string{}
	for page := (queue.Page{}); ; {
		var err error
		if page, err = q.List(t.Context(), queue.DeadLettered, 1000, page.Next); err != nil {
			t.Fatal(err)
		}
		for _, i := range page.Items {
			reasons[i.ID] = i.Reason
		}
		if page.Next == "" {
			return reasons
		}
	}
}

// run runs the victim and returns the events that it said were recorded, and
// whether it came to its end.
func (v *victim) run(t testing.TB) (recorded []int, survived bool) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+string(b))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "recorded %d", &n); err != nil {
			t.Fatal(err)
		}
		recorded = append(recorded, n)
	}
	err = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return recorded, false
	}
	if err != nil {
		t.Fatalf("the victim to be killed at statement %d: %v\n%s", v.KillAt, err, &errs)
	}
	return recorded, true
}

// live is what the victim does.
func (v *victim) live() error {
	ctx := context.Background()
	var d driver.Driver = &sqlitedriver.Driver{}
	if v.Driver == "pgx" {
		d = pgx.GetDefaultDriver()
	}
	killing := &killingDriver{Driver: d}
	sql.Register("killing", killing)
	db, err := sql.Open("killing", v.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	q, err := queue.Open(ctx, db, queue.Options{Now: func() time.Time { return time.Now().Add(v.Later) }})
	if err != nil {
		return err
	}
	killing.left.Store(v.KillAt)
	for n := v.First; n <= v.First+victimEvents; n += 2 {
		var events []*v1.Event
		for i := n; i <= min(n+1, v.First+victimEvents); i++ {
			e := event(i)
			if poison(i) {
				e.Feature = "no feature has spaces"
			}
			events = append(events, e)
		}
		if err := q.Add(ctx, events...); err != nil {
			return err
		}
		for i := range events {
			fmt.Println("recorded", n+i)
		}
	}
	e, err := New(q, v.Gateway, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	e.o.Batch = 3
	e.walk = walk{batch: 3, limit: 3}
	_, err = e.Export(ctx)
	return err
}

// killingDriver ends its process before a statement, or the end of a
// transaction.
type killingDriver struct {
	driver.Driver
	left atomic.Int64 // statements until then, and one; never if 0 or less
}

func (d *killingDriver) step() {
	if d.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (d *killingDriver) Open(dsn string) (driver.Conn, error) {
	c, err := d.Driver.Open(dsn)
	if err != nil {
		return nil, err
	}
	full, ok := c.(fullConn)
	if !ok {
		return nil, fmt.Errorf("the driver's connection %T lacks what a test needs of it", c)
	}
	return &killingConn{full, d}, nil
}

// fullConn is what the connections of both drivers can do.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
}

type killingConn struct {
	fullConn
	d *killingDriver
}

func (c *killingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.d.step()
	return c.fullConn.ExecContext(ctx, query, args)
}

func (c *killingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.d.step()
	return c.fullConn.QueryContext(ctx, query, args)
}

func (c *killingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.d.step() // instead of each use
	return c.fullConn.PrepareContext(ctx, query)
}

func (c *killingConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	c.d.step()
	tx, err := c.fullConn.BeginTx(ctx, o)
	return &killingTx{tx, c.d}, err
}

// CheckNamedValue leaves arguments to the driver, as its own connection does.
func (c *killingConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.fullConn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type killingTx struct {
	driver.Tx
	d *killingDriver
}

func (tx *killingTx) Commit() error {
	tx.d.step()
	err := tx.Tx.Commit()
	tx.d.step()
	return err
}

// victimQueue returns a victim without its gateway, and its queue for the
// survivors, with a clock that is some time ahead.
func victimQueue(t testing.TB, name string) (func(later time.Duration) *queue.Queue, *victim) {
	v := &victim{KillAt: 1}
	switch name {
	case "SQLite":
		v.Driver, v.DSN = "sqlite", "file:"+t.TempDir()+"/queue.db?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	case "PostgreSQL":
		v.Driver, v.DSN = "pgx", newDatabase(t)
	}
	return func(later time.Duration) *queue.Queue {
		return openQueue(t, openDB(t, v.Driver, v.DSN), queue.Options{Now: func() time.Time { return time.Now().Add(later) }})
	}, v
}

// becomeVictim does what a victim does, if this process is one.
func becomeVictim(stderr io.Writer) (exit int, is bool) {
	text, is := os.LookupEnv(victimEnv)
	if !is {
		return 0, false
	}
	var v victim
	err := json.Unmarshal([]byte(text), &v)
	if err == nil {
		err = v.live()
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1, true
	}
	return 0, true
}
