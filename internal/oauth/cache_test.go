// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"testing"
	"time"
)

func TestCacheForgetsWhatWasNotUsedForLongest(t *testing.T) {
	c := newCache(3)
	d := func(i int) digest { return digest{byte(i)} }
	has := func(want ...int) {
		t.Helper()
		if len(c.byToken) != len(want) || c.entries.Len() != len(want) {
			t.Fatalf("has %d and %d entries, want %d", len(c.byToken), c.entries.Len(), len(want))
		}
		for _, i := range want {
			if c.byToken[d(i)] == nil {
				t.Fatalf("%d is forgotten", i)
			}
		}
	}
	for i := range 3 {
		c.put(d(i), answer{})
	}
	c.get(d(0))
	c.put(d(3), answer{})
	has(0, 2, 3)
	c.put(d(2), answer{claims: &Claims{ClientID: "new"}})
	c.put(d(4), answer{})
	has(2, 3, 4)
	if a, ok := c.get(d(2)); !ok || a.claims.ClientID != "new" {
		t.Errorf("is %+v after it was put again", a)
	}
	c.drop(d(3))
	c.drop(d(3))
	has(2, 4)
	if _, ok := c.get(d(3)); ok {
		t.Error("what was dropped is there")
	}
}

func TestAnswersCount(t *testing.T) {
	asked := time.Now()
	for _, row := range []struct {
		expires, age time.Duration // expires is after asked; zero for never
		want         bool
	}{
		{0, 0, true},
		{0, Bound - 1, true},
		{0, Bound, false},
		{10, 9, true},
		{10, 10, false},
		{-1, 0, false},
		{time.Hour, Bound, false},
	} {
		claims := &Claims{}
		if row.expires != 0 {
			claims.Expires = asked.Add(row.expires)
		}
		if got := (answer{claims: claims, asked: asked}).counts(asked.Add(row.age), Bound); got != row.want {
			t.Errorf("%+v: counts is %v", row, got)
		}
	}
}
