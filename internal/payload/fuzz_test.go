// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// FuzzAppend holds for any bytes: they become either a payload that the schema
// accepts and Decode understands, or a violation of a known reason with a dead
// letter that gives them back.
func FuzzAppend(f *testing.F) {
	for _, p := range poisons(f) {
		if len(p.event) < 1<<17 {
			f.Add(p.event)
		}
	}
	for _, e := range []*telemetrygatewayv1.Event{fullEvent(), minimalEvent(), legacyEvent(), escapesEvent()} {
		f.Add(wire(f, e))
	}
	f.Add(newerEvent(f))
	f.Add(deep(f, limits.Depth, false))
	f.Add(deep(f, limits.Depth, true))

	permanent := map[string]bool{}
	for _, r := range limits.Reasons() {
		permanent[r.Code] = r.Permanent
	}
	schema := compileSchema(f)
	e := newEncoder(f, licensed(), payload.KeyFull)
	const before = "before"

	f.Fuzz(func(t *testing.T, event []byte) {
		var decoded telemetrygatewayv1.Event
		decodeErr := proto.Unmarshal(event, &decoded)
		original := bytes.Clone(event)
		out, labels, v := e.Append([]byte(before), event, receivedAt)
		if !bytes.Equal(event, original) || !bytes.HasPrefix(out, []byte(before)) {
			t.Fatal("the event or dst was changed")
		}
		if v != nil {
			if string(out) != before || !permanent[v.Reason] {
				t.Fatalf("dst is %q and the violation %v", out, v)
			}
			switch v.Reason {
			case limits.ReasonInvalidUTF8:
				if decodeErr == nil {
					t.Fatalf("%v, but protobuf decodes it", v)
				}
			case limits.ReasonUndecodable:
				if decodeErr == nil && limits.CheckEvent(&decoded) == nil {
					t.Fatalf("%v, but protobuf decodes it and nothing is wrong with it", v)
				}
			case limits.ReasonTooDeep:
			default:
				if decodeErr != nil {
					t.Fatalf("%v, but protobuf cannot even decode it: %v", v, decodeErr)
				}
				if labels.EventID != decoded.GetId() {
					t.Fatalf("event ID is %q, want %q", labels.EventID, decoded.GetId())
				}
			}
			data, _ := e.AppendDeadLetter(nil, event, receivedAt, v)
			if err := validate(schema, data); err != nil {
				t.Fatal(err)
			}
			letter, err := payload.DecodeDeadLetter(data)
			if err != nil || !bytes.Equal(letter.Event, event) || letter.Violation != *v {
				t.Fatalf("dead letter is %v, %v", letter, err)
			}
			return
		}
		if decodeErr != nil {
			t.Fatalf("the event was encoded, but protobuf cannot decode it: %v", decodeErr)
		}
		data := out[len(before):]
		if err := validate(schema, data); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		m, err := payload.Decode(data)
		if err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		if m.Event.GetId() != decoded.GetId() || labels.EventID != decoded.GetId() || m.Labels["event.id"] != decoded.GetId() {
			t.Fatalf("event IDs are %q, %q and %q, want %q", m.Event.GetId(), labels.EventID, m.Labels["event.id"], decoded.GetId())
		}
	})
}

// FuzzFastIsPlain compares the two ways on any bytes and, if they are fields, on
// what becomes of them once they are edited as script says, with lengths that
// are right: three bytes for each edit say where and which, and what is beyond
// the known ones takes its content from the script.
func FuzzFastIsPlain(f *testing.F) {
	for _, event := range mutated(f) {
		f.Add(event, []byte(nil))
	}
	for _, p := range poisons(f) {
		if len(p.event) < 1<<12 {
			f.Add(p.event, []byte{0, 1, 2})
		}
	}
	f.Add(wire(f, fullEvent()), []byte("\x00\x05\x10\x03\x01\xffé\xe2"))
	encoders := []*payload.Encoder{
		newEncoder(f, licensed(), payload.KeyFull), newEncoder(f, unlicensed(), payload.KeyFingerprint),
	}
	edits := edits()
	f.Fuzz(func(t *testing.T, event, script []byte) {
		same(t, encoders[len(event)%2], event)
		tree, ok := takeApart(eventDescriptor, event)
		if !ok || len(event) > 1<<16 {
			return
		}
		for n := 0; len(script) >= 3 && n < 8; n++ {
			levels := levels(&tree)
			if len(levels) == 0 {
				break
			}
			level := levels[int(script[0])%len(levels)]
			i, which := int(script[1])%len(*level), int(script[2])
			script = script[3:]
			switch {
			case which < 200:
				edits[(which*7+n)%len(edits)](level, i)
			default:
				size := min(which-200, len(script))
				content(script[:size])(level, i)
				if size >= 8 {
					change(protowire.Fixed64Type, func(p *part) { p.value = script[:8] })(level, i)
				}
				script = script[size:]
			}
		}
		same(t, encoders[0], putTogether(tree))
	})
}

// FuzzAppendUnlandable holds that any message becomes a dead letter that can be
// decoded, within the limits of topics.
func FuzzAppendUnlandable(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.labels.Key, s.data, "event.id", "x")
		f.Add("no\xff key"+strings.Repeat("/", limits.KeyBytes), append(s.data, 0), "deadletter.reason", "x\xff")
	}
	data := samples(f)["unlicensed"].data
	for _, change := range [][2]string{
		{`"requestId"`, `"requestID":1,"requestId"`},
		{`"unlicensedInstance":{`, `"unlicensedInstance":{"instanceId":"` + "\xff" + `",`},
		{`"receivedAt":"2026`, `"receivedAt":"9999`},
		{`30:15.123456789Z"`, `30:15-23:59"`},
		{`"labels":{`, `"labels":{"a":1,`},
		{`"labels":{`, `"labels":null,"x":{`},
		{`"metadata":{`, `"metadata":null,"x":{`},
	} {
		f.Add("a/b", bytes.Replace(data, []byte(change[0]), []byte(change[1]), 1), "googclient_schemaid", "x")
	}
	f.Add("a/b", []byte(`{"labels":{"receivedAt":"9999-12-31T23:59:59-01:00"}}`), "receivedAt", "0000-01-01T00:00:00+01:00")
	f.Add("a/b", []byte(`{"labels":{"receivedAt":"0000-01-01T00:00:00+01:00"}}`), "", strings.Repeat("x", 1025))
	schema := compileSchema(f)
	v := &limits.Violation{Reason: limits.ReasonPayloadInvalid, Message: "is not JSON"}
	f.Fuzz(func(t *testing.T, key string, data []byte, name, value string) {
		original := bytes.Clone(data)
		got, labels := payload.AppendUnlandable([]byte("before"), key, data, []payload.Label{{Key: name, Value: value}, {Key: "a", Value: "b"}}, v)
		if !bytes.Equal(data, original) || !bytes.HasPrefix(got, []byte("before")) {
			t.Fatal("data or dst was changed")
		}
		got = got[len("before"):]
		if err := validate(schema, got); err != nil {
			t.Fatalf("%v in %s", err, got)
		}
		letter, err := payload.DecodeDeadLetter(got)
		if err != nil || !bytes.Equal(letter.Data, data) || letter.Violation != *v || letter.Labels["deadletter.reason"] != v.Reason {
			t.Fatalf("dead letter is %v, %v", letter, err)
		}
		if utf8.ValidString(key) && letter.Key != key || len(labels.Key) > limits.KeyBytes || !utf8.ValidString(labels.Key) {
			t.Fatalf("keys are %q and %q, not %q", letter.Key, labels.Key, key)
		}
		for i, a := range labels.Attributes {
			if a.Key == "" || len(a.Key) > limits.AttributeKeyBytes || len(a.Value) > limits.AttributeValueBytes ||
				!utf8.ValidString(a.Key+a.Value) || i > 0 && a.Key == labels.Attributes[i-1].Key {
				t.Fatalf("attributes are %q", labels.Attributes)
			}
		}
		again, _ := payload.AppendUnlandable(nil, key, data, []payload.Label{{Key: "a", Value: "b"}, {Key: name, Value: value}}, v)
		if !bytes.Equal(got, again) {
			t.Fatalf("the same message becomes two dead letters: %s and %s", got, again)
		}
		// Whatever it is, a replay of it is a payload or an error.
		if replay, _, err := letter.Replay(labels.Key, nil); err == nil {
			if _, err := payload.Decode(replay); err != nil {
				t.Fatalf("%v in %s", err, replay)
			}
		}
	})
}

// FuzzPatch compares with RFC 7396 on the JSON of an event: what is replayed is
// what the RFC makes of it.
func FuzzPatch(f *testing.F) {
	for _, patch := range []string{
		`{}`, `{"id":"new","action":null}`, `{"user":null}`, `{"user":{"userId":null,"anonymousUserId":"x"}}`, `{"user":{"userId":9007199254740993}}`,
		`{"parameters":{"metadata":{"took":null,"x":1e21,"y":-0.0}}}`, `{"parameters":{"metadata":null,"privateMetadata":{"nested":{"list":[null],"a":{"b":{"c":null}}}}}}`,
		`{"parameters":{"privateMetadata":{"query":{"a":null,"b":[{"c":null}]},"none":1}}}`, `{"parameters":{"privateMetadata":{"nested":"x","<":"\u2028"}}}`,
		`{"featureFlags":{"flags":{"new-ui":null,"<b>":"1"}}}`, `{"interaction":{"geolocation":{}}}`, `{"timestamp":"2026-01-01T00:00:00+01:00"}`,
		`{"source":{"client":{"version":""}}}`, `{"parameters":{"version":2.0}}`, `{"parameters":{"legacyMetadata":{"a":"1","took":2}}}`, `{"parameters":{"metadata":{"a":"NaN"}}}`,
		`{"id":{}}`, `{"timestamp":{"seconds":1}}`, `{"parameters":{"version":2e400}}`,
	} {
		f.Add([]byte(patch))
	}
	e := newEncoder(f, licensed(), payload.KeyFull)
	data, labels := encode(f, e, wire(f, fullEvent()))
	letter, key := unlandable(f, labels.Key, data, labels.Attributes)
	var in struct{ Event any }
	unmarshal(f, data, &in)
	f.Fuzz(func(t *testing.T, patch []byte) {
		got, _, err := letter.Replay(key, patch)
		var changes any
		if json.Unmarshal(patch, &changes) != nil {
			if err == nil {
				t.Fatalf("the patch is no JSON, and yet there is %s", got)
			}
			return
		}
		patched, marshalErr := json.Marshal(rfc7396(in.Event, changes))
		if marshalErr != nil {
			t.Fatal(marshalErr)
		}
		want := &telemetrygatewayv1.Event{}
		if protojson.Unmarshal(patched, want) != nil {
			return // numbers beyond 2^53 in the oracle, names in snake_case
		}
		if err != nil {
			// Patches may be refused that the RFC lets pass, such as one that
			// names a field twice; but not for what becomes of the event.
			var refused *limits.Violation
			if errors.As(err, &refused) {
				if _, _, v := e.Append(nil, wire(t, want), receivedAt); v == nil || *v != *refused {
					t.Fatalf("%v, but RFC 7396 yields %s: %v", err, patched, v)
				}
			}
			return
		}
		wantData, _ := encode(t, e, wire(t, want))
		m, err := payload.Decode(got)
		if err != nil {
			t.Fatal(err)
		}
		w, err := payload.Decode(wantData)
		if err != nil {
			t.Fatal(err)
		}
		if w.Event.User != nil && m.Event.User != nil {
			w.Event.User.UserId = m.Event.User.UserId // a float64 in the oracle
		}
		if !proto.Equal(m.Event, w.Event) {
			t.Fatalf("the event is %v, RFC 7396 yields %v", m.Event, w.Event)
		}
	})
}

// rfc7396 is the algorithm of section 2 of the RFC.
func rfc7396(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	merged := map[string]any{}
	if object, ok := target.(map[string]any); ok {
		maps.Copy(merged, object)
	}
	for name, value := range changes {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = rfc7396(merged[name], value)
		}
	}
	return merged
}
