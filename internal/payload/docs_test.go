// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/template"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/golden"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// labelMeanings explains every label. The table of the documentation is made
// from it and from the labels that the samples really have.
var labelMeanings = [...]struct{ key, meaning string }{
	{"publisher.source", "The kind of sender: `licensed_instance`, `unlicensed_instance`, or the ID of a managed service."},
	{"publisher.id", "The ID of the instance or service. An instance chooses its own. Absent if it has none."},
	{"license.id", "The ID of the licence. Absent if there is none, or if it is too long for an attribute."},
	{"event.id", "The event's ID. In a dead letter it is absent if it cannot be read or is too long."},
	{"event.feature", "The event's feature."},
	{"event.action", "The event's action."},
	{"event.hasPrivateMetadata", "`true` if the event has private metadata, even if they are empty; else `false`."},
	{"event.recordsPrivateMetadata…", "`true` for each numeric metadata key that starts with `recordsPrivateMetadata`, is at least two characters longer and has a value above 0. Keys that do not fit into the limits of attributes are left out, the last ones by name first; they are still in the event."},
	{"deadletter.reason", "In dead letters only: the reason code."},
	{"receivedAt", "When the gateway received the event: RFC 3339 in UTC, with up to nine decimals."},
	{"publisher.trust", "How the sender was proven: `licensed` by a licence key, `service` by an access token, `unlicensed` not at all."},
	{"license.status", "Whether the licence was `valid` or `expired` when the event was received. Absent for other senders."},
	{"replay.of", "Only of an event that was replayed: the ID of its dead letter."},
}

// TestDocumentation writes docs/payload.md from its template: the tables come
// from the contract's descriptor and from the code, the examples are the golden
// files.
func TestDocumentation(t *testing.T) {
	all := samples(t)
	page, err := template.New("payload.md.tmpl").Funcs(template.FuncMap{
		"fields":          func() (string, error) { return fieldTable(&telemetrygatewayv1.Event{}) },
		"sender":          func() (string, error) { return fieldTable(&telemetrygatewayv1.RecordEventsRequestMetadata{}) },
		"labels":          func() string { return labelTable(t, all) },
		"reasons":         reasonTable,
		"pipelineReasons": pipelineReasonTable,
		"example": func(name string) string {
			return "```json\n" + string(goldenMessage(t, all[name])) + "```"
		},
		"limit": func(name string) (int, error) {
			n, ok := map[string]int{
				"depth": limits.Depth, "attributes": limits.Attributes, "key": limits.AttributeKeyBytes,
				"value": limits.AttributeValueBytes, "message": limits.MessageBytes, "id": limits.EventIDBytes,
			}[name]
			if !ok {
				return 0, fmt.Errorf("no limit is called %s", name)
			}
			return n, nil
		},
	}).ParseFiles("testdata/payload.md.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := page.Execute(&out, nil); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, out.Bytes(), "../../docs/payload.md")
}

// fieldTable lists what a message and the messages in it are in JSON. The
// meanings are the contract's comments.
func fieldTable(m proto.Message) (string, error) {
	data, err := os.ReadFile("../../proto/telemetrygateway.binpb")
	if err != nil {
		return "", err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		return "", err
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	out.WriteString("| Field | JSON | Meaning |\n|---|---|---|\n")
	if err := fieldRows(&out, files, m.ProtoReflect().Descriptor(), ""); err != nil {
		return "", err
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

func fieldRows(out *strings.Builder, files *protoregistry.Files, md protoreflect.MessageDescriptor, path string) error {
	for i := range md.Fields().Len() {
		field := md.Fields().Get(i)
		commented, err := files.FindDescriptorByName(field.FullName())
		if err != nil {
			return fmt.Errorf("the descriptor set is older than the generated code (run make generate): %w", err)
		}
		comment := commented.ParentFile().SourceLocations().ByDescriptor(commented).LeadingComments
		form, err := jsonForm(field)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "| `%s%s` | %s | %s |\n", path, field.JSONName(), form, strings.Join(strings.Fields(comment), " "))
		if contractMessage(field) {
			if err := fieldRows(out, files, field.Message(), path+field.JSONName()+"."); err != nil {
				return err
			}
		}
	}
	return nil
}

// jsonForm says how protojson writes a field.
func jsonForm(field protoreflect.FieldDescriptor) (string, error) {
	switch {
	case field.Name() == "legacy_metadata":
		return "never present: merged into `metadata`", nil
	case field.IsMap() && field.MapValue().Kind() == protoreflect.DoubleKind:
		return "object of numbers", nil
	case field.IsMap() && field.MapValue().Kind() == protoreflect.StringKind:
		return "object of strings", nil
	case field.IsMap() || field.IsList():
	case field.Kind() == protoreflect.StringKind:
		return "string", nil
	case field.Kind() == protoreflect.Int64Kind:
		return "string of digits", nil
	case field.Kind() == protoreflect.Int32Kind, field.Kind() == protoreflect.DoubleKind:
		return "number", nil
	case field.Message() != nil && field.Message().FullName() == "google.protobuf.Timestamp":
		return "string, RFC 3339 in UTC", nil
	case field.Message() != nil:
		return "object", nil
	}
	return "", fmt.Errorf("the documentation does not know how %s looks in JSON", field.FullName())
}

// labelTable explains each label that a sample has, with an example.
func labelTable(t *testing.T, all map[string]sample) string {
	labels, attributes := map[string]string{}, map[string]bool{}
	for _, name := range []string{"dead-letter", "replayed", "unlicensed", "licensed"} {
		var data struct{ Labels map[string]string }
		unmarshal(t, all[name].data, &data)
		for key, value := range data.Labels {
			labels[family(key)] = value
		}
		for _, a := range all[name].labels.Attributes {
			attributes[family(a.Key)] = true
		}
	}
	var out strings.Builder
	out.WriteString("| Label | Attribute | Example | Meaning |\n|---|---|---|---|\n")
	for _, l := range labelMeanings {
		if labels[l.key] == "" {
			t.Errorf("the label %q is explained, but no sample has it", l.key)
		}
		attribute := "no"
		if attributes[l.key] {
			attribute = "yes"
		}
		fmt.Fprintf(&out, "| `%s` | %s | `%s` | %s |\n", l.key, attribute, labels[l.key], l.meaning)
		delete(labels, l.key)
	}
	for key := range labels {
		t.Errorf("the label %q is not explained", key)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// family returns what stands for a label in the table.
func family(key string) string {
	if strings.HasPrefix(key, "event.recordsPrivateMetadata") {
		return "event.recordsPrivateMetadata…"
	}
	return key
}

func reasonTable() string {
	var out strings.Builder
	out.WriteString("| Reason | What becomes of the event | Meaning |\n|---|---|---|\n")
	for _, r := range limits.Reasons() {
		fate := "send it again"
		if r.Permanent {
			fate = "dead letter"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s |\n", r.Code, fate, r.Meaning)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func pipelineReasonTable() string {
	var out strings.Builder
	out.WriteString("| Reason | Meaning |\n|---|---|\n")
	for _, r := range limits.PipelineReasons() {
		fmt.Fprintf(&out, "| `%s` | %s |\n", r.Code, r.Meaning)
	}
	return strings.TrimSuffix(out.String(), "\n")
}
