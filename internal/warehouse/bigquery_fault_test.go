// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/telemetrygateway/telemetry/internal/warehouse/bigqueryfake"
)

// TestBigQueryFaults has one request to append rows go wrong in each way there is.
func TestBigQueryFaults(t *testing.T) {
	for _, c := range []struct {
		name     string
		faults   []bigqueryfake.Fault
		raw      int // rows in the raw table
		requests int
	}{
		{"none", nil, 100, 1},
		{"reset before", []bigqueryfake.Fault{bigqueryfake.ResetBefore}, 100, 2},
		{"reset after", []bigqueryfake.Fault{bigqueryfake.ResetAfter}, 100, 2},
		{"swallowed", []bigqueryfake.Fault{bigqueryfake.Swallow}, 100, 2},
		{"swallowed, reset, reset", []bigqueryfake.Fault{bigqueryfake.Swallow, bigqueryfake.ResetBefore, bigqueryfake.ResetBefore}, 100, 4},
		{"closing", []bigqueryfake.Fault{bigqueryfake.Closing}, 100, 2},
		{"internal", []bigqueryfake.Fault{bigqueryfake.Answer(codes.Internal, "oops")}, 100, 2},
		{"quota", []bigqueryfake.Fault{bigqueryfake.Quota, bigqueryfake.Quota}, 100, 3},
		{"finalized", []bigqueryfake.Fault{bigqueryfake.Finalized}, 100, 2},
		// The stream says that it is lost after the rows have landed: then they are
		// there twice, and the view shows them once.
		{"landed, then lost", []bigqueryfake.Fault{bigqueryfake.ResetAfter, bigqueryfake.Finalized}, 200, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startBigQuery(t)
			w, _ := openBigQueryTest(t, Options{})
			w.events.patience = 2 * time.Second
			s.Fail(c.faults...)
			if r := mustInsert(t, w, bigQueryBatch(100)); r.Landed != 100 {
				t.Errorf("landed %d, want 100", r.Landed)
			}
			wantAnswers(t, w, "SELECT COUNT(*) FROM events_raw", fmt.Sprint(c.raw))
			wantAnswers(t, w, "SELECT COUNT(*) FROM events", "100")
			if got := len(s.Appends()); got != c.requests {
				t.Errorf("%d requests, want %d", got, c.requests)
			}
			// And it goes on.
			if r := mustInsert(t, w, bigQueryBatch(101)); r.Landed != 101 {
				t.Errorf("landed %d, want 101", r.Landed)
			}
			wantAnswers(t, w, "SELECT COUNT(*) FROM events", "101")
		})
	}
}

// TestBigQueryLostStream has the service and us disagree about where the stream is.
func TestBigQueryLostStream(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(*bigqueryfake.Server, *bigQuery)
	}{
		{"gone", func(s *bigqueryfake.Server, _ *bigQuery) { s.ForgetStreams() }},
		{"shorter", func(s *bigqueryfake.Server, _ *bigQuery) { s.RewindStreams(1) }},
		// ALREADY_EXISTS at the first attempt speaks of rows of somebody else.
		{"longer", func(_ *bigqueryfake.Server, w *bigQuery) { w.events.offset-- }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startBigQuery(t)
			w, _ := openBigQueryTest(t, Options{})
			mustInsert(t, w, bigQueryBatch(10))
			c.lose(s, w)
			b := bigQueryBatch(30)
			b.Events = b.Events[10:]
			mustInsert(t, w, b)
			wantAnswers(t, w, "SELECT COUNT(*) FROM events_raw", "30")
		})
	}
}

// TestBigQueryOtherRowsAfterGivingUp shows that an offset that may be taken is
// never used for other rows, which would be taken for landed.
func TestBigQueryOtherRowsAfterGivingUp(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults []bigqueryfake.Fault // after the rows have landed unnoticed
		cancel bool                 // while it waits for the next attempt
	}{
		{"canceled", nil, true},
		{"too many attempts", []bigqueryfake.Fault{bigqueryfake.Closing, bigqueryfake.Closing, bigqueryfake.Closing, bigqueryfake.Closing}, false},
		{"denied", []bigqueryfake.Fault{bigqueryfake.Answer(codes.PermissionDenied, "no longer")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startBigQuery(t)
			w, _ := openBigQueryTest(t, Options{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w.events.wait = func(context.Context, time.Duration) error {
				if c.cancel {
					cancel()
				}
				return ctx.Err()
			}
			s.Fail(bigqueryfake.ResetAfter)
			s.Fail(c.faults...)
			if _, err := w.Insert(ctx, bigQueryBatch(10)); err == nil {
				t.Fatal("no error")
			}
			w.events.wait = func(context.Context, time.Duration) error { return nil }
			b := bigQueryBatch(20)
			b.Events = b.Events[10:]
			s.Fail(bigqueryfake.ResetBefore) // so that it seems as if they might be there
			mustInsert(t, w, b)
			wantAnswers(t, w, "SELECT COUNT(*) FROM events", "20")
		})
	}
}

func TestBigQueryCutInARequest(t *testing.T) {
	s := startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	mustInsert(t, w, bigQueryBatch(1)) // so that the next is rows and nothing else
	s.CutAfter(100_000)
	mustInsert(t, w, bigQueryBatch(5000))
	if n := len(s.Appends()); n != 2 {
		t.Errorf("%d requests arrived whole, want 2", n)
	}
	wantAnswers(t, w, "SELECT COUNT(*) FROM events_raw", "5001")
	wantAnswers(t, w, "SELECT COUNT(*) FROM events", "5000")
}

func TestBigQueryBackOff(t *testing.T) {
	s := startBigQuery(t)
	w, waits := openBigQueryTest(t, Options{})
	for range bigQueryAttempts {
		s.Fail(bigqueryfake.Quota)
	}
	_, err := w.Insert(t.Context(), bigQueryBatch(10))
	if err == nil || !strings.Contains(err.Error(), "quota") || !strings.Contains(err.Error(), "test-project") {
		t.Errorf("got %v, want an error that names the quota and the project", err)
	}
	if len(*waits) != bigQueryAttempts-1 {
		t.Errorf("waited %d times, want %d", len(*waits), bigQueryAttempts-1)
	}
	for i, d := range *waits {
		if most := 2 * time.Second << i; d < 0 || d >= most {
			t.Errorf("wait %d is %v, want less than %v", i, d, most)
		}
	}
	mustInsert(t, w, bigQueryBatch(10))
	wantAnswers(t, w, "SELECT COUNT(*) FROM events_raw", "10")
}

func TestBigQueryRowErrors(t *testing.T) {
	s := startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	b := bigQueryBatch(100)
	deep := strings.Repeat(`{"a":`, 600) + "1" + strings.Repeat("}", 600)
	b.Events[3].PrivateMetadata = []byte(deep)  // BigQuery's JSON nests less deep
	b.Events[50].Feature = "secret \xff canary" // no text
	b.Events[70].Payload = nil                  // required
	b.Events[99].Action, b.Events[99].TraceID = "x", "refused canary"
	s.Refuse(func(_ string, row map[string]any) string {
		if row["action"] == "x" {
			return fmt.Sprintf("Field action: cannot take %v of %v", row["action"], row["trace_id"])
		}
		return ""
	})
	r := mustInsert(t, w, b)
	if got, want := fmt.Sprint(r.Refused), "[{50 BigQuery refuses the event (FIELDS_ERROR, column feature)} "+
		"{70 BigQuery refuses the event (FIELDS_ERROR, column payload)} {99 BigQuery refuses the event (FIELDS_ERROR, column action)}]"; got != want {
		t.Errorf("refused\n got %s\nwant %s", got, want)
	}
	if r.Landed != 97 {
		t.Errorf("landed %d, want 97", r.Landed)
	}
	wantAnswers(t, w, "SELECT COUNT(*) FROM events_raw", "97")
	wantAnswers(t, w, "SELECT event_id FROM events WHERE incomplete", "event-3")
	for _, a := range s.Appends()[1:] {
		if a.Offset != 0 {
			t.Errorf("a request without the bad rows is at offset %d, want that of the first", a.Offset)
		}
	}
}

// TestBigQueryManyRowErrors has more bad rows than one answer names.
func TestBigQueryManyRowErrors(t *testing.T) {
	s := startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	s.Refuse(func(_ string, row map[string]any) string {
		if row["content_hash"].(int64)%2 == 1 {
			return "no odd ones"
		}
		return ""
	})
	r := mustInsert(t, w, bigQueryBatch(700))
	if r.Landed != 350 || len(r.Refused) != 350 || r.Refused[0].Index != 1 || r.Refused[349].Index != 699 {
		t.Errorf("landed %d, refused %d", r.Landed, len(r.Refused))
	}
	wantAnswers(t, w, "SELECT COUNT(*) FROM events_raw WHERE MOD(content_hash, 2) = 0", "350")
}

func TestBigQuerySlimRows(t *testing.T) {
	s := startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	b := bigQueryBatch(4)
	payload := []byte(`{"a":"` + strings.Repeat("x", 6<<20) + `"}`)
	b.Events[1].Payload, b.Events[1].PrivateMetadata = payload, payload[:5<<20]
	b.Events[1].PrivateMetadata = append(b.Events[1].PrivateMetadata, `"}`...)
	b.Events[2].Payload = bytes.Repeat([]byte("1"), 11<<20) // in no form
	b.Rejected = []Rejected{
		{RejectedID: [16]byte{1}, Stage: "gateway", Reason: "too_large", Row: Row{Payload: payload}, Bytes: payload},
		{RejectedID: [16]byte{2}, Stage: "gateway", Reason: "too_large", Bytes: b.Events[2].Payload},
	}
	r := mustInsert(t, w, b)
	if r.Landed != 3 || len(r.Refused) != 1 || r.Refused[0].Index != 2 || r.Rejected != 2 {
		t.Errorf("landed %d, refused %v, rejected %d", r.Landed, r.Refused, r.Rejected)
	}
	wantAnswers(t, w, "SELECT event_id, incomplete, source_id IS NULL, LENGTH(payload) FROM events ORDER BY event_id",
		"event-0 <nil> false 2", fmt.Sprint("event-1 true true ", len(payload)), "event-3 <nil> false 2")
	wantAnswers(t, w, "SELECT reason, incomplete, payload IS NULL, bytes IS NULL FROM events_rejected ORDER BY rejected_id",
		"too_large true true false", "too_large true true true")
	for _, a := range s.Appends() {
		if a.Bytes > 10<<20 {
			t.Errorf("a request has %d bytes", a.Bytes)
		}
	}
}

// TestBigQueryManyRequests inserts what is too large for one request.
func TestBigQueryManyRequests(t *testing.T) {
	s := startBigQuery(t)
	w, _ := openBigQueryTest(t, Options{})
	b := bigQueryBatch(2500)
	for i := range b.Events {
		b.Events[i].Payload = []byte(`"` + strings.Repeat("x", 10_000) + `"`)
	}
	s.Fail(bigqueryfake.None, bigqueryfake.ResetAfter)
	mustInsert(t, w, b)
	wantAnswers(t, w, "SELECT COUNT(*) FROM events_raw", "2500")
	if n := len(s.Appends()); n != 4 {
		t.Errorf("%d requests, want 3 and one again", n)
	}
}

// TestBigQueryTellsNothing searches errors and logs for what is in events, which
// BigQuery quotes in what it says.
func TestBigQueryTellsNothing(t *testing.T) {
	s := startBigQuery(t)
	var log bytes.Buffer
	w, _ := openBigQueryTest(t, Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	b := bigQueryBatch(3)
	b.Events[1].Feature = "canary"
	s.Refuse(func(_ string, row map[string]any) string {
		if row["feature"] == "canary" {
			return "Could not convert canary"
		}
		return ""
	})
	s.Fail(bigqueryfake.None)
	r := mustInsert(t, w, b)
	said := fmt.Sprint(r.Refused)
	s.Fail(bigqueryfake.Answer(codes.InvalidArgument, "Cannot parse canary"))
	_, err := w.Insert(t.Context(), bigQueryBatch(3))
	if err == nil {
		t.Fatal("no error")
	}
	if said += err.Error() + log.String(); strings.Contains(said, "canary") {
		t.Errorf("told: %s", said)
	}
}
