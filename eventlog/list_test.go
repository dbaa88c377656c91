// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package eventlog_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/telemetrygateway/telemetry/eventlog"
)

func TestListPages(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, _ := open(t, url, eventlog.Options{})
		page, err := log.List(t.Context(), 10, "", eventlog.Filter{})
		if err != nil || len(page.Items) != 0 || page.Next != "" || page.Total != 0 {
			t.Errorf("an empty log has %+v, %v", page, err)
		}
		add(t, log, events("x", 1002)...)
		for _, c := range []struct{ first, want int }{{-1, 1}, {0, 1}, {1, 1}, {1000, 1000}, {1001, 1000}, {1 << 62, 1000}} {
			page, err := log.List(t.Context(), c.first, "", eventlog.Filter{})
			if err != nil || len(page.Items) != c.want || page.Total != 1002 || page.Items[0].ID != "x1001" {
				t.Errorf("first %d: got %d of %d, %v; want %d", c.first, len(page.Items), page.Total, err, c.want)
			}
		}
		// The number of pages is exact, also when the last one is full.
		for _, first := range []int{1, 334, 501, 1000} {
			if got := len(list(t, log, first, eventlog.Filter{})); got != 1002 {
				t.Errorf("pages of %d: %d events", first, got)
			}
		}
		for _, after := range []string{"x", "AAAA", strings.Repeat("A", 12), "!"} {
			if _, err := log.List(t.Context(), 1, after, eventlog.Filter{}); err == nil || !strings.Contains(err.Error(), "cursor") {
				t.Errorf("cursor %q: got %v", after, err)
			}
		}
	})
}

func TestListIsStable(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, _ := open(t, url, eventlog.Options{})
		add(t, log, events("old", 5)...)
		page, err := log.List(t.Context(), 2, "", eventlog.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		add(t, log, events("new", 5)...)
		page, err = log.List(t.Context(), 9, page.Next, eventlog.Filter{})
		if err != nil || len(page.Items) != 3 || page.Items[0].ID != "old2" || page.Next != "" {
			t.Errorf("got %+v, %v", page, err)
		}
	})
}

func TestListFilters(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, _ := open(t, url, eventlog.Options{})
		es := events("", 6)
		es[1].Feature = "other"
		es[2].Action = "other"
		es[3].User.UserId = proto.Int64(8)
		es[4].User.AnonymousUserId = proto.String("someone")
		es[5].User = nil
		add(t, log, es...)
		for _, c := range []struct {
			filter eventlog.Filter
			want   string
		}{
			{eventlog.Filter{}, "[5 4 3 2 1 0]"},
			{eventlog.Filter{Feature: "codeSearch"}, "[5 4 3 2 0]"},
			{eventlog.Filter{Action: "other"}, "[2]"},
			{eventlog.Filter{UserID: 7}, "[4 2 1 0]"},
			{eventlog.Filter{AnonymousUserID: "someone"}, "[4]"},
			{eventlog.Filter{Feature: "codeSearch", Action: "executed", UserID: 7, AnonymousUserID: "visitor"}, "[0]"},
			{eventlog.Filter{Feature: "code%"}, "[]"},
		} {
			ids := list(t, log, 2, c.filter)
			if got := fmt.Sprint(ids); got != c.want {
				t.Errorf("%+v: got %s, want %s", c.filter, got, c.want)
			}
			if page, err := log.List(t.Context(), 1, "", c.filter); err != nil || page.Total != int64(len(ids)) {
				t.Errorf("%+v: total is %d, %v; want %d", c.filter, page.Total, err, len(ids))
			}
		}
	})
}

// TestListBoundsBytes: the largest page takes little memory.
func TestListBoundsBytes(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, _ := open(t, url, eventlog.Options{})
		const n = 24
		for _, e := range events("", n) {
			e.Parameters.PrivateMetadata.Fields["large"] = structpb.NewStringValue(strings.Repeat("x", 1<<20))
			add(t, log, e)
		}
		page, err := log.List(t.Context(), 1000, "", eventlog.Filter{})
		if err != nil || len(page.Items) != 16 {
			t.Errorf("got %d events, %v; want 16 MiB", len(page.Items), err)
		}
		if got := len(list(t, log, 1000, eventlog.Filter{})); got != n {
			t.Errorf("all pages have %d events, want %d", got, n)
		}
	})
}

func TestListUndecodable(t *testing.T) {
	forEach(t, func(t *testing.T, url string) {
		log, db := open(t, url, eventlog.Options{})
		add(t, log, events("", 2)...)
		garbage := map[bool]string{true: `'\xff'`, false: `x'ff'`}[strings.HasPrefix(url, "postgres:")]
		if _, err := db.Exec("UPDATE telemetry_event_log SET payload_pb = " + garbage + " WHERE id = '1'"); err != nil {
			t.Fatal(err)
		}
		page, err := log.List(t.Context(), 9, "", eventlog.Filter{})
		if err != nil || len(page.Items) != 2 || page.Items[0].Event != nil || page.Items[1].Event == nil {
			t.Errorf("got %+v, %v", page, err)
		}
	})
}
