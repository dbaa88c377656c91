// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// TestPublishWhileReceiving sends five messages while the topic keeps the first:
// one more is received and encoded meanwhile, and if messages are large one more
// received. All responses come, in order.
func TestPublishWhileReceiving(t *testing.T) {
	for _, row := range []struct {
		name            string
		each, wantAhead int
	}{{"small", 3, 1}, {"large", turnEvents + 1, 2}} {
		t.Run(row.name, func(t *testing.T) { publishWhileReceiving(t, row.each, row.wantAhead) })
	}
}

func publishWhileReceiving(t *testing.T, each, wantAhead int) {
	gate := &gatedTopic{Topic: new(topic.Discard)}
	withGateway(t, gate, func(t *testing.T, g *Gateway, l *pipeListener) {
		gate.entered, gate.leave = make(chan struct{}), make(chan struct{}) // of the bubble
		const messages = 5
		received := func() float64 {
			w := httptest.NewRecorder()
			g.o.Metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			return sum(t, w.Body.String(), "telemetry_gateway_events_received_total")
		}
		body, w := io.Pipe()
		go func() {
			write(t, w, unlicensedIntroduction(t))
			for n := range messages {
				write(t, w, envelope(marshal(t, eventsMessage(events(fmt.Sprintf("m%d-", n), each)...))))
			}
			w.Close()
		}()
		answer := make(chan []byte)
		go func() {
			_, b := postBody(t, l, streamPath, "application/grpc", body)
			answer <- b
		}()
		<-gate.entered
		synctest.Wait()
		if n, want := received(), float64((1+wantAhead)*each); n != want {
			t.Errorf("%v events were received while the first %d were published, want %v", n, each, want)
		}
		close(gate.leave)
		var got []string
		for rest := <-answer; len(rest) > 5; {
			size := int(rest[4]) | int(rest[3])<<8
			var r pb.RecordEventsResponse
			if err := proto.Unmarshal(rest[5:5+size], &r); err != nil {
				t.Fatal(err)
			}
			got = append(got, r.SucceededEvents...)
			rest = rest[5+size:]
		}
		var want []string
		for n := range messages {
			for _, e := range events(fmt.Sprintf("m%d-", n), each) {
				want = append(want, e.Id)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got answers for %v, want %v", got, want)
		}
		nothingHeld(t, g, unlicensed)
	})
}

// TestPanicEndsIdleStream: wherever the fault is, the sender is told at once, though
// it sends nothing more.
func TestPanicEndsIdleStream(t *testing.T) {
	for _, row := range []struct {
		name     string
		topic    topic.Topic
		encoders bool // else encoding has the fault
		events   int
	}{
		{"publishing", brokenTopic{}, true, 10},
		{"encoding a small message", new(topic.Discard), false, turnEvents},
		{"encoding a large message", new(topic.Discard), false, turnEvents + 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			withGateway(t, row.topic, func(t *testing.T, g *Gateway, l *pipeListener) {
				if !row.encoders {
					g.encoders = nil
				}
				began := time.Now()
				body, w := io.Pipe()
				defer w.Close()
				go write(t, w, unlicensedIntroduction(t), emptyEvents(row.events))
				r, _ := postBody(t, l, streamPath, "application/grpc", body)
				if got := r.Trailer.Get("Grpc-Status"); got != "13" {
					t.Errorf("status %s, want 13", got)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("it took %v", took)
				}
				nothingHeld(t, g, unlicensed)
			})
		})
	}
}

// TestExpansion is of whole messages, also of those in several chunks, and is not
// learnt from messages of which nothing is published.
func TestExpansion(t *testing.T) {
	s := start(t, discarding)
	session := fairSession(t, s, s.licensedMetadata())
	record := func(n int) float64 {
		m := new(message)
		for _, e := range events("a", n) {
			m.wire = append(m.wire, marshal(t, e)...)
			m.request.events = append(m.request.events, marshal(t, e))
		}
		session.record(t.Context(), m)
		return s.expansion.get()
	}
	one := record(1)
	for range 100 {
		record(5000)
	}
	if many := record(5000); many < one*0.8 || many > one*1.2 {
		t.Errorf("%.1f for a message of several chunks, %.1f for one of an event", many, one)
	}
	before := s.expansion.get()
	if after := record(0); after != before {
		t.Errorf("%.1f after a message without events, %.1f before", after, before)
	}
}

// TestBuffers lends what has been given back, and never less than is asked for.
func TestBuffers(t *testing.T) {
	var b buffers
	for _, size := range []int{0, 1, 4096, 4097, 5120, 5121, 200_000, 1 << 20, 1<<22 - 1, 1 << 22, 1<<22 + 1, 50 << 20} {
		buf := b.take(size)
		if len(buf) != 0 || cap(buf) < size || cap(buf) > max(size*5/4, 4096) {
			t.Errorf("for %d bytes: %d of %d", size, len(buf), cap(buf))
		}
		b.give(append(buf, bytes.Repeat([]byte("x"), size)...))
		b.give(make([]byte, 0, size))
		if again := b.take(size); len(again) != 0 || cap(again) < size {
			t.Errorf("for %d bytes again: %d of %d", size, len(again), cap(again))
		}
	}
}
