// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/telemetrygateway/telemetry/internal/golden"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// sample is a message that golden files show.
type sample struct {
	data   []byte
	labels payload.Labels
}

// samples returns one message of each kind by the name of its golden file.
func samples(t testing.TB) map[string]sample {
	t.Helper()
	made := map[string]sample{}
	for _, row := range []struct {
		name   string
		sender sender
		form   payload.KeyForm
		event  []byte
	}{
		{"licensed", licensed(), payload.KeyFingerprint, wire(t, fullEvent())},
		{"licensed-key-full", licensed(), payload.KeyFull, wire(t, minimalEvent())},
		{"licensed-key-none", licensed(), payload.KeyNone, wire(t, minimalEvent())},
		{"unlicensed", unlicensed(), payload.KeyFingerprint, wire(t, minimalEvent())},
		{"managed-service", managedService(), payload.KeyFingerprint, wire(t, minimalEvent())},
		{"legacy-metadata", unlicensed(), payload.KeyFingerprint, wire(t, legacyEvent())},
		{"unknown-fields", unlicensed(), payload.KeyFingerprint, newerEvent(t)},
		{"escapes", unlicensed(), payload.KeyFingerprint, wire(t, escapesEvent())},
	} {
		data, labels := encode(t, newEncoder(t, row.sender, row.form), row.event)
		made[row.name] = sample{data, labels}
	}

	bad := minimalEvent()
	bad.Action = "not valid"
	e, event := newEncoder(t, licensed(), payload.KeyFingerprint), wire(t, bad)
	_, _, v := e.Append(nil, event, receivedAt)
	data, labels := e.AppendDeadLetter(nil, event, receivedAt, v)
	made["dead-letter"] = sample{data, labels}

	e, event = newEncoder(t, unlicensed(), payload.KeyFingerprint), []byte{0xff}
	_, _, v = e.Append(nil, event, receivedAt)
	data, labels = e.AppendDeadLetter(nil, event, receivedAt, v)
	made["dead-letter-undecodable"] = sample{data, labels}

	published := made["unlicensed"]
	data, labels = payload.AppendUnlandable(nil, published.labels.Key, published.data, published.labels.Attributes, &limits.Violation{
		Reason: limits.ReasonIDConflict, Field: "id", Message: "an event of this sender with this ID has landed, and its content is another",
	})
	made["dead-letter-unlandable"] = sample{data, labels}
	data, labels = payload.AppendUnlandable(nil, "", []byte("no payload"), []payload.Label{{Key: "of", Value: "somebody else"}}, &limits.Violation{
		Reason: limits.ReasonPayloadInvalid, Message: "is not JSON",
	})
	made["dead-letter-no-payload"] = sample{data, labels}

	letter, err := payload.DecodeDeadLetter(made["dead-letter"].data)
	if err != nil {
		t.Fatal(err)
	}
	data, labels, err = letter.Replay(made["dead-letter"].labels.Key, []byte(`{"action":"executed"}`))
	if err != nil {
		t.Fatal(err)
	}
	made["replayed"] = sample{data, labels}
	return made
}

// TestGolden shows whole messages, key and attributes included. A diff here is
// what a data team will see.
func TestGolden(t *testing.T) {
	all := samples(t)
	for name, s := range all {
		t.Run(name, func(t *testing.T) {
			var compact bytes.Buffer
			if err := json.Compact(&compact, s.data); err != nil {
				t.Fatalf("%v in %s", err, s.data)
			}
			if !bytes.Equal(compact.Bytes(), s.data) {
				t.Errorf("the payload is not compact: %s", s.data)
			}
			golden.Check(t, goldenMessage(t, s), filepath.Join("testdata", name+".json"))
		})
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".json"); all[name].data == nil {
			t.Errorf("%s belongs to no sample: delete it", file)
		}
	}
}

// goldenMessage returns a message for people: indented, attributes in order.
func goldenMessage(t testing.TB, s sample) []byte {
	t.Helper()
	var line, out bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	text := func(s string) {
		if err := enc.Encode(s); err != nil {
			t.Fatal(err)
		}
	}
	line.WriteString(`{"key":`)
	text(s.labels.Key)
	line.WriteString(`,"attributes":{`)
	for i, a := range s.labels.Attributes {
		if i > 0 {
			line.WriteByte(',')
		}
		text(a.Key)
		line.WriteByte(':')
		text(a.Value)
	}
	line.WriteString(`},"data":`)
	line.Write(s.data)
	line.WriteByte('}')
	if err := json.Indent(&out, line.Bytes(), "", "  "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// TestFullEventIsFull fails when a field is added to the contract and not to
// the sample that the golden files and the documentation show.
func TestFullEventIsFull(t *testing.T) {
	var walk func(m protoreflect.Message, path string)
	walk = func(m protoreflect.Message, path string) {
		for i := range m.Descriptor().Fields().Len() {
			field := m.Descriptor().Fields().Get(i)
			name := path + string(field.Name())
			switch {
			case name == "parameters.legacy_metadata": // has a sample of its own
			case !m.Has(field):
				t.Errorf("fullEvent does not set %s", name)
			case contractMessage(field):
				walk(m.Get(field).Message(), name+".")
			}
		}
	}
	walk(fullEvent().ProtoReflect(), "")
}

// contractMessage reports whether a field is a message that the contract itself
// defines.
func contractMessage(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && !field.IsMap() && field.Message().FullName().Parent() != "google.protobuf"
}

func TestSizeOfGoldenAttributes(t *testing.T) {
	for name, s := range samples(t) {
		if len(s.labels.Key) > limits.KeyBytes || len(s.labels.Attributes) > limits.Attributes {
			t.Errorf("%s: the key or the attributes exceed the limits", name)
		}
		for _, a := range s.labels.Attributes {
			if a.Key == "" || a.Value == "" || len(a.Key) > limits.AttributeKeyBytes || len(a.Value) > limits.AttributeValueBytes {
				t.Errorf("%s: attribute %q=%q is empty or exceeds the limits", name, a.Key, a.Value)
			}
		}
	}
}
