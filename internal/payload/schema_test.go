// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/reflect/protoreflect"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

const schemaFile = "../../docs/payload.schema.json"

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(schema *jsonschema.Schema, data []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

func TestSchemaAcceptsSamples(t *testing.T) {
	schema := compileSchema(t)
	for name, s := range samples(t) {
		if err := validate(schema, s.data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	random := newRandom(2)
	e := newEncoder(t, licensed(), "full")
	for range 200 {
		data, _ := encode(t, e, wire(t, random.event()))
		if err := validate(schema, data); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	schema := compileSchema(t)
	all := samples(t)
	for _, row := range []struct {
		name, sample, old, new string
	}{
		{"no event", "unlicensed", `"event":{`, `"evnt":{`},
		{"no labels", "unlicensed", `"labels":`, `"labls":`},
		{"no metadata", "unlicensed", `"metadata":`, `"metdata":`},
		{"unknown sender", "unlicensed", `"unlicensedInstance"`, `"pirate"`},
		{"no event ID", "unlicensed", `"event":{"id":"0190c7a5-6f00-7000-8000-000000000002",`, `"event":{`},
		{"digit in feature", "unlicensed", `"feature":"cody.chat"`, `"feature":"cody2"`},
		{"timestamp is not RFC 3339", "unlicensed", `"timestamp":"2026-03-01T12:00:00Z"`, `"timestamp":"yesterday"`},
		{"number for an int64", "licensed", `"userId":"1234"`, `"userId":1234`},
		{"text for a double", "licensed", `"resultCount":42`, `"resultCount":"NaN"`},
		{"misspelt field", "licensed", `"featureFlags"`, `"feature_flags"`},
		{"legacy metadata", "licensed", `"billingMetadata":{`, `"legacyMetadata":{"a":"1"},"billingMetadata":{`},
		{"label is no text", "licensed", `"event.hasPrivateMetadata":"true"`, `"event.hasPrivateMetadata":true`},
		{"unknown trust", "licensed", `"publisher.trust":"licensed"`, `"publisher.trust":"much"`},
		{"text for the users of a licence", "licensed", `"users":250`, `"users":"250"`},
		{"wire is not base64", "unknown-fields", `"wire":"`, `"wire":"!`},
		{"reason in capitals", "dead-letter", `"reason":"action_invalid"`, `"reason":"ACTION"`},
		{"dead letter without event", "dead-letter", `{"event":`, `{"evnt":`},
	} {
		data := bytes.Replace(all[row.sample].data, []byte(row.old), []byte(row.new), 1)
		if bytes.Equal(data, all[row.sample].data) {
			t.Errorf("%s: %s is not in the sample", row.name, row.old)
		} else if validate(schema, data) == nil {
			t.Errorf("%s: the schema accepts %s", row.name, data)
		}
	}
}

// TestSchemaMatchesContract fails when a field is added to the contract and not
// to the schema, or the other way round.
func TestSchemaMatchesContract(t *testing.T) {
	type object struct {
		Ref        string `json:"$ref"`
		Properties map[string]*object
		Defs       map[string]*object `json:"$defs"`
	}
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema object
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	var compare func(md protoreflect.MessageDescriptor, o *object, path string)
	compare = func(md protoreflect.MessageDescriptor, o *object, path string) {
		if name, ok := strings.CutPrefix(o.Ref, "#/$defs/"); ok {
			o = schema.Defs[name]
		}
		got := maps.Clone(o.Properties)
		for i := range md.Fields().Len() {
			field := md.Fields().Get(i)
			name := field.JSONName()
			if name == "legacyMetadata" {
				continue // merged into metadata
			}
			if got[name] == nil {
				t.Errorf("the schema has no %s%s", path, name)
				continue
			}
			if contractMessage(field) {
				compare(field.Message(), got[name], path+name+".")
			}
			delete(got, name)
		}
		if path == "metadata.identifier.licensedInstance." {
			delete(got, "license")
			delete(got, "licenseKeyFingerprint")
		}
		if diff := cmp.Diff([]string(nil), slices.Sorted(maps.Keys(got))); diff != "" {
			t.Errorf("the schema has more in %s:\n%s", path, diff)
		}
	}
	compare((&telemetrygatewayv1.Event{}).ProtoReflect().Descriptor(), schema.Defs["event"], "event.")
	compare((&telemetrygatewayv1.RecordEventsRequestMetadata{}).ProtoReflect().Descriptor(), schema.Defs["metadata"], "metadata.")
}
