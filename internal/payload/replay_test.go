// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// buried returns the dead letter that the gateway makes of an event, and its key.
func buried(t testing.TB, e *payload.Encoder, event []byte) (*payload.DeadLetter, string) {
	t.Helper()
	_, _, v := e.Append(nil, event, receivedAt)
	if v == nil {
		t.Fatal("the event was encoded")
	}
	data, labels := e.AppendDeadLetter(nil, event, receivedAt, v)
	return decoded(t, data), labels.Key
}

// unlandable returns the dead letter that the pipeline makes of a message.
func unlandable(t testing.TB, key string, data []byte, attributes []payload.Label) (*payload.DeadLetter, string) {
	t.Helper()
	data, labels := payload.AppendUnlandable(nil, key, data, attributes, &limits.Violation{Reason: limits.ReasonIDConflict, Field: "id", Message: "x"})
	return decoded(t, data), labels.Key
}

func decoded(t testing.TB, data []byte) *payload.DeadLetter {
	t.Helper()
	letter, err := payload.DecodeDeadLetter(data)
	if err != nil {
		t.Fatal(err)
	}
	if letter.ID != payload.DeadLetterID(data) {
		t.Error("the dead letter does not know its ID")
	}
	return letter
}

// checkReplay fails unless the replay of a dead letter is what e publishes of
// event, but for the label. Replaying again makes no difference.
func checkReplay(t *testing.T, letter *payload.DeadLetter, key string, patch []byte, e *payload.Encoder, event []byte) {
	t.Helper()
	want, wantLabels := encode(t, e, event)
	for range 2 {
		got, labels, err := letter.Replay(key, patch)
		if err != nil {
			t.Fatal(err)
		}
		label := fmt.Sprintf(`,"replay.of":"%s"`, hex.EncodeToString(letter.ID[:]))
		without := strings.Replace(string(got), label, "", 1)
		if diff := cmp.Diff(string(want), without); diff != "" || len(without) == len(got) {
			t.Fatalf("the replay differs (-published +replayed), or has no label %s:\n%s", label, diff)
		}
		if diff := cmp.Diff(wantLabels, labels); diff != "" {
			t.Fatalf("labels differ:\n%s", diff)
		}
	}
}

// anonymous has neither an ID of its own nor one of its licence.
func anonymous() sender {
	s := licensed()
	s.ID, s.License.ID, s.Identity, s.License.Status = "", "", "license/sha256:c0ffee/", "expired"
	s.metadata.GetIdentifier().GetLicensedInstance().InstanceId = ""
	return s
}

func longLicense() sender {
	s := licensed()
	s.License.ID = strings.Repeat("L", limits.AttributeValueBytes+1)
	return s
}

// TestReplayKeepsTheSender whoever it was, and whatever of its licence key is
// shown.
func TestReplayKeepsTheSender(t *testing.T) {
	bad, good := fullEvent(), fullEvent()
	bad.Feature = "not valid"
	for name, s := range map[string]sender{
		"licensed": licensed(), "unlicensed": unlicensed(), "service": managedService(), "anonymous": anonymous(), "long licence ID": longLicense(),
	} {
		for _, form := range []payload.KeyForm{payload.KeyFingerprint, payload.KeyFull, payload.KeyNone} {
			t.Run(name+" "+string(form), func(t *testing.T) {
				e := newEncoder(t, s, form)
				letter, key := buried(t, e, wire(t, bad))
				checkReplay(t, letter, key, []byte(`{"feature":"codeSearch"}`), e, wire(t, good))

				data, labels := encode(t, e, wire(t, good))
				letter, key = unlandable(t, labels.Key, data, labels.Attributes)
				checkReplay(t, letter, key, nil, e, wire(t, good))
				good := fullEvent()
				good.Id = "another/one"
				checkReplay(t, letter, key, []byte(`{"id":"another/one"}`), e, wire(t, good))
			})
		}
	}
}

// TestReplayMends what is wrong with each poison, and leaves the rest of it alone.
func TestReplayMends(t *testing.T) {
	for _, p := range poisons(t) {
		t.Run(p.name, func(t *testing.T) {
			id, private := "", `{"x":null}`
			want := &telemetrygatewayv1.Event{}
			if proto.Unmarshal(p.event, want) != nil {
				want = &telemetrygatewayv1.Event{Id: p.id} // nothing else can be read
			}
			if want.Id == "" || p.reason == limits.ReasonIDTooLong {
				id, want.Id = `"id":"new",`, "new"
			}
			good := minimalEvent()
			want.Timestamp, want.Feature, want.Action, want.User = good.Timestamp, good.Feature, good.Action, nil
			if want.Parameters == nil {
				want.Parameters = &telemetrygatewayv1.EventParameters{}
			}
			delete(want.Parameters.Metadata, "x")
			if p.reason == limits.ReasonTooDeep {
				private, want.Parameters.PrivateMetadata = "null", nil
			} else if want.Parameters.PrivateMetadata == nil {
				want.Parameters.PrivateMetadata = &structpb.Struct{}
			}
			delete(want.Parameters.PrivateMetadata.GetFields(), "x")

			e := newEncoder(t, licensed(), payload.KeyFingerprint)
			letter, key := buried(t, e, p.event)
			if _, _, err := letter.Replay(key, nil); err == nil {
				t.Error("it is published as it was")
			}
			checkReplay(t, letter, key, fmt.Appendf(nil,
				`{%s"timestamp":"2026-03-01T12:00:00Z","feature":"cody.chat","action":"opened","user":null,"parameters":{"metadata":{"x":null},"privateMetadata":%s}}`,
				id, private), e, wire(t, want))
		})
	}
}

// TestReplayIsLossless for whatever was published, also of newer senders.
func TestReplayIsLossless(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFull)
	events := [][]byte{wire(t, legacyEvent()), wire(t, escapesEvent()), newerEvent(t), deep(t, limits.Depth, false)}
	// Fields in an order that nobody would write them in.
	events = append(events, append(newerEvent(t), wire(t, fullEvent())...))
	for random := newRandom(7); len(events) < 300; {
		events = append(events, wire(t, random.event()))
	}
	for _, event := range events {
		data, labels := encode(t, e, event)
		letter, key := unlandable(t, labels.Key, data, labels.Attributes)
		checkReplay(t, letter, key, nil, e, event)
		// The gateway has dead letters of good events when a topic refuses them.
		data, labels = e.AppendDeadLetter(nil, event, receivedAt, &limits.Violation{Reason: limits.ReasonTopicRejected, Message: "x"})
		checkReplay(t, decoded(t, data), labels.Key, nil, e, event)
	}
}

// TestReplayKeepsTheUnknown beside what a patch names.
func TestReplayKeepsTheUnknown(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFull)
	newer := append(wire(t, fullEvent()), newerEvent(t)...)
	letter, key := buried(t, e, append(newer, wire(t, &telemetrygatewayv1.Event{Action: "not valid"})...))
	data, _, err := letter.Replay(key, []byte(`{"action":"opened"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := payload.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	var want telemetrygatewayv1.Event
	if err := proto.Unmarshal(newer, &want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got.Event, &want) {
		t.Errorf("the event is %v, want %v", got.Event, &want)
	}
	for range 20 { // the bytes in "wire" have maps, which have no order
		if again, _, err := letter.Replay(key, []byte(`{"action":"opened"}`)); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("the same replay is another message: %s, %v; want %s", again, err, data)
		}
	}
}

// TestReplayOfAReplay names the last dead letter.
func TestReplayOfAReplay(t *testing.T) {
	e := newEncoder(t, unlicensed(), payload.KeyFingerprint)
	bad := minimalEvent()
	bad.Action = ""
	first, key := buried(t, e, wire(t, bad))
	data, labels, err := first.Replay(key, []byte(`{"action":"opened"}`))
	if err != nil {
		t.Fatal(err)
	}
	second, key := unlandable(t, labels.Key, data, labels.Attributes)
	if second.Labels["replay.of"] != hex.EncodeToString(first.ID[:]) {
		t.Errorf("labels are %v", second.Labels)
	}
	checkReplay(t, second, key, nil, e, wire(t, minimalEvent()))
}

func TestReplayRefuses(t *testing.T) {
	e := newEncoder(t, unlicensed(), payload.KeyFingerprint)
	bad := fullEvent()
	bad.Parameters.PrivateMetadata.Fields["x"] = structpb.NewNumberValue(math.NaN())
	letter, key := buried(t, e, wire(t, bad))
	for patch, want := range map[string]string{
		``:                                       "JSON object",
		`null`:                                   "JSON object",
		`[]`:                                     "JSON object",
		`{"a":1} {}`:                             "JSON object",
		`{"colour":"red"}`:                       `no field "colour"`,
		`{"user":{"colour":"red"}}`:              `user: there is no field "colour"`,
		`{"user":"me"}`:                          "user: want a JSON object",
		`{"user":{"userId":"x"}}`:                "user: userId: ",
		`{"timestamp":"yesterday"}`:              "timestamp: ",
		`{"parameters":{"metadata":1}}`:          "metadata: want a JSON object",
		`{"parameters":{"metadata":{"x":"y"}}}`:  "metadata: ",
		`{"parameters":{"privateMetadata":[1]}}`: "privateMetadata: want a JSON object",
		`{"parameters":{"privateMetadata":"\ud8"}`: "JSON object",
	} {
		if _, _, err := letter.Replay(key, []byte(patch)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("patch %s: %v, want %q", patch, err, want)
		}
	}
	for patch, want := range map[string]limits.Violation{
		`{}`:              {Reason: limits.ReasonNotFinite, Field: "parameters.private_metadata"},
		`{"id":null}`:     {Reason: limits.ReasonIDMissing, Field: "id"},
		`{"action":"A"}`:  {Reason: limits.ReasonActionInvalid, Field: "action"},
		`{"feature":"A"}`: {Reason: limits.ReasonFeatureInvalid, Field: "feature"},
	} {
		_, _, err := letter.Replay(key, []byte(patch))
		var v *limits.Violation
		if !errors.As(err, &v) || v.Reason != want.Reason || v.Field != want.Field {
			t.Errorf("patch %s: %v, want %v", patch, err, want)
		}
	}
	if _, _, err := letter.Replay("", nil); err == nil || !strings.Contains(err.Error(), "who sent") {
		t.Errorf("without a key: %v", err)
	}

	// Messages that are not ours, or not quite.
	data, labels := encode(t, e, wire(t, minimalEvent()))
	for name, row := range map[string]struct{ key, data, want string }{
		"no payload":     {labels.Key, "no payload", "who sent"},
		"no key":         {"", string(data), "who sent"},
		"no metadata":    {labels.Key, strings.Replace(string(data), `"metadata"`, `"data"`, 1), "who sent"},
		"no time":        {labels.Key, strings.Replace(string(data), `"receivedAt"`, `"at"`, 1), "when"},
		"no event":       {labels.Key, strings.Replace(string(data), `"event":`, `"evnt":`, 1), "no payload"},
		"a newer event":  {labels.Key, strings.Replace(string(data), `"event":{`, `"event":{"colour":"red",`, 1), "newer version"},
		"a broken event": {labels.Key, strings.Replace(string(data), `"id":"`, `"id":1,"iD":"`, 1), "cannot be decoded"},
	} {
		letter, key := unlandable(t, row.key, []byte(row.data), labels.Attributes)
		if _, _, err := letter.Replay(key, []byte(`{"action":"opened"}`)); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
}

// TestUnlandable is deterministic and within the limits of every topic.
func TestUnlandable(t *testing.T) {
	e := newEncoder(t, licensed(), payload.KeyFingerprint)
	event := fullEvent()
	for i := range 200 {
		event.Parameters.Metadata[fmt.Sprintf("recordsPrivateMetadata%03d", i)] = 1
	}
	data, labels := encode(t, e, wire(t, event))
	v := &limits.Violation{Reason: limits.ReasonWarehouseRejected, Message: "the warehouse will never take it"}
	want, wantLabels := payload.AppendUnlandable([]byte("before"), labels.Key, data, labels.Attributes, v)
	reversed := slices.Clone(labels.Attributes)
	slices.Reverse(reversed)
	got, gotLabels := payload.AppendUnlandable([]byte("before"), labels.Key, data, reversed, v)
	if !bytes.Equal(got, want) || !cmp.Equal(gotLabels, wantLabels) {
		t.Error("it depends on the order of attributes")
	}
	if len(wantLabels.Attributes) != limits.Attributes || wantLabels.Key != labels.Key || wantLabels.EventID != event.Id {
		t.Errorf("labels are %v", wantLabels)
	}
	_, googles := payload.AppendUnlandable(nil, "a/b", nil, []payload.Label{{Key: "googclient_schemaid", Value: "x"}, {Key: "a"}}, v)
	if len(googles.Attributes) != 2 || googles.Attributes[1].Key != "a" {
		t.Errorf("attributes are %v", googles.Attributes)
	}
	letter := decoded(t, bytes.TrimPrefix(want, []byte("before")))
	if !bytes.Equal(letter.Data, data) || letter.Key != labels.Key || letter.Event != nil || letter.Violation != *v ||
		!letter.ReceivedAt.Equal(receivedAt) || letter.License.ID != "L-7f3a" ||
		letter.Labels["license.status"] != "valid" || letter.Labels["deadletter.reason"] != v.Reason {
		t.Errorf("decoded: %v", letter)
	}
}
