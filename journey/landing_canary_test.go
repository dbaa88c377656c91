// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// TestLandingCanaries puts a text of its own into every field of events that land
// and of all kinds of dead letters, has a licence key in each payload, and searches
// for them wherever people and machines look who are not to see what events hold:
// logs, metrics, health, profiles, lists of dead letters and the balance. A query
// and telemetry deadletter show have them, on purpose.
func TestLandingCanaries(t *testing.T) {
	t.Parallel()
	s := streamIn(t)
	s.load.flags = append(s.load.flags, "-payload-license-key", "full", "-log-level", "debug")
	g := s.startGateway(t)
	p := s.start(t, "-log-level", "debug")
	holds, rejected := newCanaries(), newCanaries()
	key := s.senders[0].license
	for _, part := range []string{key, key[len(key)/2:][:40], key[len(key)-40:]} {
		holds.add("the licence key", part)
	}
	good := holds.event("good")
	again := proto.CloneOf(good)
	again.User.AnonymousUserId = proto.String(rejected.put("an event whose ID was taken"))
	s.sendEvents(t, g, marshal(good), marshal(good))
	s.sendEvents(t, g, append(rejected.poisons(), marshal(again))...)
	s.publish(t, s.landing.topic, rejected.put("what is no payload"), `{"event": {"feature": "`+rejected.put("half a payload")+`"}}`)
	s.publish(t, s.landing.deadLetter, rejected.put("what is no dead letter"))
	s.drained(t, p)

	// The search finds what is there.
	ask := func(query string) string {
		stdout, _, _ := runPipeline(t, nil, "query", "-warehouse", "duckdb://"+s.warehouse, "-format", "json", query)
		return stdout
	}
	holds.each(t, "events", ask("SELECT * FROM events"))
	rejected.texts().each(t, "events_rejected", ask("SELECT * FROM events_rejected"))
	var shown strings.Builder
	ids := s.query(t, "SELECT replace(rejected_id::VARCHAR, '-', '') AS id FROM events_rejected")
	for _, row := range ids {
		shown.WriteString(s.look(t, "show", row["id"].(string)))
	}
	rejected.texts().each(t, "telemetry deadletter show", shown.String())

	places := map[string]string{}
	see := func(when string) {
		for _, path := range []string{"/metrics", "/readyz", "/livez", "/version", "/debug/pprof/goroutine?debug=2"} {
			places["the pipeline's "+path+when] = fetch(t, p.admin, path)
		}
		places["the gateway's metrics"+when] = fetch(t, g.admin, "/metrics")
	}
	see("")
	for _, args := range [][]string{
		{"ls"}, {"ls", "-format", "json"}, {"ls", "-where", "reason=id_conflict"}, {"replay", "-dry-run", "-topic", s.landing.topic},
	} {
		stdout, stderr, _ := run(t, s.dir, nil, s.deadletter(args...)...) // some cannot be replayed
		places["telemetry deadletter "+strings.Join(args, " ")] = stdout + stderr
		if n := strings.Count(stdout, "\n"); args[0] != "ls" && n <= len(ids) || n == 0 {
			t.Errorf("telemetry deadletter %v prints\n%s%s", args, stdout, stderr)
		}
	}
	for _, format := range []string{"table", "json"} {
		stdout, stderr, exit := runPipeline(t, nil, append([]string{"balance", "-format", format}, s.landing.flags...)...)
		places["telemetry-pipeline balance -format "+format] = stdout + stderr
		if exit != 0 || !strings.Contains(stdout, "site-0") {
			t.Errorf("telemetry-pipeline balance: exit %d: %s%s", exit, stdout, stderr)
		}
	}

	// An error quotes what it is about to who asked, and to nobody else.
	stdout, stderr, exit := runPipeline(t, nil, "query", "-warehouse", "duckdb://"+s.warehouse, "SELECT feature::INTEGER FROM events")
	if exit == 0 || !strings.Contains(stderr, good.Feature) {
		t.Errorf("telemetry-pipeline query of what is no number: exit %d: %s%s", exit, stdout, stderr)
	}
	// Nor do errors of its own. There is another file in the warehouse's place.
	if err := os.Rename(s.warehouse, s.warehouse+".aside"); err != nil {
		t.Fatal(err)
	}
	write(t, s.warehouse, holds.put("what is no warehouse"))
	s.sendEvents(t, g, marshal(holds.event("late")))
	p.await(t, "level=ERROR .*cannot insert")
	status, body := 0, ""
	poll(t, "pipeline that is not ready", func() bool {
		status, body = p.get(t, "/readyz")
		return status == http.StatusServiceUnavailable
	}, func() string { return body })
	see(" without its warehouse")
	if err := os.Rename(s.warehouse+".aside", s.warehouse); err != nil {
		t.Fatal(err)
	}
	s.drained(t, p)
	stopPipeline(t, p)
	places["the pipeline's log"], places["the gateway's log"] = p.tail(1e6), g.tail(1e6)
	for _, text := range []string{"level=DEBUG", "messages that cannot land"} {
		if !strings.Contains(places["the pipeline's log"], text) {
			t.Errorf("the pipeline's log does not have %q:\n%s", text, p.last())
		}
	}
	for what, text := range places {
		holds.none(t, what, text)
		rejected.none(t, what, text)
	}
}

// add makes a canary of a text.
func (c *canaries) add(where, text string) {
	c.all = append(c.all, text)
	c.where[text] = where
}

// texts returns those that are no numbers, which bytes of protobuf hide.
func (c *canaries) texts() *canaries {
	texts := &canaries{prefix: c.prefix, where: map[string]string{}}
	for _, text := range c.all {
		if strings.HasPrefix(text, c.prefix) {
			texts.add(c.where[text], text)
		}
	}
	return texts
}

// event returns an event with a canary in each of its fields but its ID, which
// tells events apart wherever something is said about them.
func (c *canaries) event(id string) *pb.Event {
	e := new(pb.Event)
	c.fill(e.ProtoReflect())
	e.Id, e.Timestamp = id, timestamppb.Now()
	return e
}

// fill learns of new fields from the descriptor.
func (c *canaries) fill(m protoreflect.Message) {
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		where := string(f.FullName())
		switch message := f.Message(); {
		case f.Name() == "id": // of the event
		case f.IsMap():
			key := protoreflect.ValueOfString(c.put("a key in " + where)).MapKey()
			m.Mutable(f).Map().Set(key, c.scalar(where, f.MapValue().Kind()))
		case message == nil:
			m.Set(f, c.scalar(where, f.Kind()))
		case message.FullName() == "google.protobuf.Timestamp":
		case message.FullName() == "google.protobuf.Struct":
			private, err := structpb.NewStruct(c.object(where))
			if err != nil {
				panic(err) // texts make one
			}
			m.Set(f, protoreflect.ValueOfMessage(private.ProtoReflect()))
		default:
			c.fill(m.Mutable(f).Message())
		}
	}
}

// scalar returns a canary, which is a text or a number that is nowhere else.
func (c *canaries) scalar(where string, kind protoreflect.Kind) protoreflect.Value {
	n := 7_318_245_901_000 + len(c.all)
	switch kind {
	case protoreflect.Int64Kind:
		c.add(where, strconv.Itoa(n))
		return protoreflect.ValueOfInt64(int64(n))
	case protoreflect.DoubleKind:
		c.add(where, strconv.Itoa(n))
		return protoreflect.ValueOfFloat64(float64(n))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(1) // too short for a canary
	}
	return protoreflect.ValueOfString(c.put(where))
}

// poisons are events that a gateway does not publish, each with something wrong in
// what is a canary where that can be.
func (c *canaries) poisons() [][]byte {
	feature, number, late := c.event("feature"), c.event("number"), c.event("late")
	feature.Feature += " " + c.put("a feature that is none")
	number.Parameters.Metadata[c.put("the key of what is no number")] = math.NaN()
	late.Timestamp = nil
	deep := c.event("deep")
	for range 40 {
		inner := structpb.NewStructValue(deep.Parameters.PrivateMetadata)
		deep.Parameters.PrivateMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{c.put("a key too deep"): inner}}
	}
	return [][]byte{marshal(feature), marshal(number), marshal(late), marshal(deep), append(marshal(c.event("cut")), 0x07)}
}

// sendEvents has a licensed instance send events, and waits until they are
// acknowledged.
func (s *stream) sendEvents(t *testing.T, g *process, events ...[]byte) {
	t.Helper()
	conn, err := dial(g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := openStream(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	sender := s.senders[0]
	if err := stream.SendMsg(metadataFrame(sender.license, sender.id)); err != nil {
		t.Fatal(err)
	}
	for _, wire := range events {
		var response pb.RecordEventsResponse
		if err := stream.SendMsg(frame([]*record{{wire: wire}})); err != nil {
			t.Fatal(err)
		}
		if err := receive(stream, &response); err != nil || response.Verdicts[0].Outcome == pb.EventVerdict_OUTCOME_FAILED {
			t.Fatalf("%v: %v", &response, err)
		}
	}
}

// publish publishes to a topic what no gateway would.
func (s *stream) publish(t *testing.T, url string, data ...string) {
	t.Helper()
	to, err := topic.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	for i, text := range data {
		for _, err := range to.Publish(t.Context(), []topic.Message{{Key: fmt.Sprint("planted/", i), Data: []byte(text)}}) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
