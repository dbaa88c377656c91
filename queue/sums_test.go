// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/queue"
)

// model is what a queue is to do, said in the simplest way.
type model struct {
	queue.Stats
	policy queue.Policy
	known  map[string]*known
	pruned int64
}

// known is an event that is in the queue's tables.
type known struct {
	event      *v1.Event
	size       int64
	state      queue.State
	exportedAt time.Time
	spoiled    bool // its bytes are no event any more
}

func (m *model) add(events ...*v1.Event) {
	for _, e := range events {
		switch {
		case !m.policy.Allows(e.GetFeature()):
			m.Recorded++
			m.Filtered++
		case m.known[e.GetId()] == nil:
			m.Recorded++
			m.Pending++
			m.known[e.GetId()] = &known{event: e, size: int64(proto.Size(e))}
		}
	}
}

// drop forgets a pending event, and counts it.
func (m *model) drop(id string, sum *int64) {
	m.Pending--
	*sum++
	delete(m.known, id)
}

func (m *model) bury(id string) {
	m.Pending--
	m.DeadLettered++
	m.known[id].state = queue.DeadLettered
}

// in returns the events in a state, the oldest first.
func (m *model) in(s queue.State) []string {
	ids := slices.Collect(maps.Keys(m.known))
	ids = slices.DeleteFunc(ids, func(id string) bool { return m.known[id].state != s })
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(m.known[a].event.GetTimestamp().AsTime().Compare(m.known[b].event.GetTimestamp().AsTime()), cmp.Compare(a, b))
	})
	return ids
}

// claim returns what Claim does from the oldest on.
func (m *model) claim(n int) (ids []string) {
	for chunk := range slices.Chunk(m.in(queue.Pending), n) {
		for _, id := range chunk {
			switch k := m.known[id]; {
			case k.spoiled:
				m.bury(id)
			case !m.policy.Allows(k.event.GetFeature()):
				m.drop(id, &m.Filtered)
			default:
				ids = append(ids, id)
			}
		}
		if len(ids) > 0 {
			break
		}
	}
	return ids
}

func (m *model) prune(now time.Time, o queue.Options) (p queue.Pruned) {
	for _, id := range m.in(queue.Exported) {
		if m.known[id].exportedAt.Before(now.Add(-o.Retention)) {
			delete(m.known, id)
			p.Exported++
		}
	}
	m.pruned += p.Exported
	var bytes int64
	for _, id := range m.in(queue.Pending) {
		if o.MaxAge > 0 && m.known[id].event.GetTimestamp().AsTime().Before(now.Add(-o.MaxAge)) {
			m.drop(id, &m.Expired)
			p.Expired++
		} else {
			bytes += m.known[id].size
		}
	}
	for _, id := range m.in(queue.Pending) {
		if o.MaxBytes == 0 || bytes <= o.MaxBytes {
			break
		}
		bytes -= m.known[id].size
		m.drop(id, &m.Expired)
		p.Expired++
	}
	return p
}

// TestSums does with a queue what can be done, at random, and compares it after
// each step with the model.
func TestSums(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		const steps = 150
		random := rand.New(rand.NewPCG(3, 7))
		some := func(ids []string) []string { // about a third
			return slices.DeleteFunc(slices.Clone(ids), func(string) bool { return random.IntN(3) > 0 })
		}
		m := &model{known: map[string]*known{}}
		options := queue.Options{Retention: 20 * time.Minute}
		q := b.open(options)
		made, old := 0, []*v1.Event{}
		for range steps {
			step := []string{"add", "add", "add", "tx", "export", "export", "spoil", "policy", "replay", "prune", "wait", "open"}[random.IntN(12)]
			var fresh []*v1.Event
			if step == "add" || step == "tx" {
				fresh = events(made, 1+random.IntN(8))
				made += len(fresh)
				for _, e := range fresh {
					if random.IntN(3) == 0 {
						e.Feature = "cody.chat"
					}
				}
				old = append(old, fresh...)
				fresh = append(fresh, old[random.IntN(len(old))], fresh[0]) // once more
			}
			switch step {
			case "add":
				b.add(q, fresh...)
				m.add(fresh...)
			case "tx":
				tx, err := b.db.Begin()
				if err != nil {
					t.Fatal(err)
				}
				if err := q.Tx(tx).Add(t.Context(), fresh...); err != nil {
					t.Fatal(err)
				}
				if random.IntN(2) == 0 {
					tx.Rollback()
				} else if err := tx.Commit(); err != nil {
					t.Fatal(err)
				} else {
					m.add(fresh...)
				}
			case "export":
				l := b.lease(q)
				got, want := ids(b.claim(l, 5)), m.claim(5)
				if !slices.Equal(got, want) {
					t.Fatalf("claimed %v, want %v", got, want)
				}
				exported := some(got)
				var dead []queue.Dead
				for _, id := range some(got) {
					dead = append(dead, queue.Dead{ID: id, Reason: "test"})
				}
				b.done(l, exported, dead...)
				for _, id := range exported {
					m.Pending--
					m.Exported++
					m.known[id].state, m.known[id].exportedAt = queue.Exported, b.clock.now()
				}
				for _, d := range dead {
					if m.known[d.ID].state == queue.Pending {
						m.bury(d.ID)
					}
				}
				if err := l.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
			case "spoil":
				for _, id := range some(some(m.in(queue.Pending))) {
					spoiled := slices.Repeat([]byte{0xff}, int(m.known[id].size))
					b.exec("UPDATE telemetry_events_export_queue SET payload_pb = ? WHERE id = ?", spoiled, id)
					m.known[id].spoiled = true
				}
			case "policy":
				m.policy = queue.Policy{Mode: []queue.Mode{queue.All, queue.All, queue.All, queue.Limited, queue.Local}[random.IntN(5)]}
				q.SetPolicy(m.policy)
				var want int64
				for _, id := range m.in(queue.Pending) {
					k := m.known[id]
					if m.policy.Mode == queue.Local || !k.spoiled && !m.policy.Allows(k.event.GetFeature()) {
						m.drop(id, &m.Filtered)
						want++
					}
				}
				if n, err := q.ApplyPolicy(t.Context()); err != nil || n != want {
					t.Fatalf("ApplyPolicy = %d, %v; want %d", n, err, want)
				}
			case "replay":
				replayed := some(m.in(queue.DeadLettered))
				n, err := q.Replay(t.Context(), replayed...)
				if err != nil || n != len(replayed) {
					t.Fatalf("Replay = %d, %v; want %d", n, err, len(replayed))
				}
				for _, id := range replayed {
					m.known[id].state = queue.Pending
					m.Pending++
					m.DeadLettered--
				}
			case "prune":
				got, err := q.Prune(t.Context())
				if want := m.prune(b.clock.now(), options); err != nil || got != want {
					t.Fatalf("Prune = %+v, %v; want %+v", got, err, want)
				}
			case "wait":
				b.clock.advance(time.Duration(random.IntN(600)) * time.Second)
			case "open": // as another process would have it
				options.MaxBytes = int64(random.IntN(3) * 3000)
				options.MaxAge = time.Duration(random.IntN(3)*2) * time.Hour
				options.Policy = m.policy
				q = b.open(options)
			}
			b.expect(q, m.Stats)
			var kept int64
			b.scan("SELECT count(*) FROM telemetry_events_export_queue WHERE exported_at IS NOT NULL", &kept)
			if kept != m.Exported-m.pruned {
				t.Errorf("%d exported events are kept, want %d", kept, m.Exported-m.pruned)
			}
			if t.Failed() {
				t.Fatalf("after %s", step)
			}
		}
		if m.Exported == 0 || m.DeadLettered == 0 || m.Filtered == 0 || m.Expired == 0 || m.pruned == 0 {
			t.Errorf("the sequence does too little: %+v, %d pruned", m.Stats, m.pruned)
		}
	})
}
