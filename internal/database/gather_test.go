// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package database_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/internal/database"
)

// commits records what a gatherer commits. Each commit takes a second.
type commits struct {
	mu   sync.Mutex
	all  [][]int
	fail func(items []int) error
}

func (c *commits) commit(ctx context.Context, items []int) error {
	c.mu.Lock()
	c.all = append(c.all, slices.Clone(items))
	c.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if c.fail != nil {
		return c.fail(items)
	}
	return nil
}

// add calls Add for each of calls, in this order and all at once, and returns
// what they return. The first commit begins with the first call.
func add(ctx context.Context, g *database.Gatherer[int], size int, calls ...[]int) []error {
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	for i, items := range calls {
		wg.Go(func() { errs[i] = g.Add(ctx, size, items...) })
		synctest.Wait()
	}
	wg.Wait()
	return errs
}

func TestGatherer(t *testing.T) {
	for _, c := range []struct {
		name               string
		maxItems, maxBytes int
		calls              [][]int // 10 bytes each
		want               string
	}{
		{"one", 9, 99, [][]int{{1}}, "[[1]]"},
		{"those who came during a commit share the next", 9, 99, [][]int{{1}, {2}, {3, 4}, {5}}, "[[1] [2 3 4 5]]"},
		{"items are limited", 2, 99, [][]int{{1}, {2}, {3}, {4}}, "[[1] [2 3] [4]]"},
		{"bytes are limited", 9, 20, [][]int{{1}, {2}, {3}, {4}}, "[[1] [2 3] [4]]"},
		{"no call is split", 2, 5, [][]int{{1}, {2, 3, 4}, {5}}, "[[1] [2 3 4] [5]]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var done commits
				g := database.NewGatherer(c.maxItems, c.maxBytes, done.commit)
				if err := errors.Join(add(t.Context(), g, 10, c.calls...)...); err != nil {
					t.Error(err)
				}
				if got := fmt.Sprint(done.all); got != c.want {
					t.Errorf("committed %s, want %s", got, c.want)
				}
			})
		})
	}
}

func TestGathererIsolatesPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		poison := errors.New("poison")
		committed := map[int]bool{}
		c := commits{fail: func(items []int) error {
			if slices.Contains(items, 7) {
				return poison
			}
			for _, i := range items {
				committed[i] = true
			}
			return nil
		}}
		g := database.NewGatherer(1000, 1000, c.commit)
		var calls [][]int
		for i := range 100 {
			calls = append(calls, []int{i})
		}
		for i, err := range add(t.Context(), g, 1, calls...) {
			if want := i == 7; errors.Is(err, poison) != want || committed[i] == want {
				t.Errorf("%d: got %v, committed: %v", i, err, committed[i])
			}
		}
		if most := 2 + 2*7; len(c.all) > most { // 7 halvings of 100
			t.Errorf("took %d commits, want at most %d", len(c.all), most)
		}
	})
}

func TestGathererDoesNotSplitForTemporaryErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := commits{fail: func([]int) error { return driver.ErrBadConn }}
		g := database.NewGatherer(1000, 1000, c.commit)
		for _, err := range add(t.Context(), g, 1, []int{1}, []int{2}, []int{3}) {
			if !errors.Is(err, driver.ErrBadConn) {
				t.Errorf("got %v", err)
			}
		}
		if got := fmt.Sprint(c.all); got != "[[1] [2 3]]" {
			t.Errorf("committed %s", got)
		}
	})
}

func TestGathererCallersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c commits
		g := database.NewGatherer(1000, 1000, c.commit)
		patience := func(d time.Duration) context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			t.Cleanup(cancel)
			return ctx
		}
		errs := make([]error, 5)
		var wg sync.WaitGroup
		for i, ctx := range []context.Context{
			t.Context(),                     // has the first commit
			patience(time.Second / 2),       // leaves before the second
			patience(3 * time.Second / 2),   // leaves in the second
			t.Context(),                     // so the second goes on
			patience(100 * 365 * time.Hour), // is not needed
		} {
			wg.Go(func() { errs[i] = g.Add(ctx, 1, i) })
			synctest.Wait()
		}
		wg.Wait()
		if got := fmt.Sprint(c.all); got != "[[0] [2 3 4]]" {
			t.Errorf("committed %s", got)
		}
		if got, want := fmt.Sprint(errs), "[<nil> wait for other writes: context deadline exceeded outcome unknown: context deadline exceeded <nil> <nil>]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}

		// A commit that nobody waits for any more is ended, and the next begins.
		began := time.Now()
		if err := g.Add(patience(time.Second/4), 1, 5); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := g.Add(t.Context(), 1, 6); err != nil || time.Since(began) != 5*time.Second/4 {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Add(ended, 1, 7); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if got := fmt.Sprint(c.all); got != "[[0] [2 3 4] [5] [6]]" {
			t.Errorf("committed %s", got)
		}
	})
}

// TestGathererEndsWhatIsLeft: of a commit that failed, a part is tried for as
// long as its own callers wait, whatever the outcome of the other parts.
func TestGathererEndsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := database.NewGatherer(1000, 1000, func(ctx context.Context, items []int) error {
			time.Sleep(time.Second)
			switch {
			case len(items) > 1:
				return errors.New("one of them is poison")
			case items[0] == 2:
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		errs := add(ctx, g, 1, []int{0}, []int{1}, []int{2})
		if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], context.DeadlineExceeded) {
			t.Errorf("got %v", errs)
		}
		if err := g.Add(t.Context(), 1, 3); err != nil {
			t.Error(err)
		}
	})
}
