// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/golden"
)

var recordNew = flag.Bool("record", false, "record snapshots that do not exist yet; those that do never change")

const snapshots = "testdata/snapshots"

// TestSnapshots replays calls that were recorded byte for byte, and must be
// accepted for ever: instances in the field are never updated, and keep events
// in this format in their databases. What is published of them is compared with
// the file beside each.
func TestSnapshots(t *testing.T) {
	if *recordNew {
		recordSnapshots(t)
	}
	files, err := filepath.Glob(filepath.Join(snapshots, "*.bin"))
	if err != nil || len(files) < len(snapshotCalls(t)) {
		t.Fatalf("%d snapshots, %v; to record new ones run go test -run TestSnapshots -record", len(files), err)
	}
	trusted, err := filepath.Abs(filepath.Join(snapshots, "trusted.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bin")
		t.Run(name, func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			g := startGateway(t, dir, "-license-keys", trusted, "-license-allow-sha1")
			r, err := call(t.Context(), h2c(t), g.address, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			var succeeded []string
			if _, err := answers(r, func(message []byte) error {
				var response pb.RecordEventsResponse
				err := proto.Unmarshal(message, &response)
				succeeded = append(succeeded, response.SucceededEvents...)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			golden.Check(t, publishedForm(t, succeeded, dir), filepath.Join(snapshots, name+".json"))
		})
	}
}

// publishedForm is what became of a call, without what differs each time.
func publishedForm(t *testing.T, succeeded []string, dir string) []byte {
	t.Helper()
	stdout, stderr, exit := run(t, dir, nil, "tail", "-from-start")
	if exit != 0 {
		t.Fatal(stderr)
	}
	out := struct {
		Succeeded []string         `json:"succeeded"`
		Published []map[string]any `json:"published"`
	}{Succeeded: succeeded}
	for line := range strings.Lines(stdout) {
		var m struct {
			Key        string
			Attributes map[string]any
			Data       map[string]any
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		labels := m.Data["labels"].(map[string]any)
		delete(labels, "receivedAt")
		delete(labels, "license.status") // changes when the licence expires
		if instance, ok := m.Data["metadata"].(map[string]any)["identifier"].(map[string]any)["licensedInstance"].(map[string]any); ok {
			delete(instance["license"].(map[string]any), "status")
		}
		out.Published = append(out.Published, map[string]any{"key": m.Key, "attributes": m.Attributes, "data": m.Data})
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// recordSnapshots writes the calls that are not recorded yet.
func recordSnapshots(t *testing.T) {
	t.Helper()
	for name, messages := range snapshotCalls(t) {
		var body []byte
		for _, m := range messages {
			body = append(body, envelope(false, m)...)
		}
		f, err := os.OpenFile(filepath.Join(snapshots, name+".bin"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			_, err = f.Write(body)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// snapshotCalls are the messages of each call. A change here changes no file
// that exists: to record another call, add it under a name of its own.
func snapshotCalls(t *testing.T) map[string][][]byte {
	t.Helper()
	at := timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 250_000_000, time.UTC))
	event := func(id string) *pb.Event {
		return &pb.Event{
			Id: id, Timestamp: at, Feature: "codeSearch", Action: "executed",
			Source: &pb.EventSource{Server: &pb.EventSource_Server{Version: "5.1.0"}},
		}
	}
	metadata := func(i *pb.Identifier) []byte {
		return marshal(&pb.RecordEventsRequest{Payload: &pb.RecordEventsRequest_Metadata{
			Metadata: &pb.RecordEventsRequestMetadata{RequestId: "snapshot", Identifier: i},
		}})
	}
	events := func(es ...*pb.Event) []byte {
		return marshal(&pb.RecordEventsRequest{Payload: &pb.RecordEventsRequest_Events{Events: &pb.RecordEventsRequest_EventsPayload{Events: es}}})
	}
	legacy := event("legacy")
	legacy.Parameters = &pb.EventParameters{Version: 1, LegacyMetadata: map[string]int64{"count": 3}}
	mixed := event("mixed")
	mixed.Parameters = &pb.EventParameters{LegacyMetadata: map[string]int64{"count": 3, "old": 1}, Metadata: map[string]float64{"count": 4.5}}
	full := event("full")
	full.Source.Client = &pb.EventSource_Client{Name: "web", Version: proto.String("1.2")}
	full.Parameters = &pb.EventParameters{
		PrivateMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"query": structpb.NewStringValue("text")}},
		BillingMetadata: &pb.EventBillingMetadata{Product: "search", Category: "billable"},
	}
	full.User = &pb.EventUser{UserId: proto.Int64(1), AnonymousUserId: proto.String("a")}
	full.FeatureFlags = &pb.EventFeatureFlags{Flags: map[string]string{"new-ui": "true"}}
	full.MarketingTracking = &pb.EventMarketingTracking{Url: proto.String("https://example.com")}
	full.Interaction = &pb.EventInteraction{TraceId: proto.String("0af7651916cd43dd8448eb211c80319c")}
	newer := event("newer")
	newer.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 999, protowire.BytesType), "from the future"))

	calls := map[string][][]byte{
		"unlicensed":          {metadata(unlicensed("site")), events(event("1"), event("2")), events(event("3"))},
		"legacy-metadata":     {metadata(unlicensed("site")), events(legacy, mixed)},
		"all-fields":          {metadata(unlicensed("site")), events(full)},
		"unknown-event-field": {metadata(unlicensed("site")), events(newer)},
		"unknown-fields-around": {
			protowire.AppendVarint(protowire.AppendTag(metadata(unlicensed("site")), 998, protowire.VarintType), 1),
			protowire.AppendVarint(protowire.AppendTag(events(event("1")), 998, protowire.VarintType), 1),
		},
		"no-events": {metadata(unlicensed("site")), events()},
	}
	vectors, err := filepath.Glob("../internal/license/testdata/vectors/*.key")
	if err != nil || len(vectors) == 0 {
		t.Fatalf("no licence keys: %v", err)
	}
	for _, file := range vectors {
		key, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".key")
		calls["licensed-"+name] = [][]byte{metadata(licensed(strings.TrimSpace(string(key)), "site")), events(event("1"))}
	}
	return calls
}
