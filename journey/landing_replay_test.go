// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

// spoiltEvents is how many events of each sender are to be mended. Replays publish
// 1,000 at once.
const spoiltEvents = 2000

// TestLandingReplay mends dead letters that the gateway and the pipeline have
// made, and kills the command in the middle, again and again. Each event lands
// once in the end, marked with the dead letter that it was.
func TestLandingReplay(t *testing.T) {
	t.Parallel()
	s := streamIn(t)
	g := s.startGateway(t)
	p := s.start(t)
	s.burst(t, g, 6)
	for _, sender := range s.senders {
		sender.kept = append(sender.kept, spoilt(sender.make(spoiltEvents))...)
	}
	s.flush(t, g)
	s.plant(t)
	s.drained(t, p)

	events := s.mendable()
	one := events[len(events)/2]
	letter := s.letter(t, "reason=feature_invalid", "source="+one.source, "source_id="+one.sender, "event_id="+one.id)
	if shown := s.show(t, letter.ID); shown.content().hash() != contentOf(one.event).hash() || shown.Event.ID != one.id {
		t.Errorf("dead letter %s is shown as %+v, want %v", letter.ID, shown, one.event)
	}
	patch := filepath.Join(s.dir, "patch.json")
	write(t, patch, `{"feature": "mended"}`)
	replay := s.deadletter("replay", "-topic", s.landing.topic, "-where", "reason=feature_invalid", "-patch", patch)
	changes := watch(t, filepath.Dir(file(s.landing.topic)))
	kills, between := 0, 0
	for {
		cmd := exec.Command(telemetry, replay...)
		cmd.Env = cleanEnv()
		p := spawn(t, cmd, "replay")
		changes.after(1+30*kills, p.kill)
		if state := p.wait(t); state.Exited() {
			if state.ExitCode() != 0 {
				t.Fatalf("telemetry deadletter replay: %v\n%s", state, p.last())
			}
			break // it makes fewer changes
		}
		kills++
		if n := s.replayed(t); 0 < n && n < len(events) {
			between++
		}
	}
	if between == 0 {
		t.Errorf("it was killed %d times, and never with a part of the events published", kills)
	}
	if n := s.replayed(t); n != len(events) {
		t.Errorf("%d events were replayed, want %d", n, len(events))
	}
	for _, r := range events {
		event := proto.CloneOf(r.event)
		event.Feature = "mended"
		s.planted = append(s.planted, expectation{sender: r.owner(s.license), id: r.id, content: contentOf(event).hash(), must: true})
	}

	// What has the ID of another event gets one of its own.
	conflict := s.letter(t, "reason=id_conflict")
	shown := s.show(t, conflict.ID)
	write(t, patch, `{"id": "mended"}`)
	s.look(t, "replay", "-topic", s.landing.topic, "-where", "id="+conflict.ID, "-patch", patch)
	s.planted = append(s.planted, expectation{
		sender: senderName("licensed_instance", conflict.SourceID, s.license), id: "mended", content: shown.content().hash(), must: true,
	})

	s.redelivered = messages(t, s.landing.topic, "*") - messages(t, s.landing.topic, "DISTINCT data")
	t.Logf("killed %d times, %d of them between two batches: %s", kills, between, s.finishWith(t, p))
	db := openWarehouse(t, s.warehouse, "read_only")
	for query, want := range map[string]int{
		"SELECT count(*) FROM events WHERE replay_of IS NOT NULL": len(events) + 1,
		`SELECT count(*) FROM events e JOIN events_rejected r ON e.replay_of = replace(r.rejected_id::VARCHAR, '-', '')
			WHERE (e.identity, e.event_id, e.received_at, r.stage, r.feature) = (r.identity, r.event_id, r.received_at, 'gateway', 'Not A Feature')`: len(events),
		"SELECT count(*) FROM events WHERE (event_id, replay_of) = ('" + one.id + "', '" + letter.ID + "')": 1,
		"SELECT count(*) FROM events WHERE (event_id, replay_of) = ('mended', '" + conflict.ID + "')":       1,
	} {
		var n int
		if err := db.QueryRow(query).Scan(&n); err != nil {
			t.Fatal(err)
		} else if n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
}

// spoilt makes poison, of the kind that a patch of the feature mends, of events
// that are none.
func spoilt(records []*record) []*record {
	for _, r := range records {
		if !r.poison {
			r.wire, r.poison = poisons[0](r.event), true
		}
	}
	return records
}

// mendable are the events that a patch of the feature mends.
func (s *stream) mendable() (events []*record) {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	for _, r := range s.ledger.records {
		if r.event.GetFeature() == "Not A Feature" {
			events = append(events, r)
		}
	}
	return events
}

// replayed is how many events the topic has that were replayed.
func (s *stream) replayed(t *testing.T) (n int) {
	t.Helper()
	db := openTopic(t, s.landing.topic)
	defer db.Close()
	if err := db.QueryRow(`SELECT count(DISTINCT key) FROM messages WHERE instr(data, CAST('"replay.of"' AS BLOB)) > 0`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// deadletter returns the arguments of a command.
func (s *stream) deadletter(args ...string) []string {
	return append(append([]string{"deadletter"}, args...), "-deadletter", s.landing.deadLetter)
}

// look runs a command on the dead letters.
func (s *stream) look(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	stdout, stderr, exit := run(t, s.dir, nil, s.deadletter(args...)...)
	if exit != 0 {
		t.Fatalf("telemetry deadletter %s: exit %d: %s%s", strings.Join(args, " "), exit, stdout, stderr)
	}
	return stdout
}

// letter is a line of telemetry deadletter ls.
type letter struct {
	ID       string
	SourceID string `json:"source_id"`
}

// letter returns the one dead letter of which all conditions hold.
func (s *stream) letter(t *testing.T, conditions ...string) (l letter) {
	t.Helper()
	args := []string{"ls", "-format", "json"}
	for _, c := range conditions {
		args = append(args, "-where", c)
	}
	if lines := s.look(t, args...); json.Unmarshal([]byte(lines), &l) != nil {
		t.Fatalf("want one dead letter with %v:\n%s", conditions, lines)
	}
	return l
}

// show returns the event of a dead letter.
func (s *stream) show(t *testing.T, id string) (p payload) {
	t.Helper()
	text := s.look(t, "show", id)
	var letter struct {
		ID    string
		Event json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &letter); err != nil {
		t.Fatalf("telemetry deadletter show printed %s: %v", text, err)
	}
	if err := json.Unmarshal(letter.Event, &p.Event); err != nil || letter.ID != id {
		t.Fatalf("dead letter %s is shown as %s: %v", id, text, err)
	}
	return p
}
