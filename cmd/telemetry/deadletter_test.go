// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// planted stands wherever a dead letter has something that a sender sent as
// content.
const planted = "planted"

// plantedLetters returns the URL of a topic with dead letters of all kinds: of an
// event that breaks a rule, of one that JSON has no form for, of bytes that are
// none, of a payload, and a message that is no dead letter.
func plantedLetters(t *testing.T) string {
	t.Helper()
	e, err := payload.NewEncoder(&telemetrygatewayv1.RecordEventsRequestMetadata{
		Identifier: &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_UnlicensedInstance{
			UnlicensedInstance: &telemetrygatewayv1.Identifier_UnlicensedInstanceIdentifier{InstanceId: "site-1"},
		}},
	}, payload.Sender{Source: "unlicensed_instance", ID: "site-1", Identity: "unlicensed/site-1", Trust: "unlicensed"}, payload.KeyFingerprint)
	if err != nil {
		t.Fatal(err)
	}
	event := func(id string, change func(*telemetrygatewayv1.Event)) []byte {
		private, err := structpb.NewStruct(map[string]any{planted: planted})
		if err != nil {
			t.Fatal(err)
		}
		event := &telemetrygatewayv1.Event{
			Id: id, Feature: planted, Action: planted, Timestamp: timestamppb.New(time.Unix(1, 0)),
			Parameters: &telemetrygatewayv1.EventParameters{Metadata: map[string]float64{planted: 1}, PrivateMetadata: private},
		}
		change(event)
		wire, err := proto.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		return wire
	}
	now := time.Now()
	var ms []topic.Message
	add := func(data []byte, labels payload.Labels) {
		ms = append(ms, topic.Message{Key: labels.Key, Data: data, Attributes: labels.Attributes})
	}
	for _, wire := range [][]byte{
		event("bad-action", func(e *telemetrygatewayv1.Event) { e.Action = "Planted text" }),
		event("no-number", func(e *telemetrygatewayv1.Event) {
			e.Parameters.PrivateMetadata.Fields["x"] = structpb.NewNumberValue(math.NaN())
		}),
		append(event("no-event", func(*telemetrygatewayv1.Event) {}), planted...),
	} {
		_, _, v := e.Append(nil, wire, now)
		add(e.AppendDeadLetter(nil, wire, now, v))
	}
	data, labels, v := e.Append(nil, event("taken", func(*telemetrygatewayv1.Event) {}), now)
	if v != nil {
		t.Fatal(v)
	}
	add(payload.AppendUnlandable(nil, labels.Key, data, nil, &limits.Violation{Reason: limits.ReasonIDConflict, Field: "id", Message: "is taken"}))
	ms = append(ms, topic.Message{Data: []byte(planted)})

	url := "sqlite://" + filepath.Join(t.TempDir(), "deadletter.db")
	to, err := topic.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if errs := to.Publish(t.Context(), ms); errs != nil {
		t.Fatal(errs)
	}
	return url
}

// TestDeadletterTellsNoContent unless it is asked to show it.
func TestDeadletterTellsNoContent(t *testing.T) {
	url := plantedLetters(t)
	for _, args := range [][]string{
		{"ls"},
		{"ls", "-format", "json"},
		{"replay", "-topic", "sqlite://" + filepath.Join(t.TempDir(), "topic.db")},
	} {
		_, stdout, stderr := runOnce(t.Context(), append(append([]string{"deadletter"}, args...), "-deadletter", url)...)
		if n := strings.Count(stdout, "\n"); n < 5 || n > 6 {
			t.Errorf("%v prints %s%s", args, stdout, stderr)
		}
		if text := strings.ToLower(stdout + stderr); strings.Contains(text, planted) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(planted))) {
			t.Errorf("%v prints what senders sent: %s%s", args, stdout, stderr)
		}
	}
}

// TestDeadletterShow shows whatever can be read.
func TestDeadletterShow(t *testing.T) {
	url := plantedLetters(t)
	for eventID, want := range map[string]struct{ event, text, err string }{
		"bad-action": {event: `"action":"Planted text"`},
		"no-number":  {text: "number_value"},
		"no-event":   {err: "undecodable"},
		"taken":      {event: `"feature":"planted"`},
		"":           {err: "no payload"},
	} {
		_, line, _ := runOnce(t.Context(), "deadletter", "ls", "-deadletter", url, "-format", "json", "-where", "event_id="+eventID)
		var listed struct{ ID string }
		if err := json.Unmarshal([]byte(line), &listed); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		code, stdout, stderr := runOnce(t.Context(), "deadletter", "show", "-deadletter", url, listed.ID[:12])
		var got struct {
			ID                    string
			Message, Event        json.RawMessage
			EventText, EventError string
		}
		if err := json.Unmarshal([]byte(stdout), &got); code != 0 || err != nil {
			t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
		}
		event := strings.ReplaceAll(string(got.Event), `": "`, `":"`)
		if got.ID != listed.ID || len(got.Message) == 0 ||
			!strings.Contains(event, want.event) || (want.event == "") != (event == "") ||
			!strings.Contains(got.EventText, want.text) || (want.text == "") != (got.EventText == "") ||
			!strings.Contains(got.EventError, want.err) || (want.err == "") != (got.EventError == "") {
			t.Errorf("%q is shown as %s", eventID, stdout)
		}
	}
}
