// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// draining says what a stream is doing when the gateway is told to stop.
type draining int

const (
	idle       draining = iota // has its answers, and may send more
	midMessage                 // has sent most of a message
	publishing                 // waits for an answer
	kinds
)

const (
	drainConnections = 5
	drainStreams     = drainConnections * limits.StreamsPerConnection
)

// TestDrain stops a gateway that has 500 streams open. All of them end in a way
// that tells their senders what to keep, and the process ends by itself, within
// the bound and with success.
func TestDrain(t *testing.T) {
	licence, public := issueLicence(t)
	dir := t.TempDir()
	topicFile := filepath.Join(dir, "topic.db")
	const bound = 10 * time.Second
	g := startGateway(t, dir, "-license-keys", public, "-stop-timeout", bound.String(), "-max-inflight-bytes", fmt.Sprint(4<<30),
		"-topic", "sqlite://"+topicFile, "-deadletter", "sqlite://"+filepath.Join(dir, "dead.db"))

	ledger := newLedger()
	ledger.round(1 << 30)
	var streams []*drainStream
	var opened sync.WaitGroup
	for c := range drainConnections {
		client := h2c(t)
		for i := range limits.StreamsPerConnection {
			n := c*limits.StreamsPerConnection + i
			s := &drainStream{
				doing: draining(n % int(kinds)), sender: newSender(fmt.Sprintf("site-%d", n), licence, ledger, uint64(n)),
				answered: make(chan struct{}, 2), ended: make(chan struct{}),
			}
			streams = append(streams, s)
			opened.Go(func() { s.open(t, client, g.address) })
		}
	}
	opened.Wait()
	if t.Failed() {
		t.FailNow()
	}

	// While somebody else has the topic's lock, publishing waits.
	unlock := lockTopic(t, topicFile)
	for _, s := range streams {
		switch s.doing {
		case midMessage:
			s.most(t)
		case publishing:
			s.send(t)
		}
	}

	stopped := time.Now()
	g.signal(t, syscall.SIGTERM)
	for _, s := range streams {
		if s.doing == idle {
			within(t, "end of an idle stream", s.ended)
		}
	}
	// Those that were in the middle of something may finish it.
	for _, s := range streams {
		if s.doing == midMessage {
			s.finish(t)
		}
	}
	unlock()
	for _, s := range streams {
		within(t, "end of a stream", s.ended)
		wantAnswers := 1
		if s.doing != idle {
			wantAnswers = 2
		}
		if s.status != codes.Unavailable || s.answers != wantAnswers {
			t.Errorf("a stream (%d) ended with %v after %d answers, want %v after %d", s.doing, s.status, s.answers, codes.Unavailable, wantAnswers)
		}
	}
	state := g.wait(t)
	took := time.Since(stopped)
	if state.ExitCode() != 0 {
		t.Errorf("the gateway ended with %v", state)
	}
	if took > bound+time.Second {
		t.Errorf("it took %v to stop, want at most %v", took, bound)
	}
	f := ledger.check(t, "sqlite://"+topicFile, "sqlite://"+filepath.Join(dir, "dead.db"))
	t.Logf("stopped with %d streams open in %v: %s", len(streams), took.Round(time.Millisecond), f)
	if f.acknowledged != f.sent {
		t.Errorf("%d events were sent in full and %d acknowledged", f.sent, f.acknowledged)
	}
}

// drainStream is a stream with its sender, in whose body each byte is ours.
type drainStream struct {
	doing  draining
	cutOff bool // may end without a status
	sender *sender
	body   *io.PipeWriter
	batch  []*record
	left   []byte // of a message not sent in full

	answered chan struct{}
	ended    chan struct{} // closed once what follows is final
	answers  int
	status   codes.Code
}

// open opens the stream and gets one answer, so that the gateway has seen it.
func (s *drainStream) open(t *testing.T, client *http.Client, address string) {
	body, w := io.Pipe()
	s.body = w
	t.Cleanup(func() { w.Close() })
	go s.receive(t, client, address, body)
	s.write(t, envelope(false, metadataFrame(s.sender.license, s.sender.id)))
	s.send(t)
	select {
	case <-s.answered:
	case <-time.After(patience):
		t.Error("no answer")
	}
}

func (s *drainStream) receive(t *testing.T, client *http.Client, address string, body io.Reader) {
	defer close(s.ended)
	r, err := call(t.Context(), client, address, body)
	if err != nil {
		t.Error(err)
		return
	}
	code, err := answers(r, func(message []byte) error {
		var response pb.RecordEventsResponse
		if err := proto.Unmarshal(message, &response); err != nil {
			return err
		}
		for i, v := range response.Verdicts {
			s.sender.ledger.acknowledge(s.batch[i], v.Outcome)
		}
		s.answers++
		s.answered <- struct{}{}
		return nil
	})
	if code == "" && !s.cutOff {
		t.Errorf("a stream ended without a status: %v", err)
	}
	_, _ = fmt.Sscan(code, (*uint32)(&s.status))
}

// write returns when all but the last piece is on its way: the transport takes
// a piece once the gateway has room for the one before it.
func (s *drainStream) write(t *testing.T, b []byte) {
	for piece := range slices.Chunk(b, 8<<10) {
		if _, err := s.body.Write(piece); err != nil {
			t.Error(err)
			return
		}
	}
}

// message is larger than what the gateway lets a sender have on its way: once
// most of it has been written, the gateway is in the middle of it for sure. The
// padding is a field that the gateway does not know.
func (s *drainStream) message() []byte {
	s.batch = s.sender.make(10)
	s.sender.ledger.send(s.batch)
	padding := make([]byte, 2*limits.StreamBufferBytes)
	return envelope(false, protowire.AppendBytes(protowire.AppendTag(frame(s.batch), 1000, protowire.BytesType), padding))
}

func (s *drainStream) send(t *testing.T) { s.write(t, s.message()) }

func (s *drainStream) most(t *testing.T) {
	message := s.message()
	const most = limits.StreamBufferBytes * 3 / 2
	s.write(t, message[:most])
	s.left = message[most:]
}

func (s *drainStream) finish(t *testing.T) { s.write(t, s.left) }

// lockTopic takes the lock that publishing to a topic's file needs.
func lockTopic(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=rw&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	conn, err := db.Conn(t.Context())
	if err == nil {
		_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		conn.Close()
		db.Close()
	}
}

// TestDrainBound stops a gateway while a sender never finishes its message: it
// is cut off once the time is over, and the gateway says so.
func TestDrainBound(t *testing.T) {
	g, s := stuck(t, "-stop-timeout", "500ms")
	g.signal(t, syscall.SIGTERM)
	if state := g.wait(t); state.ExitCode() != 1 || !strings.Contains(g.tail(1), "calls were still open after 500ms") {
		t.Errorf("the gateway ended with %v: %s", state, g.tail(1))
	}
	within(t, "end of the stream", s.ended)
}

// TestSecondSignal stops a gateway twice: the second time it ends at once.
func TestSecondSignal(t *testing.T) {
	g, _ := stuck(t, "-stop-timeout", "1h")
	idleConn, err := dial(g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer idleConn.Close()
	stream, err := openStream(t.Context(), idleConn)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(marshal(&pb.RecordEventsRequest{Payload: &pb.RecordEventsRequest_Metadata{
		Metadata: &pb.RecordEventsRequestMetadata{Identifier: unlicensed("site")},
	}})); err != nil {
		t.Fatal(err)
	}
	g.signal(t, syscall.SIGTERM)
	// The end of an idle stream shows that the first signal has been dealt with.
	if err := receive(stream, new(pb.RecordEventsResponse)); status.Code(err) != codes.Unavailable {
		t.Errorf("an idle stream ended with %v", err)
	}
	// Probes of the admin port see that it takes no more calls.
	if code, body := curl(t, "http://"+g.admin+"/readyz"); code != "503" {
		t.Errorf("/readyz while stopping: %s %s", code, body)
	}
	g.signal(t, syscall.SIGTERM)
	if state := g.wait(t).Sys().(syscall.WaitStatus); !state.Signaled() || state.Signal() != syscall.SIGTERM {
		t.Errorf("the gateway ended with %v, want it ended by the signal", g.cmd.ProcessState)
	}
}

// stuck starts a gateway with a stream in the middle of a message.
func stuck(t *testing.T, flags ...string) (*process, *drainStream) {
	t.Helper()
	licence, public := issueLicence(t)
	g := startGateway(t, t.TempDir(), append(flags, "-license-keys", public)...)
	ledger := newLedger()
	ledger.round(1 << 30)
	s := &drainStream{cutOff: true, sender: newSender("site", licence, ledger, 1), answered: make(chan struct{}, 2), ended: make(chan struct{})}
	s.open(t, h2c(t), g.address)
	s.most(t)
	return g, s
}
