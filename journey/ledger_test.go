// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// A record is what is known of one event, outside the processes under test.
type record struct {
	source string // kind of sender
	sender string
	number int
	id     string // empty for poison without one
	event  *pb.Event
	wire   []byte
	poison bool // can never be published
	sent   int  // how often
	// outcome is unspecified until an acknowledgement has arrived.
	outcome pb.EventVerdict_Outcome
}

// want is what must become of the event.
func (r *record) want() pb.EventVerdict_Outcome {
	if r.poison {
		return pb.EventVerdict_OUTCOME_DEAD_LETTERED
	}
	return pb.EventVerdict_OUTCOME_ACCEPTED
}

// name finds the event: good ones by sender and ID, poison by its bytes.
func (r *record) name() string {
	if r.poison {
		return string(r.wire)
	}
	return eventName(r.source, r.sender, r.id)
}

func eventName(source, sender, id string) string { return source + " " + sender + " " + id }

// A ledger has a record of every event that was ever sent.
type ledger struct {
	mu      sync.Mutex
	records map[string]*record
	acks    int
	wrong   []string // acknowledgements that should not be
	// doubt is set from the moment at which the disk is gone, and doubtful
	// counts the acknowledgements that arrived after it.
	doubt    bool
	doubtful int

	// first is when the first acknowledgement of this round arrived.
	first   time.Time
	goal    int           // acks
	reached chan struct{} // closed at goal
}

func newLedger() *ledger { return &ledger{records: map[string]*record{}} }

// round begins to count anew and returns a channel that is closed after n
// acknowledgements.
func (l *ledger) round(n int) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first, l.goal, l.reached, l.doubt = time.Time{}, l.acks+n, make(chan struct{}), false
	return l.reached
}

// firstAck is when the first acknowledgement of this round arrived.
func (l *ledger) firstAck() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// send is called before events are sent.
func (l *ledger) send(events []*record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range events {
		r.sent++
		l.records[r.name()] = r
	}
}

// cut is called just before the power is cut. Later acknowledgements do not
// count: a real cut would have taken the gateway with it. That makes a
// difference, because an fsync that is under way while ext4 is shut down may
// return success and have written nothing.
func (l *ledger) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubt = true
}

// acknowledge is called once an acknowledgement has arrived, and says whether it
// counts.
func (l *ledger) acknowledge(r *record, outcome pb.EventVerdict_Outcome) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doubt {
		l.doubtful++
		return false
	}
	if outcome != r.want() {
		l.wrong = append(l.wrong, fmt.Sprintf("event %d of %s is %v, want %v", r.number, r.sender, outcome, r.want()))
	}
	r.outcome = outcome
	if l.first.IsZero() {
		l.first = time.Now()
	}
	if l.acks++; l.acks == l.goal {
		close(l.reached)
	}
	return true
}

// figures sum up what a check found.
type figures struct{ sent, acknowledged, published, deadLettered, duplicates, lost int }

func (f figures) String() string {
	return fmt.Sprintf("%d events sent, %d acknowledged, %d published, %d dead-lettered, %d duplicates, %d lost",
		f.sent, f.acknowledged, f.published, f.deadLettered, f.duplicates, f.lost)
}

// check compares the ledger with what is in the topics. All that has been
// acknowledged must be there; nothing may be there that was not sent, nor
// oftener than it was sent.
func (l *ledger) check(t testing.TB, topicURL, deadURL string) figures {
	t.Helper()
	found := map[string]int{}
	var f figures
	for line := range readTopic(t, topicURL) {
		f.published++
		name := eventName(line.Attributes["publisher.source"], line.Attributes["publisher.id"], line.Data.Event.ID)
		found[name]++
		l.mu.Lock()
		r := l.records[name]
		l.mu.Unlock()
		switch {
		case r == nil || r.poison:
			t.Errorf("the topic has event %q, which was never sent there", name)
		case line.Attributes["event.id"] != r.id ||
			line.Data.Event.Parameters.Metadata["number"] != float64(r.number) ||
			line.Data.Event.Parameters.PrivateMetadata["sender"] != r.sender:
			t.Errorf("event %s is not as it was sent: %+v", r.id, line)
		}
	}
	for line := range readTopic(t, deadURL) {
		f.deadLettered++
		name := string(line.Data.wire)
		found[name]++
		l.mu.Lock()
		r := l.records[name]
		l.mu.Unlock()
		if r == nil || !r.poison {
			t.Errorf("the dead letters have an event that was never sent, or is not as it was sent: %+v", line)
		}
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	f.sent = len(l.records)
	for name, r := range l.records {
		if r.outcome != pb.EventVerdict_OUTCOME_UNSPECIFIED {
			f.acknowledged++
			if found[name] == 0 {
				f.lost++
			}
		}
	}
	if f.lost > 0 {
		t.Errorf("%d of %d acknowledged events are lost", f.lost, f.acknowledged)
	}
	for name, n := range found {
		f.duplicates += n - 1
		if r := l.records[name]; r != nil && n > r.sent {
			t.Errorf("event %d of %s is there %d times and was sent %d times", r.number, r.sender, n, r.sent)
		}
	}
	for _, w := range l.wrong {
		t.Error(w)
	}
	l.wrong = nil
	return f
}

// topicLine is a line of telemetry tail, as far as it is compared.
type topicLine struct {
	Key        string
	Attributes map[string]string
	Data       struct {
		Event struct {
			ID         string
			Parameters struct {
				Metadata        map[string]float64
				PrivateMetadata map[string]any
			}
		} `json:"-"`
		wire []byte // the event of a dead letter
	}
}

// readTopic prints a SQLite topic with telemetry tail and yields its lines.
func readTopic(t testing.TB, url string) func(yield func(topicLine) bool) {
	t.Helper()
	stdout, stderr, exit := run(t, "", nil, "tail", "-topic", url, "-from-start")
	if exit != 0 || stderr != "" {
		t.Fatalf("telemetry tail -topic %s: exit %d: %s", url, exit, stderr)
	}
	return func(yield func(topicLine) bool) {
		for text := range strings.Lines(stdout) {
			var line topicLine
			var data struct {
				Data struct{ Event json.RawMessage }
			}
			err := json.Unmarshal([]byte(text), &line)
			if err == nil {
				err = json.Unmarshal([]byte(text), &data)
			}
			// In a dead letter the event is its bytes in base64.
			if event := data.Data.Event; err == nil && len(event) > 0 && event[0] == '"' {
				err = json.Unmarshal(event, &line.Data.wire)
			} else if err == nil {
				err = json.Unmarshal(event, &line.Data.Event)
			}
			if err != nil {
				t.Fatalf("telemetry tail printed %.200q: %v", text, err)
			}
			if !yield(line) {
				return
			}
		}
	}
}
