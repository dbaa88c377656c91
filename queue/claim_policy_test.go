// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/queue"
)

// What leaves of an event is decided when it leaves: also if it was queued
// under a looser policy, or not by us at all.
func TestClaimRedactsByThePolicyInForce(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		allow := func(keys string) *queue.AllowList {
			t.Helper()
			l, err := queue.ParseAllowed("search::executed::" + keys)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		private := func(fields map[string]any) *structpb.Struct {
			t.Helper()
			s, err := structpb.NewStruct(fields)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		loose := queue.Policy{Allow: allow("lang::repo")}
		q := b.open(queue.Options{Policy: loose})

		plain := event(0)
		allowed := event(1)
		allowed.Parameters.PrivateMetadata = private(map[string]any{"lang": "Go"})
		both := event(2)
		both.Parameters.PrivateMetadata = private(map[string]any{"lang": "Go", "repo": "secret"})
		b.add(q, plain, allowed, both)

		// As the original, or anybody with access to its table, may have queued.
		marketing := event(3)
		marketing.MarketingTracking = &v1.EventMarketingTracking{Url: new("secret")}
		unknown := event(4)
		for _, m := range []proto.Message{unknown, unknown.Source.Client, unknown.User} {
			m.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 1234, protowire.BytesType), "secret"))
		}
		deep := event(5)
		deep.Parameters.PrivateMetadata = private(map[string]any{"lang": map[string]any{"of": []any{"secret"}}, "other": "secret"})
		sameSize := event(6) // as what is put in its place
		sameSize.Parameters.PrivateMetadata = private(map[string]any{"lang": []any{true, "secret" + string(make([]byte, 74))}})
		twice := event(7) // of two values the event has the last
		var size int64
		for _, e := range []*v1.Event{marketing, unknown, deep, sameSize, twice} {
			payload, err := proto.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if e == twice {
				payload = append(protowire.AppendString(protowire.AppendTag(nil, 3, protowire.BytesType), "secret"), payload...)
			}
			size += int64(len(payload))
			b.exec("INSERT INTO telemetry_events_export_queue (id, timestamp, payload_pb) VALUES (?, ?, ?)",
				e.GetId(), b.dialect.Time(e.GetTimestamp().AsTime()), payload)
		}
		b.exec("INSERT INTO telemetry_events_export_ledger (recorded, filtered, exported, dead_lettered, expired, bytes, pruned) VALUES (5, 0, 0, 0, 0, ?, 0)", size)

		tight := queue.Policy{Allow: allow("lang")}
		q.SetPolicy(tight)
		l := b.lease(q)
		rows := b.claim(l, 100)
		want := []*v1.Event{plain, allowed, both, marketing, unknown, deep, sameSize, twice}
		if len(rows) != len(want) {
			t.Fatalf("claimed %d events, want %d", len(rows), len(want))
		}
		check := func(i int, got *v1.Event) {
			t.Helper()
			if diff := cmp.Diff(queue.Redact(want[i], tight), got, protocmp.Transform()); diff != "" {
				t.Errorf("event %d (-may leave +leaves):\n%s", i, diff)
			}
		}
		var bytesLeft int64
		for i, r := range rows {
			var got v1.Event
			if err := proto.Unmarshal(r.Event, &got); err != nil {
				t.Fatal(err)
			}
			check(i, &got)
			if bytes.Contains(r.Event, []byte("secret")) {
				t.Errorf("event %d: the bytes that leave have the secret in them: %q", i, r.Event)
			}
			bytesLeft += int64(len(r.Event))
		}

		// The queue has forgotten the rest, and counts what it has.
		stats, err := q.Stats(t.Context())
		if err != nil || stats.Bytes != bytesLeft || stats.Pending != int64(len(want)) {
			t.Errorf("stats = %+v, %v; want %d bytes", stats, err, bytesLeft)
		}
		b.done(l, ids(rows))
		page, err := q.List(t.Context(), queue.Exported, 100, "")
		if err != nil || len(page.Items) != len(want) {
			t.Fatalf("%d events are listed as exported: %v", len(page.Items), err)
		}
		for i := range want {
			for _, item := range page.Items {
				if item.ID == want[i].GetId() {
					check(i, item.Event)
				}
			}
		}
		b.expect(q, queue.Stats{Recorded: 8, Exported: 8})

		// The vendor's own instance keeps everything.
		whole := event(8)
		whole.MarketingTracking = marketing.MarketingTracking
		whole.Parameters.PrivateMetadata = both.Parameters.PrivateMetadata
		q.SetPolicy(queue.Policy{Vendor: true})
		b.add(q, whole)
		l.Rewind()
		rows = b.claim(l, 100)
		var got v1.Event
		if len(rows) != 1 || proto.Unmarshal(rows[0].Event, &got) != nil || !proto.Equal(&got, whole) {
			t.Errorf("of the vendor's own event this leaves: %v", &got)
		}
	})
}
