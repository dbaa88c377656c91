// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"encoding/base64"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/queue"
)

// pages returns all of a list, page by page, and runs between after each.
func (b *bed) pages(q *queue.Queue, s queue.State, first int, between func()) (ids []string) {
	b.Helper()
	for after := ""; ; {
		p, err := q.List(b.Context(), s, first, after)
		if err != nil {
			b.Fatal(err)
		}
		if len(p.Items) > first {
			b.Fatalf("a page of %d items, want %d at most", len(p.Items), first)
		}
		for _, i := range p.Items {
			ids = append(ids, i.ID)
		}
		if after = p.Next; after == "" {
			return ids
		}
		between()
	}
}

func TestList(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		es := events(0, 60)
		for i := range es {
			es[i].Timestamp = event(i / 10).GetTimestamp() // ten at each moment
		}
		b.add(q, es...)
		l := b.lease(q)
		for range 4 { // ten at each moment, too
			rows := b.claim(l, 10)
			var dead []queue.Dead
			for _, r := range rows[5:] {
				dead = append(dead, queue.Dead{ID: r.ID, Reason: "too_large"})
			}
			b.done(l, ids(rows[:5]), dead...)
			b.clock.advance(time.Second)
		}
		var exported, dead []string
		for c := range slices.Chunk(eventIDs(es[:40]), 10) {
			exported = append(exported, c[:5]...)
			dead = append(dead, c[5:]...)
		}
		slices.Reverse(exported) // the latest first
		slices.Reverse(dead)
		for _, row := range []struct {
			state queue.State
			want  []string
		}{{queue.Pending, eventIDs(es[40:])}, {queue.Exported, exported}, {queue.DeadLettered, dead}} {
			for _, first := range []int{1, 3, 20, 1000} {
				if got := b.pages(q, row.state, first, func() {}); !slices.Equal(got, row.want) {
					t.Errorf("state %d by %d: %v, want %v", row.state, first, got, row.want)
				}
			}
			p, err := q.List(t.Context(), row.state, math.MaxInt, "")
			if err != nil || p.Total != int64(len(row.want)) || len(p.Items) != len(row.want) {
				t.Errorf("state %d: total %d, %v; want %d", row.state, p.Total, err, len(row.want))
			}
			for _, i := range p.Items {
				if i.Event.GetId() != i.ID || i.At.IsZero() != (row.state == queue.Pending) || (i.Reason == "too_large") != (row.state == queue.DeadLettered) {
					t.Errorf("state %d: %+v", row.state, i)
				}
			}
		}
		// What comes and goes meanwhile does not disturb the rest.
		got := b.pages(q, queue.Exported, 3, func() {
			l.Rewind()
			b.done(l, ids(b.claim(l, 1)))
			b.clock.advance(time.Second)
		})
		if !slices.Equal(got, exported) {
			t.Errorf("while more were exported: %v, want %v", got, exported)
		}
	})
}

func TestListBounds(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		es := events(0, 1200)
		for c := range slices.Chunk(es, 400) {
			b.add(q, c...)
		}
		for first, want := range map[int]int{-1: 1, 0: 1, 1000: 1000, 5000: 1000} {
			if p, err := q.List(t.Context(), queue.Pending, first, ""); err != nil || len(p.Items) != want || p.Next == "" {
				t.Errorf("List(%d) = %d items (%v), want %d and more", first, len(p.Items), err, want)
			}
		}
		p, err := q.List(t.Context(), queue.Pending, 1, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, cursor := range []string{"?", "x", base64.RawURLEncoding.EncodeToString([]byte("0 x y")), base64.RawURLEncoding.EncodeToString([]byte("0 1 x\x00y")), base64.RawURLEncoding.EncodeToString([]byte("0 1 \xff")), p.Next + "?"} {
			if _, err := q.List(t.Context(), queue.Pending, 1, cursor); err == nil || !strings.Contains(err.Error(), "cursor") {
				t.Errorf("List after %q: %v, want that it is no cursor", cursor, err)
			}
		}
		for _, s := range []queue.State{queue.Exported, -1, 3} {
			if _, err := q.List(t.Context(), s, 1, p.Next); err == nil {
				t.Errorf("state %d takes a cursor of another list", s)
			}
		}
	})
}

// Large events make small pages, so that a page always fits into memory.
func TestListLarge(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		q := b.open(queue.Options{})
		es := events(0, 20)
		for _, e := range es {
			e.Source.Client.Name = strings.Repeat("x", 1<<20-1000)
		}
		for _, e := range es {
			b.add(q, e)
		}
		p, err := q.List(t.Context(), queue.Pending, 1000, "")
		if err != nil || len(p.Items) != 8 {
			t.Errorf("%d items (%v), want 8 MiB", len(p.Items), err)
		}
		if got := b.pages(q, queue.Pending, 1000, func() {}); !slices.Equal(got, eventIDs(es)) {
			t.Errorf("%v, want %v", got, eventIDs(es))
		}
	})
}
