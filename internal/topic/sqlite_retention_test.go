// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestSQLiteRetention(t *testing.T) {
	type step struct {
		publish int           // messages of 100 bytes
		read    int           // by the subscription "a"
		wait    time.Duration // and until it has been cleaned
		want    Stats         // Bytes is left out: 100 a message; so is Oldest
	}
	for _, tt := range []struct {
		name  string
		o     sqliteOptions
		steps []step
	}{
		{"without a subscription all is kept", sqliteOptions{retention: time.Minute}, []step{
			{publish: 10, wait: 100 * time.Minute, want: Stats{Messages: 10}},
		}},
		{"what is read is kept for the retention", sqliteOptions{retention: time.Minute}, []step{
			{publish: 10, read: 10, wait: 50 * time.Second, want: Stats{Messages: 10}},
			{publish: 5, wait: 30 * time.Second, want: Stats{Messages: 5}},
			{wait: 100 * time.Minute, want: Stats{Messages: 5}},
			{read: 5, wait: 2 * cleanEvery, want: Stats{}},
		}},
		{"more than one transaction's worth", sqliteOptions{retention: time.Minute}, []step{
			{publish: 2*cleanMessages + 100, read: 2*cleanMessages + 100, wait: 2 * time.Minute, want: Stats{}},
		}},
		{"too old is removed unread", sqliteOptions{retention: time.Minute, maxAge: 10 * time.Minute}, []step{
			{publish: 10, wait: 9 * time.Minute, want: Stats{Messages: 10}},
			{publish: 5, wait: 2 * time.Minute, want: Stats{Messages: 5, ExpiredUnread: 10}},
			{read: 5, wait: 2 * cleanEvery, want: Stats{ExpiredUnread: 10}},
		}},
		{"too much is removed, read or not", sqliteOptions{retention: time.Minute, maxBytes: 1000}, []step{
			{publish: 10, wait: 2 * cleanEvery, want: Stats{Messages: 10}},
			{read: 4, wait: 2 * cleanEvery, want: Stats{Messages: 10}},
			{publish: 7, wait: 2 * cleanEvery, want: Stats{Messages: 10, ExpiredUnread: 3}},
			{publish: 25, wait: 2 * cleanEvery, want: Stats{Messages: 10, ExpiredUnread: 28}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "topic.db")
				topic := sqliteTestTopic(t, path, tt.o)
				var sub Subscription
				for i, s := range tt.steps {
					mustPublish(t, topic, slices.Repeat([]Message{{Data: make([]byte, 100)}}, s.publish)...)
					if s.read > 0 {
						if sub == nil {
							sub = mustSubscribe(t, "sqlite://"+path+"?subscription=a")
						}
						acknowledge(t, sub, s.read)
					}
					time.Sleep(s.wait)
					synctest.Wait()
					got := mustStats(t, topic)
					if want := 100 * got.Messages; got.Bytes != want {
						t.Errorf("step %d: %d bytes for %d messages, want %d", i, got.Bytes, got.Messages, want)
					}
					if (got.Messages > 0) == got.Oldest.IsZero() || time.Since(got.Oldest) < s.wait && got.Messages > 0 {
						t.Errorf("step %d: the oldest of %d messages is from %v", i, got.Messages, got.Oldest)
					}
					got.Bytes, got.Oldest = 0, time.Time{}
					if got != s.want {
						t.Errorf("step %d: stats %+v, want %+v", i, got, s.want)
					}
				}
			})
		})
	}
}
