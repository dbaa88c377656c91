// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/telemetrygateway/telemetry"
	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

var _ telemetry.Store = (*client.Client)(nil)

// As a store a client has accepted all events or says which it has not.
func TestAdd(t *testing.T) {
	verdict := func(e *telemetrygatewayv1.Event) *telemetrygatewayv1.EventVerdict {
		switch e.GetId() {
		case "3":
			return &telemetrygatewayv1.EventVerdict{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_DEAD_LETTERED, Reason: "feature_invalid", Field: "feature", Message: "a small letter first"}
		case "5":
			return &telemetrygatewayv1.EventVerdict{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_FAILED, Reason: "publish_failed"}
		}
		return &telemetrygatewayv1.EventVerdict{Outcome: telemetrygatewayv1.EventVerdict_OUTCOME_ACCEPTED}
	}
	s := &server{event: acceptOne, answer: func(_ int, events []*telemetrygatewayv1.Event) (*telemetrygatewayv1.RecordEventsResponse, error) {
		r := new(telemetrygatewayv1.RecordEventsResponse)
		for _, e := range events {
			r.Verdicts = append(r.Verdicts, verdict(e))
		}
		return r, nil
	}}
	c := newClient(t, s.serve(t), client.Service("pings", "", new(numberedTokens)), client.Options{})
	for _, n := range []int{0, 1, 3} {
		if err := c.Add(t.Context(), numbered(n, 0)...); err != nil {
			t.Errorf("%d events: %v", n, err)
		}
	}
	err := c.Add(t.Context(), numbered(8, 0)...)
	var not *client.NotAcceptedError
	if !errors.As(err, &not) || not.Result.Count(client.Accepted) != 6 || not.Cause != nil {
		t.Fatalf("error %v", err)
	}
	if want := "of 8 events 1 failed, 1 dead-lettered; event 3: feature_invalid feature a small letter first"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	s.admit = func(string) error { return connect.NewError(connect.CodePermissionDenied, errors.New("not you")) }
	err = c.Add(t.Context(), numbered(2, 0)...)
	if e := (*client.Error)(nil); !errors.As(err, &e) || e.Kind != client.Refused || !strings.HasPrefix(err.Error(), "of 2 events 2 failed: send to ") {
		t.Errorf("error %v", err)
	}
}
