// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// diffRows compares all columns. Private metadata is compared as JSON: a number
// may be written in several ways.
func diffRows(want, got *warehouse.Row) string {
	return cmp.Diff(want, got, cmp.FilterPath(
		func(p cmp.Path) bool { return p.Last().String() == ".PrivateMetadata" },
		cmp.Comparer(func(a, b []byte) bool {
			if a == nil || b == nil {
				return a == nil && b == nil
			}
			var one, other any
			return json.Unmarshal(a, &one) == nil && json.Unmarshal(b, &other) == nil && cmp.Equal(one, other)
		})))
}

// TestCanonical holds for all that gateways write: it is read in one pass, and
// makes the row that payload.Decode makes.
func TestCanonical(t *testing.T) {
	e := licensedEncoder(t, payload.KeyFull)
	r := random{rand.New(rand.NewPCG(1, 2))}
	var last origin
	for range 2000 {
		event := r.event()
		m := encode(t, e, event)
		var got, want warehouse.Row
		if !decodeCanonical(m.Data, &got, &last) {
			t.Fatalf("not read in one pass: %s", m.Data)
		}
		if v := decodeAny(m.Data, &want); v != nil {
			t.Fatalf("%v: %s", v, m.Data)
		}
		if diff := diffRows(&want, &got); diff != "" {
			t.Fatalf("%s\n(-any +canonical):\n%s", m.Data, diff)
		}
		if v := Decode(&m, &got); v != nil || got.EventID != event.GetId() || got.Identity != "license/L-7f3a/site-1" {
			t.Fatalf("%v: key %q, identity %q, ID %q of %q", v, m.Key, got.Identity, got.EventID, event.GetId())
		}
	}
}

// TestOrigin decodes messages of several senders after one another: what is kept
// of one never shows in another's row.
func TestOrigin(t *testing.T) {
	var last origin
	for _, m := range published(t) {
		for range 2 { // the second time it is the last one's sender
			var got, want warehouse.Row
			if v, why := decode(&m, &got, &last), Decode(&m, &want); !cmp.Equal(v, why) {
				t.Fatalf("%v, want %v: %s", v, why, m.Data)
			}
			if diff := diffRows(&want, &got); diff != "" {
				t.Fatalf("%s\n(-alone +after others):\n%s", m.Data, diff)
			}
		}
	}
}

// TestDecodeInAnyForm writes one payload in forms that gateways do not use. Each
// makes the same row, save for the bytes themselves.
func TestDecodeInAnyForm(t *testing.T) {
	m := encode(t, licensedEncoder(t, payload.KeyFingerprint), typicalEvent())
	var want warehouse.Row
	if v := Decode(&m, &want); v != nil {
		t.Fatal(v)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, m.Data, "", "  "); err != nil {
		t.Fatal(err)
	}
	replace := func(of ...string) []byte { return []byte(strings.NewReplacer(of...).Replace(string(m.Data))) }
	for name, data := range map[string][]byte{
		"white space":      indented.Bytes(),
		"field of a newer": replace(`"event":{`, `"event":{"newer":[{"a":1}],`),
		"label of a newer": replace(`"labels":{`, `"labels":{"newer":"1",`),
		"part of a newer":  replace(`{"metadata":{`, `{"newer":{"a":[null]},"metadata":{"newer":true,`),
		"licence's newer":  replace(`"license":{`, `"license":{"newer":1.5,`),
		"proto names":      replace(`"anonymousUserId"`, `"anonymous_user_id"`),
		"null":             replace(`"event":{`, `"event":{"marketingTracking":null,`),
		"number as text":   replace(`"resultCount":42`, `"resultCount":"42"`),
		"text as number":   replace(`"userId":"1234"`, `"userId":1234`),
		"other exponent":   replace(`"resultCount":42`, `"resultCount":4.2E1`),
		"other zone":       replace(`"timestamp":"2026-03-01T12:00:00.250Z"`, `"timestamp":"2026-03-01T13:00:00.25+01:00"`),
		"escapes":          replace(`"search.results"`, `"s\u0065arch.results"`, `"code`, `"\u0063ode`),
		"other order":      replace(`"new-navigation":"false","search-ranking-v2":"true"`, `"search-ranking-v2":"true","new-navigation":"false"`),
	} {
		t.Run(name, func(t *testing.T) {
			if bytes.Equal(data, m.Data) {
				t.Fatal("nothing is replaced")
			}
			var got warehouse.Row
			if v := Decode(&topic.Message{Key: m.Key, Data: data}, &got); v != nil {
				t.Fatalf("%v: %s", v, data)
			}
			if !bytes.Equal(got.Payload, data) {
				t.Errorf("payload is %s", got.Payload)
			}
			if !Same(data, m.Data) || !Same(m.Data, data) {
				t.Error("it is not the same event")
			}
			got.Payload, got.ContentHash = want.Payload, want.ContentHash
			if diff := diffRows(&want, &got); diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNewerSender shows that fields which the gateway did not know land too, and
// are part of what makes an event the same.
func TestNewerSender(t *testing.T) {
	e := licensedEncoder(t, payload.KeyFingerprint)
	wire, err := proto.Marshal(typicalEvent())
	if err != nil {
		t.Fatal(err)
	}
	var rows [2]warehouse.Row
	for i := range rows {
		newer := protowire.AppendVarint(protowire.AppendTag(bytes.Clone(wire), 900, protowire.VarintType), uint64(i))
		data, labels, v := e.Append(nil, newer, receivedAt)
		if v != nil {
			t.Fatal(v)
		}
		if v := Decode(&topic.Message{Key: labels.Key, Data: data}, &rows[i]); v != nil {
			t.Fatal(v)
		}
		if !bytes.Contains(rows[i].Payload, []byte(`"wire":"`)) {
			t.Errorf("payload is %s", rows[i].Payload)
		}
	}
	if rows[0].KeyHash != rows[1].KeyHash || rows[0].ContentHash == rows[1].ContentHash || Same(rows[0].Payload, rows[1].Payload) {
		t.Error("events that differ in an unknown field are the same, or have different keys")
	}
	var known warehouse.Row
	m := encode(t, e, typicalEvent())
	if v := Decode(&m, &known); v != nil {
		t.Fatal(v)
	}
	known.Payload, known.ContentHash = rows[0].Payload, rows[0].ContentHash
	if diff := diffRows(&known, &rows[0]); diff != "" {
		t.Errorf("row (-without the field +with it):\n%s", diff)
	}
}

func TestKey(t *testing.T) {
	e := licensedEncoder(t, payload.KeyFingerprint)
	event := typicalEvent()
	event.Id = "a/b%2F c\x00?é"
	m := encode(t, e, event)
	if strings.Count(m.Key, "/") != 3 {
		t.Fatalf("key is %q", m.Key)
	}
	var row warehouse.Row
	if v := Decode(&m, &row); v != nil || row.Identity != "license/L-7f3a/site-1" || row.EventID != event.Id {
		t.Errorf("%v: identity %q, ID %q", v, row.Identity, row.EventID)
	}
	for _, key := range []string{
		"", "/", "license", "/" + m.Key[strings.LastIndexByte(m.Key, '/')+1:], "license/L-7f3a/site-1/",
		"license/L-7f3a/site-1/" + event.Id, "license/L-7f3a/site-1/other", m.Key + "/", m.Key + "%", m.Key + "x",
		"license\x00" + m.Key[strings.LastIndexByte(m.Key, '/'):], "license\xff" + m.Key[strings.LastIndexByte(m.Key, '/'):],
	} {
		v := Decode(&topic.Message{Key: key, Data: m.Data}, &row)
		if v == nil || v.Reason != limits.ReasonPayloadInvalid || v.Field != "key" {
			t.Errorf("key %q: %v", key, v)
		}
	}
	// Where the identity ends cannot be shifted.
	if keyHash("a", "b/c") == keyHash("a/b", "c") {
		t.Error("two keys have the same hash")
	}
}

// TestDecodeRefuses lists messages that are no payloads. None of the answers
// quotes the message.
func TestDecodeRefuses(t *testing.T) {
	m := encode(t, licensedEncoder(t, payload.KeyFingerprint), typicalEvent())
	replace := func(of ...string) string { return strings.NewReplacer(of...).Replace(string(m.Data)) }
	within := func(value string) string { return replace(`"labels":{`, `"secret":`+value+`,"labels":{`) }
	for name, data := range map[string]string{
		"nothing":               "",
		"null":                  "null",
		"list":                  "[]",
		"no parts":              "{}",
		"not JSON":              "secret",
		"cut off":               string(m.Data[:len(m.Data)-1]),
		"something after it":    string(m.Data) + "{}",
		"comma at the end":      replace(`"labels":{`, `"labels":{,`),
		"no event":              replace(`"event":{`, `"other":{`),
		"no labels":             replace(`"labels":{`, `"other":{`),
		"no metadata":           replace(`"metadata":{"identifier"`, `"other":{"identifier"`),
		"no sender":             replace(`"licensedInstance"`, `"secretInstance"`),
		"two senders":           replace(`"identifier":{`, `"identifier":{"unlicensedInstance":{},`),
		"no ID":                 replace(`"id":"0190`, `"secret":"0190`),
		"empty ID":              replace(`"id":"0190c7a5-6f00-7000-8000-000000000001"`, `"id":""`),
		"no feature":            replace(`"feature":"search.results",`, ``),
		"no action":             replace(`"action":"executed",`, ``),
		"no timestamp":          replace(`"timestamp"`, `"secret"`),
		"timestamp too early":   replace(`"timestamp":"2026`, `"timestamp":"0000`),
		"timestamp not one":     replace(`"timestamp":"2026`, `"timestamp":"secret`),
		"no receivedAt":         replace(`"receivedAt"`, `"secret"`),
		"receivedAt not a time": replace(`"receivedAt":"2026`, `"receivedAt":"secret`),
		"receivedAt too early":  replace(`"receivedAt":"2026-03-01T11:30:15.123456789Z"`, `"receivedAt":"0001-01-01T00:00:00+01:00"`),
		"label not text":        replace(`"labels":{`, `"labels":{"secret":1,`),
		"field of another type": replace(`"userId":"1234"`, `"userId":"secret"`),
		"field twice":           replace(`"user":{`, `"user":{},"user":{`),
		"metadata twice":        replace(`"position":7`, `"position":7,"position":8`),
		"flag twice":            replace(`"context-panel":"true"`, `"context-panel":"true","context-panel":"false"`),
		"number too large":      replace(`"position":7`, `"position":1e309`),
		"number of 400 digits":  replace(`"position":7`, `"position":`+strings.Repeat("9", 400)),
		"number in hexadecimal": replace(`"position":7`, `"position":0x7`),
		"number with a zero":    replace(`"position":7`, `"position":07`),
		"infinite number":       replace(`"position":7`, `"position":"Infinity"`),
		"private NaN":           replace(`"parameters":{`, `"parameters":{"privateMetadata":{"a":NaN},`),
		"private number":        replace(`"parameters":{`, `"parameters":{"privateMetadata":{"a":1e999},`),
		"private list":          replace(`"parameters":{`, `"parameters":{"privateMetadata":[],`),
		"private twice":         replace(`"parameters":{`, `"parameters":{"privateMetadata":{"a":1,"a":2},`),
		"version too large":     replace(`"version":2`, `"version":2147483648`),
		"wire not base64":       replace(`"labels":{`, `"wire":"!","labels":{`),
		"wire not an event":     replace(`"labels":{`, `"wire":"/w==","labels":{`),
		"wire another event":    replace(`"labels":{`, `"wire":"","labels":{`),
		"not UTF-8":             within("\"secret\xff\""),
		"control character":     within("\"secret\n\""),
		"high surrogate":        within(`"secret\ud800"`),
		"low surrogate":         within(`"secret\udc00"`),
		"surrogates swapped":    within(`"secret\udc00\ud800"`),
		"surrogate and letter":  within(`"secret\ud800\u0061"`),
		"deep list":             within(strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000)),
		"deep object":           within(strings.Repeat(`{"a":`, nesting) + "1" + strings.Repeat("}", nesting)),
		"only openings":         strings.Repeat(`{"a":[`, 1_000_000),
	} {
		t.Run(name, func(t *testing.T) {
			if data == string(m.Data) {
				t.Fatal("nothing is replaced")
			}
			var row warehouse.Row
			v := Decode(&topic.Message{Key: m.Key, Data: []byte(data)}, &row)
			if v == nil || v.Reason != limits.ReasonPayloadInvalid {
				t.Fatalf("%v, row %+v", v, row)
			}
			if strings.Contains(v.Error(), "secret") {
				t.Errorf("%q quotes the message", v.Error())
			}
		})
	}
	for name, data := range map[string]string{
		"deepest":         within(strings.Repeat("[", nesting-1) + strings.Repeat("]", nesting-1)),
		"surrogate pair":  within(`"\ud83d\ude00 \\ud800"`),
		"brackets inside": within(`"` + strings.Repeat("[", 1000) + `\"[{"`),
	} {
		var row warehouse.Row
		if v := Decode(&topic.Message{Key: m.Key, Data: []byte(data)}, &row); v != nil {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestSame(t *testing.T) {
	e := licensedEncoder(t, payload.KeyFingerprint)
	one := encode(t, e, typicalEvent()).Data
	event := typicalEvent()
	event.Parameters.Metadata["position"]++
	other := encode(t, e, event).Data
	later := bytes.Replace(one, []byte(`"receivedAt":"2026`), []byte(`"receivedAt":"2027`), 1)
	switch {
	case !Same(one, later) || bytes.Equal(one, later):
		t.Error("an event received later is another")
	case Same(one, other) || Same(other, one):
		t.Error("an event with another number is the same")
	case Same(one, nil) || Same(nil, one) || Same(nil, nil):
		t.Error("no payload is the same as another")
	}
}

// FuzzDecode holds for any message. It has a row exactly if payload.Decode
// understands it, nothing in it is such as warehouses must not be given, and its
// key is right. What is read in one pass makes the same row as what is not.
func FuzzDecode(f *testing.F) {
	for _, m := range published(f) {
		f.Add(m.Key, m.Data)
	}
	r := random{rand.New(rand.NewPCG(3, 4))}
	for range 20 {
		m := encode(f, licensedEncoder(f, payload.KeyFull), r.event())
		f.Add(m.Key, m.Data)
	}
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		original := bytes.Clone(data)
		var canonical, other, row warehouse.Row
		var last origin
		fast := decodeCanonical(data, &canonical, &last)
		if again := decodeCanonical(data, &canonical, &last); again != fast {
			t.Fatalf("read in one pass: %t, and then %t", fast, again)
		}
		v := decodeAny(data, &other)
		if fast && v != nil {
			t.Fatalf("read in one pass, but %v", v)
		}
		if _, err := payload.Decode(data); v == nil && err != nil {
			t.Fatalf("has a row, but %v", err)
		}
		if v == nil && (other.EventID == "" || other.Feature == "" || other.Action == "" || other.Source == "") {
			t.Fatalf("row is %+v", other)
		}
		if fast {
			if diff := diffRows(&other, &canonical); diff != "" {
				t.Fatalf("row (-any +canonical):\n%s", diff)
			}
		}
		m := topic.Message{Key: key, Data: data}
		switch refused := Decode(&m, &row); {
		case v != nil && refused == nil:
			t.Fatalf("has a row, but %v", v)
		case refused != nil && refused.Reason != limits.ReasonPayloadInvalid:
			t.Fatal(refused)
		case refused == nil:
			if row.KeyHash != keyHash(row.Identity, row.EventID) || !bytes.Equal(row.Payload, data) || !Same(data, data) {
				t.Fatalf("row is %+v", row)
			}
		}
		var rejected warehouse.Rejected
		DecodeRejected(&m, &rejected)
		if rejected.Reason == "" || rejected.Stage == "" || !json.Valid(rejected.PrivateMetadata) && rejected.PrivateMetadata != nil {
			t.Fatalf("rejected is %+v", rejected)
		}
		if !bytes.Equal(data, original) {
			t.Fatal("the message was changed")
		}
	})
}
