// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

const (
	streamPath = telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventsProcedure
	batchPath  = telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventBatchProcedure
	eventPath  = telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventProcedure
)

// withGateway runs f with a gateway whose connections live in memory, so that
// time is the test's. The test fails if anything of the gateway runs on after
// f and after it has been told to stop.
func withGateway(t *testing.T, to topic.Topic, f func(t *testing.T, g *Gateway, l *pipeListener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ids, err := identity.New(identity.Options{})
		if err != nil {
			t.Fatal(err)
		}
		g := New(Options{Topic: to, DeadLetters: to, Identities: ids, Metrics: newTestMetrics()})
		l, mux := newPipeListener(), http.NewServeMux()
		g.Handle(mux)
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, l, mux, ServeOptions{Log: discardLog, Stop: g.Stop}) }()
		f(t, g, l)
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func (g *Gateway) callsOpen() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.calls)
}

// nothingHeld fails the test if memory of a class is charged.
func nothingHeld(t *testing.T, g *Gateway, of class) {
	t.Helper()
	s := &g.budget.shares[of]
	if !s.receive.TryAcquire(s.receiveMax) {
		t.Errorf("class %d holds memory for receiving", of)
	} else {
		s.receive.Release(s.receiveMax)
	}
	if !s.prove.TryAcquire(s.proveMax) {
		t.Errorf("class %d holds memory for being proven", of)
	} else {
		s.prove.Release(s.proveMax)
	}
	if !s.process.TryAcquire(s.processMax) {
		t.Errorf("class %d holds memory for processing", of)
	} else {
		s.process.Release(s.processMax)
	}
}

// A deaf client speaks HTTP/2 and takes no response: its windows are empty.
type deaf struct {
	t    *testing.T
	conn net.Conn

	mu     sync.Mutex // of writing
	frames *http2.Framer
	next   uint32
}

func dialDeaf(t *testing.T, l *pipeListener) *deaf {
	t.Helper()
	conn, err := l.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	d := &deaf{t: t, conn: conn, frames: http2.NewFramer(conn, conn), next: 1}
	go func() {
		for {
			f, err := d.frames.ReadFrame()
			if err != nil {
				return
			}
			if p, ok := f.(*http2.PingFrame); ok && !p.IsAck() {
				data := p.Data
				go d.write(func() error { return d.frames.WritePing(true, data) })
			}
		}
	}()
	d.write(func() error { _, err := io.WriteString(conn, http2.ClientPreface); return err })
	d.write(func() error {
		return d.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	})
	return d
}

// write leaves errors to what the test looks at in the end: the gateway may
// have ended a call.
func (d *deaf) write(f func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = f()
}

// call begins a call, sends body and, if it is the end, says so.
func (d *deaf) call(path string, end bool, body ...[]byte) (id uint32) {
	id = d.next
	d.next += 2
	var headers bytes.Buffer
	e := hpack.NewEncoder(&headers)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "gateway"}, {"content-type", "application/grpc"}} {
		if err := e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			d.t.Fatal(err)
		}
	}
	d.write(func() error {
		return d.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: headers.Bytes(), EndHeaders: true})
	})
	for all := bytes.Join(body, nil); len(all) > 0; {
		n := min(len(all), 16<<10)
		part := all[:n]
		all = all[n:]
		d.write(func() error { return d.frames.WriteData(id, false, part) })
	}
	if end {
		d.write(func() error { return d.frames.WriteData(id, true, nil) })
	}
	return id
}

func (d *deaf) reset(id uint32) {
	d.write(func() error { return d.frames.WriteRSTStream(id, http2.ErrCodeCancel) })
}

func unlicensedIntroduction(t *testing.T) []byte {
	return envelope(marshal(t, metadataMessage(unlicensedMetadata("a"))))
}

// emptyEvents is a message of n events without a byte each.
func emptyEvents(n int) []byte {
	return envelope(field(streamEventsField, bytes.Repeat(field(payloadEventsField, nil), n)))
}

// TestUnreadStream shows what a stream has that has ended but for its responses
// being read: no memory of a message, and its place among the streams.
func TestUnreadStream(t *testing.T) {
	withGateway(t, new(topic.Discard), func(t *testing.T, g *Gateway, l *pipeListener) {
		d := dialDeaf(t, l)
		d.call(streamPath, false, unlicensedIntroduction(t), emptyEvents(10), envelope(bytes.Repeat([]byte{0xff}, 10_000)))
		synctest.Wait()
		if n := g.callsOpen(); n != 1 {
			t.Errorf("%d calls are open, want 1", n)
		}
		nothingHeld(t, g, unlicensed)
		if g.unlicensedStreams.TryAcquire(limits.Calls / limits.UnlicensedShare) {
			t.Error("the stream is not counted any more")
		}
		d.conn.Close()
	})
}

// TestUnreadUnaryResponse ends a call whose sender does not read the response.
func TestUnreadUnaryResponse(t *testing.T) {
	withGateway(t, new(topic.Discard), func(t *testing.T, g *Gateway, l *pipeListener) {
		request := marshal(t, &pb.RecordEventBatchRequest{Metadata: unlicensedMetadata("a")})
		d := dialDeaf(t, l)
		d.call(batchPath, true, envelope(append(request, bytes.Repeat(field(callEventsField, nil), 10_000)...)))
		synctest.Wait()
		if n := g.callsOpen(); n != 1 {
			t.Errorf("%d calls are open, want 1", n)
		}
		time.Sleep(limits.IdleTimeout + time.Second)
		synctest.Wait()
		if n := g.callsOpen(); n != 0 {
			t.Errorf("%d calls are open, want none", n)
		}
		nothingHeld(t, g, unproven)
		d.conn.Close()
	})
}

// TestUnreadResponsesOfUnlicensed leaves licensed senders theirs.
func TestUnreadResponsesOfUnlicensed(t *testing.T) {
	s := start(t)
	share := &s.budget.shares[unlicensed]
	if !share.responses.TryAcquire(share.responsesMax) {
		t.Fatal("responses are waiting before the first")
	}
	if got, err := exchange(t, s, metadataMessage(s.licensedMetadata()), eventsMessage(events("a", 10)...)); err != nil || len(got) != 1 {
		t.Errorf("licensed: %v, %v", got, err)
	}
}

// TestOddEnds ends a thousand calls in all kinds of ways and shows that nothing
// is left of them.
func TestOddEnds(t *testing.T) {
	withGateway(t, new(topic.Discard), func(t *testing.T, g *Gateway, l *pipeListener) {
		md, batch := unlicensedIntroduction(t), emptyEvents(2000)
		for range 70 {
			d := dialDeaf(t, l)
			for _, end := range []bool{false, true} {
				for _, body := range [][]byte{
					nil,
					{0, 0},
					md[:20],
					md,
					append(md[:len(md):len(md)], batch[:3]...),
					append(md[:len(md):len(md)], batch[:100]...),
					append(md[:len(md):len(md)], batch...),
					append(md[:len(md):len(md)], envelope([]byte{0xff})...),
				} {
					id := d.call(streamPath, end, body)
					if id%3 == 0 {
						synctest.Wait()
						d.reset(id)
					}
					if id := d.call(batchPath, end, body); id%3 == 0 {
						d.reset(id)
					}
				}
			}
			d.conn.Close()
		}
		synctest.Wait()
		if n := g.callsOpen(); n != 0 {
			t.Errorf("%d calls are open", n)
		}
		for of := range classes {
			nothingHeld(t, g, of)
			if s := &g.budget.shares[of]; !s.responses.TryAcquire(s.responsesMax) {
				t.Errorf("class %d holds memory for responses", of)
			}
		}
		if !g.unlicensedStreams.TryAcquire(limits.Calls / limits.UnlicensedShare) {
			t.Error("a stream is still counted")
		}
		if !g.encoders.TryAcquire(1) || !g.unprovenEncoders.TryAcquire(1) {
			t.Error("a turn to encode was not given back")
		}
	})
}

// post sends a request over HTTP/2, whose body is open until it is answered.
func post(t *testing.T, l *pipeListener, path, contentType string, send func(w io.Writer)) *http.Response {
	t.Helper()
	body, w := io.Pipe()
	defer w.Close()
	go send(w)
	r, _ := postBody(t, l, path, contentType, body)
	return r
}

// postBody returns the response once all of it is there.
func postBody(t *testing.T, l *pipeListener, path, contentType string, body io.Reader) (*http.Response, []byte) {
	t.Helper()
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: p, DialContext: l.dial}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://gateway"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	r, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, answer
}

// TestUnaryCallGoesOn after its only message: it neither waits for memory while
// it has some that others wait for, nor keeps it for long.
func TestUnaryCallGoesOn(t *testing.T) {
	for _, row := range []struct {
		name   string
		more   []byte
		status string
		in     time.Duration
	}{
		{"with another message", binary.BigEndian.AppendUint32([]byte{0}, 1000), "12", 0},
		{"with half a prefix", []byte{0, 0}, "4", limits.StallTimeout},
		{"with nothing", nil, "4", limits.StallTimeout},
	} {
		t.Run(row.name, func(t *testing.T) {
			withGateway(t, new(topic.Discard), func(t *testing.T, g *Gateway, l *pipeListener) {
				request := marshal(t, &pb.RecordEventBatchRequest{Metadata: unlicensedMetadata("a")})
				began := time.Now()
				r := post(t, l, batchPath, "application/grpc", func(w io.Writer) {
					write(t, w, envelope(request))
					synctest.Wait()
					// As if other calls had taken what is left.
					share := &g.budget.shares[unproven]
					for n := share.receiveMax; n > 0; {
						if !share.receive.TryAcquire(n) {
							n /= 2
						}
					}
					if len(row.more) > 0 {
						write(t, w, row.more)
					}
				})
				if got := r.Trailer.Get("Grpc-Status"); got != row.status {
					t.Errorf("status %s, want %s (%s)", got, row.status, r.Trailer.Get("Grpc-Message"))
				}
				if took := time.Since(began); took != row.in {
					t.Errorf("it took %v, want %v", took, row.in)
				}
			})
		})
	}
}

// TestContentTypeInAnyCase: messages are charged whatever the case.
func TestContentTypeInAnyCase(t *testing.T) {
	withGateway(t, new(topic.Discard), func(t *testing.T, g *Gateway, l *pipeListener) {
		r := post(t, l, streamPath, "Application/gRPC", func(w io.Writer) {
			batch := emptyEvents(10)
			write(t, w, unlicensedIntroduction(t), batch[:10])
			synctest.Wait()
			if share := &g.budget.shares[unlicensed]; share.receive.TryAcquire(share.receiveMax) {
				t.Error("a message that is being received is not charged")
				share.receive.Release(share.receiveMax)
			}
			write(t, w, batch[10:], envelope([]byte{0xff}))
		})
		if got := r.Trailer.Get("Grpc-Status"); got != "3" {
			t.Errorf("status %s, want 3", got)
		}
	})
}

// brokenTopic has a fault.
type brokenTopic struct{ topic.Topic }

func (brokenTopic) Publish(context.Context, []topic.Message) []error { panic("a fault") }

// TestPanicEndsCall and nothing else, and leaves nothing behind.
func TestPanicEndsCall(t *testing.T) {
	withGateway(t, brokenTopic{}, func(t *testing.T, g *Gateway, l *pipeListener) {
		r := post(t, l, streamPath, "application/grpc", func(w io.Writer) {
			write(t, w, unlicensedIntroduction(t), emptyEvents(10))
		})
		if got := r.Trailer.Get("Grpc-Status"); got != "13" {
			t.Errorf("status %s, want 13", got)
		}
		nothingHeld(t, g, unlicensed)
	})
}

// tersePublisher breaks the contract of topics: it says what became of the first
// message only.
type tersePublisher struct{ topic.Topic }

func (tersePublisher) Publish(context.Context, []topic.Message) []error { return make([]error, 1) }

// TestUnknownOutcome is not an acknowledgement.
func TestUnknownOutcome(t *testing.T) {
	s := start(t, func(o *Options, _ *identity.Options, _ *ServeOptions) { o.Topic = tersePublisher{} })
	got, err := exchange(t, s, metadataMessage(s.licensedMetadata()), eventsMessage(events("a", 2)...))
	if err != nil || len(got) != 1 || len(got[0].SucceededEvents) != 1 || got[0].Verdicts[1].Outcome != failed {
		t.Errorf("%v, %v: want the first event to succeed and the second to fail", got, err)
	}
}

// TestBodyNeverSent closes HTTP/1.1 connections whose peer announces a body that
// nobody reads and does not send it.
func TestBodyNeverSent(t *testing.T) {
	const batch = "POST " + batchPath + " HTTP/1.1\r\nContent-Type: application/json\r\n"
	for _, row := range []struct {
		head  string
		calls int // that are open already
	}{
		{"POST /elsewhere HTTP/1.1\r\n", 0},
		{"POST " + batchPath + " HTTP/1.1\r\nContent-Type: text/plain\r\n", 0},
		{batch, 0},
		{batch, limits.Calls},
	} {
		withGateway(t, new(topic.Discard), func(t *testing.T, g *Gateway, l *pipeListener) {
			for range row.calls {
				c := newCall(nil, new(http.Request), g.budget, 0)
				g.begin(c)
				defer g.end(c)
			}
			conn, err := l.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			write(t, conn, []byte(row.head+"Host: gateway\r\nContent-Length: 10\r\n\r\n"))
			began := time.Now()
			_ = conn.SetReadDeadline(began.Add(time.Hour))
			if _, err := io.Copy(io.Discard, conn); err != nil || time.Since(began) > limits.StallTimeout {
				t.Errorf("%q with %d calls: after %v: %v", row.head, row.calls, time.Since(began), err)
			}
		})
	}
}

// TestStopEndsHoldBack: what is held back has been answered, so that a gateway
// that stops need not wait for it.
func TestStopEndsHoldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Options{Metrics: newTestMetrics()})
		g.limited.ReserveN(time.Now(), limits.LimitedBurstBytes)
		began := time.Now()
		time.AfterFunc(time.Millisecond, g.Stop)
		(&session{g: g}).holdBack(t.Context(), limits.LimitedBurstBytes)
		if took := time.Since(began); took != time.Millisecond {
			t.Errorf("held back for %v", took)
		}
	})
}
