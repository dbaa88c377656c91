// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/identity"
)

// TestMetrics counts three calls: one in which all is well but for a dead
// letter, one whose topic is down, and one that is not let in.
func TestMetrics(t *testing.T) {
	mixed := []*pb.Event{event("a"), event("b"), {Id: "bad"}}
	s := start(t)
	if _, err := exchange(t, s, metadataMessage(s.licensedMetadata()), eventsMessage(mixed...)); err != nil {
		t.Fatal(err)
	}
	if _, err := exchange(t, s, metadataMessage(unlicensedMetadata(""))); err == nil {
		t.Fatal("a sender without an ID was let in")
	}
	s.series(t,
		`events_received_total{source="licensed_instance"} 3`,
		`events_total{outcome="accepted",reason="",source="licensed_instance"} 2`,
		`events_total{outcome="dead_lettered",reason="feature_invalid",source="licensed_instance"} 1`,
		`record_events_processed_events_total{result="success",source="licensed_instance",succeeded="true"} 3`,
		`record_events_payload_length_sum{result="success",source="licensed_instance"} 3`,
		`record_events_total_length_sum{error="false",source="licensed_instance"} 3`,
		`record_events_total_length_count{error="true",source="invalid"} 1`,
		`calls_total{code="ok",rpc="RecordEvents"} 1`,
		`calls_total{code="invalid_argument",rpc="RecordEvents"} 1`,
		`identification_failures_total{reason="malformed"} 1`,
		`received_message_size_bytes_count{source="licensed_instance"} 1`,
		`ack_duration_seconds_count{source="licensed_instance"} 1`,
		`publish_duration_seconds_count{topic="events"} 1`,
		`publish_batch_messages_sum{topic="events"} 2`,
		`publish_batch_messages_sum{topic="deadletter"} 1`,
		`pubsub_published_message_size_bytes_count 2`,
	)

	var log bytes.Buffer
	s = start(t, func(o *Options, _ *identity.Options, _ *ServeOptions) {
		o.Topic = failingTopic{err: errors.New("down")}
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	r, err := s.connect(t).RecordEventBatch(t.Context(), connect.NewRequest(&pb.RecordEventBatchRequest{Metadata: unlicensedMetadata("site"), Events: mixed}))
	if err != nil || len(r.Msg.SucceededEvents) != 1 {
		t.Fatal(r, err)
	}
	s.series(t,
		`events_total{outcome="failed",reason="topic_unavailable",source="unlicensed_instance"} 2`,
		`events_total{outcome="dead_lettered",reason="feature_invalid",source="unlicensed_instance"} 1`,
		`record_events_processed_events_total{result="partial_failure",source="unlicensed_instance",succeeded="true"} 1`,
		`record_events_processed_events_total{result="partial_failure",source="unlicensed_instance",succeeded="false"} 2`,
		`calls_total{code="ok",rpc="RecordEventBatch"} 1`,
	)
	line := `msg="publish failed" request_id=request source=unlicensed_instance sender=site topic=events messages=2 failed=2 error=down`
	if strings.Count(log.String(), line) != 1 {
		t.Errorf("the log is %s, want one line with %s", &log, line)
	}
}

// A sender that is refused again and again does not fill the log, and is in it.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	var log bytes.Buffer
	var seconds atomic.Int64
	s := start(t, func(o *Options, _ *identity.Options, _ *ServeOptions) {
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		o.Now = func() time.Time { return time.Unix(1_800_000_000+seconds.Load(), 0) }
	})
	refuse := func() {
		_, err := s.connect(t).RecordEventBatch(t.Context(), connect.NewRequest(&pb.RecordEventBatchRequest{Metadata: licensedMetadata(s.licenseOther)}))
		if connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Fatal(err)
		}
	}
	for range refusalLines + 30 {
		refuse()
	}
	if n := strings.Count(log.String(), `level=WARN msg="sender refused"`); n != refusalLines {
		t.Errorf("%d lines, want %d", n, refusalLines)
	}
	seconds.Add(1)
	refuse()
	if !strings.HasSuffix(log.String(), " others_not_logged=30\n") {
		t.Errorf("the last line of %s does not say how many are not there", &log)
	}
	s.series(t, fmt.Sprintf(`identification_failures_total{reason="bad_signature"} %d`, refusalLines+31))
}

// series expects lines, each without the prefix that all metrics have, among
// what is scraped.
func (s *server) series(t *testing.T, lines ...string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := "\n" + w.Body.String()
	for _, line := range lines {
		if !strings.Contains(text, "\ntelemetry_gateway_"+line+"\n") {
			t.Errorf("no %s", line)
			name, _, _ := strings.Cut(line, "{")
			for got := range strings.Lines(text) {
				if strings.HasPrefix(got, "telemetry_gateway_"+name) && !strings.HasSuffix(got, " 0\n") && !strings.Contains(got, "_bucket") {
					t.Logf("got %s", got)
				}
			}
		}
	}
}
