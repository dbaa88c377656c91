// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// TestSendAllThenRead does as exporters in the field do: they read nothing
// until they have sent everything, here more than the connection's buffers can
// hold of responses.
func TestSendAllThenRead(t *testing.T) {
	s := start(t)
	const batches, size = 20, 500
	send := []*pb.RecordEventsRequest{metadataMessage(s.licensedMetadata())}
	for i := range batches {
		send = append(send, eventsMessage(events(fmt.Sprintf("%d-%s", i, strings.Repeat("x", 30)), size)...))
	}
	got, err := exchange(t, s, send...)
	if err != nil || len(got) != batches {
		t.Fatalf("%d responses, %v", len(got), err)
	}
	for i, r := range got {
		if len(r.SucceededEvents) != size || !strings.HasPrefix(r.SucceededEvents[0], fmt.Sprintf("%d-", i)) {
			t.Errorf("response %d has %d events, the first is %.10s", i, len(r.SucceededEvents), r.SucceededEvents[0])
		}
	}
	if share := &s.budget.shares[proven]; !share.responses.TryAcquire(share.responsesMax) {
		t.Error("responses that were read are still charged")
	}
}

// TestDecompressionBomb shows that a small message that becomes a large one is
// refused before it has.
func TestDecompressionBomb(t *testing.T) {
	s := start(t)
	var part bytes.Buffer
	w := gzip.NewWriter(&part)
	if _, err := io.Copy(w, io.LimitReader(zeros{}, 16<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// In gzip, parts may follow one another: these make 256 MiB.
	bomb := bytes.NewReader(bytes.Repeat(part.Bytes(), 16))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url()+telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventBatchProcedure, bomb)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/proto")
	req.Header.Set("Content-Encoding", "gzip")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	if r.StatusCode != http.StatusTooManyRequests || !bytes.Contains(body, []byte("resource_exhausted")) {
		t.Errorf("status %d: %s", r.StatusCode, body)
	}
	d := &boundedGzip{max: 1000}
	var small bytes.Buffer
	w.Reset(&small)
	if _, err := w.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Reset(&small); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, d); n != 1001 || connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("decompressed %d bytes, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestLargeUnaryBody has bodies that are too large, whether or not they say so.
func TestLargeUnaryBody(t *testing.T) {
	s := start(t)
	for name, body := range map[string]io.Reader{
		"said":   bytes.NewReader(make([]byte, limits.ReceiveBytes+1)),
		"unsaid": io.LimitReader(zeros{}, 64<<20),
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url()+telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventBatchProcedure, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/proto")
			r, err := h2c(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			if answer, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusTooManyRequests {
				t.Errorf("status %d: %s", r.StatusCode, answer)
			}
		})
	}
}

// TestStop ends open streams: at once where nothing is under way, and after
// its answer where a message is.
func TestStop(t *testing.T) {
	gate := &gatedTopic{Topic: topic.NewMemory(1000), entered: make(chan struct{}), leave: make(chan struct{})}
	s := start(t, func(o *Options, _ *identity.Options, _ *ServeOptions) { o.Topic = gate })
	var wg sync.WaitGroup
	ended := make(chan error, 100)
	for range 20 {
		stream := s.connect(t, connect.WithGRPC()).RecordEvents(t.Context())
		if err := stream.Send(metadataMessage(s.licensedMetadata())); err != nil {
			t.Fatal(err)
		}
		// An empty message's response shows that the metadata has been taken.
		if err := stream.Send(eventsMessage()); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Receive(); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			_, err := stream.Receive()
			ended <- err
		})
	}
	busy := s.connect(t, connect.WithGRPC()).RecordEvents(t.Context())
	for _, m := range []*pb.RecordEventsRequest{metadataMessage(s.licensedMetadata()), eventsMessage(event("busy"))} {
		if err := busy.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	<-gate.entered
	s.stop()
	wg.Wait()
	close(ended)
	for err := range ended {
		if connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("an idle stream ended with %v, want Unavailable", err)
		}
	}
	close(gate.leave)
	if r, err := busy.Receive(); err != nil || len(r.SucceededEvents) != 1 {
		t.Errorf("the busy stream: %v, %v", r, err)
	}
	if _, err := busy.Receive(); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("the busy stream ended with %v, want Unavailable", err)
	}
	if <-s.served; s.err != nil {
		t.Errorf("serve: %v", s.err)
	}
}

// TestStopEndsNewCalls has a stream that begins while the gateway stops.
func TestStopEndsNewCalls(t *testing.T) {
	s := start(t)
	s.Stop()
	if _, err := exchange(t, s, metadataMessage(s.licensedMetadata()), eventsMessage(event("a"))); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a stream after Stop: %v, want Unavailable", err)
	}
	messages(t, s.topic, 0)
}

// TestStopBound cuts off what does not finish in time, and says so.
func TestStopBound(t *testing.T) {
	gate := &gatedTopic{Topic: topic.NewMemory(1000), entered: make(chan struct{}), leave: make(chan struct{})}
	s := start(t, func(o *Options, _ *identity.Options, so *ServeOptions) {
		o.Topic = gate
		so.StopTimeout = time.Millisecond
	})
	stream := s.connect(t, connect.WithGRPC()).RecordEvents(t.Context())
	for _, m := range []*pb.RecordEventsRequest{metadataMessage(s.licensedMetadata()), eventsMessage(event("a"))} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	<-gate.entered
	s.stop()
	if <-s.served; s.err == nil || !strings.Contains(s.err.Error(), "cut off") {
		t.Errorf("serve: %v", s.err)
	}
	if r, err := stream.Receive(); err == nil {
		t.Errorf("an event was acknowledged that is not in the topic: %v", r)
	}
	close(gate.leave)
}

// gatedTopic lets a test hold a call to Publish, as a slow disk would.
type gatedTopic struct {
	topic.Topic
	once           sync.Once
	entered, leave chan struct{}
}

func (g *gatedTopic) Publish(ctx context.Context, ms []topic.Message) []error {
	g.once.Do(func() { close(g.entered) })
	<-g.leave
	return g.Topic.Publish(ctx, ms)
}

// TestShares fills the memory of unlicensed senders and of unproven calls and
// shows that a licensed one is served all the same.
func TestShares(t *testing.T) {
	s := start(t)
	for _, of := range []class{unlicensed, unproven} {
		share := &s.budget.shares[of]
		full := charge{b: s.budget}
		if err := full.arrive(t.Context(), of, share.receiveMax); err != nil {
			t.Fatal(err)
		}
		if err := full.complete(t.Context(), of, share.processMax); err != nil {
			t.Fatal(err)
		}
		defer full.release()
		if share.receive.TryAcquire(1) || share.process.TryAcquire(1) {
			t.Fatalf("share %d is not full", of)
		}
	}
	if got, err := exchange(t, s, metadataMessage(s.licensedMetadata()), eventsMessage(events("a", 1000)...)); err != nil || len(got) != 1 {
		t.Fatalf("licensed: %v, %v", got, err)
	}
}

// TestCallsBound opens as many streams as there may be, of unlicensed senders
// and then of all, and shows that further ones are told to come back.
func TestCallsBound(t *testing.T) {
	s := start(t)
	open := func(md *pb.RecordEventsRequestMetadata) error {
		stream := s.connect(t, connect.WithGRPC()).RecordEvents(t.Context())
		for _, m := range []*pb.RecordEventsRequest{metadataMessage(md), eventsMessage()} {
			if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		_, err := stream.Receive()
		return err
	}
	if !s.unlicensedStreams.TryAcquire(limits.Calls/limits.UnlicensedShare - 1) {
		t.Fatal("streams are open before the first")
	}
	if err := open(unlicensedMetadata("last")); err != nil {
		t.Errorf("the last unlicensed stream: %v", err)
	}
	err := open(unlicensedMetadata("one more"))
	var e *connect.Error
	if !errors.As(err, &e) || e.Code() != connect.CodeResourceExhausted || e.Meta().Get("Retry-After") == "" {
		t.Errorf("one more unlicensed stream: %v", err)
	}
	if err := open(s.licensedMetadata()); err != nil {
		t.Errorf("a licensed stream: %v", err)
	}
	s.unlicensedStreams.Release(1)
	for range 3 {
		if _, err := exchange(t, s, metadataMessage(unlicensedMetadata("one after the other"))); err != nil {
			t.Errorf("an unlicensed stream after another one ended: %v", err)
		}
	}

	s.mu.Lock()
	for len(s.calls) < limits.Calls {
		s.calls[&call{control: http.NewResponseController(httptest.NewRecorder())}] = struct{}{}
	}
	s.mu.Unlock()
	if err := open(s.licensedMetadata()); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("a stream too many: %v", err)
	}
	_, err = s.connect(t).RecordEventBatch(t.Context(), connect.NewRequest(&pb.RecordEventBatchRequest{Metadata: s.licensedMetadata()}))
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("a call too many: %v", err)
	}
	messages(t, s.topic, 0)
}

// TestCharge adds up: whatever is charged is given back.
func TestCharge(t *testing.T) {
	var used int64
	b := newBudget(limits.InFlightMinBytes, func(d int64) { used += d })
	for _, of := range []class{unproven, unlicensed, proven} {
		for _, size := range []int64{0, 1, 500, 70_000, limits.ReceiveBytes, limits.ReceiveMaxBytes} {
			c := charge{b: b}
			if err := c.arrive(t.Context(), of, size); err != nil {
				t.Fatal(err)
			}
			if err := c.complete(t.Context(), of, size); err != nil {
				t.Fatal(err)
			}
			before := used
			c.settle(size / 2)
			if used > before || used < 0 || (size > 0 && used == before) {
				t.Errorf("class %d, %d bytes: settled from %d to %d", of, size, before, used)
			}
			c.release()
			c.release()
			if used != 0 {
				t.Fatalf("class %d, %d bytes: %d still charged", of, size, used)
			}
		}
		s := &b.shares[of]
		if !s.receive.TryAcquire(s.receiveMax) || !s.process.TryAcquire(s.processMax) {
			t.Errorf("class %d: not everything was given back", of)
		}
	}
}

// pipeListener hands out connections that live in memory, so that time is the
// test's.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	l.conns <- server
	return client, nil
}

// slow is how the IDs of events begin that a slowTopic takes long for.
const slow = "slow"

type slowTopic struct{ topic.Topic }

func (s slowTopic) Publish(ctx context.Context, ms []topic.Message) []error {
	if strings.Contains(ms[0].Key, slow) {
		time.Sleep(2 * limits.IdleTimeout) // of a bubble's clock
	}
	return s.Topic.Publish(ctx, ms)
}

// serveOnPipe serves a gateway in a bubble, over connections in memory.
func serveOnPipe(t *testing.T, events topic.Topic) (*Gateway, *http.Transport, func()) {
	t.Helper()
	ids, err := identity.New(identity.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := newPipeListener()
	g := New(Options{Topic: events, DeadLetters: topic.NewMemory(1000), Identities: ids, Metrics: newTestMetrics()})
	mux := http.NewServeMux()
	g.Handle(mux)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, mux, ServeOptions{Log: discardLog, Stop: g.Stop}) }()
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: p, DialContext: l.dial}
	return g, transport, func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// TestTimeouts ends calls whose peer does nothing, and only those.
func TestTimeouts(t *testing.T) {
	md := func(t *testing.T) []byte { return envelope(marshal(t, metadataMessage(unlicensedMetadata("a")))) }
	batch := func(t *testing.T) []byte { return envelope(marshal(t, eventsMessage(events("e", 300)...))) }
	for _, row := range []struct {
		name string
		send func(t *testing.T, w io.Writer)
		code connect.Code
		text string
		in   time.Duration // how long the stream lives
	}{
		{"nothing sent", func(*testing.T, io.Writer) {}, connect.CodeDeadlineExceeded, "no metadata arrived", limits.StallTimeout},
		{"only empty messages", func(_ *testing.T, w io.Writer) {
			for range 10 {
				if _, err := w.Write(envelope(nil)); err != nil {
					return
				}
				time.Sleep(limits.StallTimeout / 2)
			}
		}, connect.CodeDeadlineExceeded, "no metadata arrived", limits.StallTimeout},
		{"idle after events", func(t *testing.T, w io.Writer) {
			write(t, w, md(t), batch(t))
		}, connect.CodeDeadlineExceeded, "nothing arrived", limits.IdleTimeout},
		{"idle after a slow topic", func(t *testing.T, w io.Writer) {
			write(t, w, md(t), envelope(marshal(t, eventsMessage(events(slow, 3)...))))
		}, connect.CodeDeadlineExceeded, "nothing arrived", 2*limits.IdleTimeout + limits.IdleTimeout},
		{"stalled in the next prefix", func(t *testing.T, w io.Writer) {
			write(t, w, md(t), batch(t))
			time.Sleep(2 * limits.StallTimeout)
			write(t, w, []byte{0, 0})
			time.Sleep(limits.StallTimeout / 2)
			write(t, w, []byte{0, 0})
		}, connect.CodeDeadlineExceeded, "nothing arrived", 2*limits.StallTimeout + limits.StallTimeout/2 + limits.StallTimeout},
		{"stalled in a message", func(t *testing.T, w io.Writer) {
			write(t, w, md(t), batch(t)[:1000])
		}, connect.CodeDeadlineExceeded, "nothing arrived", limits.StallTimeout},
		{"stalled in a prefix", func(t *testing.T, w io.Writer) {
			write(t, w, md(t), []byte{0, 0})
		}, connect.CodeDeadlineExceeded, "nothing arrived", limits.StallTimeout},
		{"trickling", func(t *testing.T, w io.Writer) {
			b := batch(t)
			write(t, w, md(t), b[:5])
			for _, c := range b[5:] {
				if _, err := w.Write([]byte{c}); err != nil {
					return
				}
				time.Sleep(limits.StallTimeout / 2) // of the bubble's clock
			}
		}, connect.CodeDeadlineExceeded, "nothing arrived", limits.StallTimeout + 2*time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, transport, stop := serveOnPipe(t, slowTopic{topic.NewMemory(1000)})
				body, w := io.Pipe()
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://gateway"+telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventsProcedure, body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/connect+proto")
				started := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() { row.send(t, w) })
				r, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(r.Body)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Contains(answer, []byte(row.code.String())) || !bytes.Contains(answer, []byte(row.text)) {
					t.Errorf("the stream ended with %s", answer)
				}
				if lived := time.Since(started).Truncate(time.Second); lived > row.in || lived < row.in-2*time.Second {
					t.Errorf("the stream lived %v, want %v", lived, row.in)
				}
				_ = w.Close()
				sending.Wait()
				stop()
			})
		})
	}
}

// TestSlowBody has as long to arrive over HTTP/1.1 as its size allows, and its
// events as long to be published as the topic takes.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, transport, stop := serveOnPipe(t, slowTopic{new(topic.Discard)})
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(true)
		request := marshal(t, &pb.RecordEventBatchRequest{Metadata: unlicensedMetadata("a"), Events: events(slow, 5000)})
		body, w := io.Pipe()
		go func() {
			defer w.Close()
			for parts := 4; parts > 0; parts-- {
				n := len(request) / parts
				write(t, w, request[:n])
				request = request[n:]
				time.Sleep(limits.StallTimeout / 2) // of the bubble's clock
			}
		}()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://gateway"+batchPath, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(len(request))
		req.Header.Set("Content-Type", "application/proto")
		r, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK || bytes.Count(answer, []byte(slow)) != 5000 {
			t.Errorf("%s, %d bytes, %v", r.Status, len(answer), err)
		}
		stop()
	})
}

func write(t *testing.T, w io.Writer, parts ...[]byte) {
	for _, p := range parts {
		if _, err := w.Write(p); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	}
}

func envelope(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// TestMetricsAddUp shows that each event received has one outcome, and that no
// label has a value that the catalog does not list.
func TestMetricsAddUp(t *testing.T) {
	down := failingTopic{err: errors.New("down")}
	for _, o := range []func(*Options, *identity.Options, *ServeOptions){
		func(*Options, *identity.Options, *ServeOptions) {},
		func(o *Options, _ *identity.Options, _ *ServeOptions) { o.Topic = down },
		func(o *Options, _ *identity.Options, _ *ServeOptions) { o.Topic, o.DeadLetters = down, down },
		func(_ *Options, i *identity.Options, _ *ServeOptions) {
			i.Unlicensed.Burst, i.Unlicensed.Rate = 5, 0.001
		},
	} {
		s := start(t, o)
		for _, md := range []*pb.RecordEventsRequestMetadata{
			s.licensedMetadata(), unlicensedMetadata("a"), unlicensedMetadata(""), licensedMetadata("x"),
			licensedMetadata(s.licenseOther), managedMetadata("svc"),
		} {
			es := events("e", 4)
			es[0].Feature = ""
			_, _ = exchange(t, s, metadataMessage(md), eventsMessage(es...), eventsMessage(events("f", 3)...), eventsMessage())
			_, _ = s.connect(t).RecordEventBatch(t.Context(), connect.NewRequest(&pb.RecordEventBatchRequest{Metadata: md, Events: es}))
		}
		w := httptest.NewRecorder()
		s.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		text := w.Body.String()
		if strings.Contains(text, `"other"`) {
			t.Errorf("a label has a value that is not in the catalog:\n%s", strings.Join(regexp.MustCompile(`.*"other".*`).FindAllString(text, -1), "\n"))
		}
		received, ended := sum(t, text, "telemetry_gateway_events_received_total"), sum(t, text, "telemetry_gateway_events_total")
		if received == 0 || received != ended {
			t.Errorf("%v events received, %v have an outcome", received, ended)
		}
		if processed := sum(t, text, "telemetry_gateway_record_events_processed_events_total"); processed != received {
			t.Errorf("%v events received, %v processed", received, processed)
		}
		if open := sum(t, text, "telemetry_gateway_streams"); open != 0 {
			t.Errorf("%v streams are still open", open)
		}
		if used := sum(t, text, "telemetry_gateway_in_flight_bytes"); used != 0 {
			t.Errorf("%v bytes are still in flight", used)
		}
	}
}

// sum adds up all series of a metric.
func sum(t *testing.T, text, name string) float64 {
	t.Helper()
	var total float64
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(?:\{[^}]*\})? (\S+)$`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}
