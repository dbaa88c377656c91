// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// idleBytes is what the gateway promises to need when there is nothing to do.
const idleBytes = 60 << 20

func TestIdleMemory(t *testing.T) {
	licence, public := issueLicence(t)
	g := startGateway(t, t.TempDir(), "-license-keys", public)
	started := g.status(t, "VmRSS")
	s := newSender("site", licence, newLedger(), 1)
	s.kept = s.make(100)
	s.ledger.round(1)
	if err := s.send(t.Context(), g.address, false); err != nil {
		t.Fatal(err)
	}
	used := g.status(t, "VmRSS")
	t.Logf("%d MiB resident when started, %d MiB after 100 events", started>>20, used>>20)
	if started > idleBytes || used > idleBytes {
		t.Errorf("%d MiB resident when started, %d MiB after 100 events; want at most %d MiB", started>>20, used>>20, idleBytes>>20)
	}
}

const (
	memoryConnections = 10
	memoryStreams     = memoryConnections * limits.StreamsPerConnection
	// slowReaders is how many of the streams do not read a byte of their answers
	// until all the others have theirs.
	slowReaders = memoryConnections
)

// TestMemory sends the largest messages there may be, of every kind that is
// costly in its own way, over 1,000 streams at once. The gateway must stay
// within the bound that the table of limits states, and every stream must get
// its answers. The kernel holds it to a little more, so that a gateway that
// exceeds the bound for a moment dies.
func TestMemory(t *testing.T) {
	licence, public := issueLicence(t)
	g := startGateway(t, t.TempDir(), "-license-keys", public, "-topic", "discard:", "-deadletter", "discard:")
	const data = limits.ResidentBytes + 256<<20 // counts what is mapped and not used, too
	limit := unix.Rlimit{Cur: data, Max: data}
	if err := unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_DATA, &limit, nil); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	metadata := envelope(false, metadataFrame(licence, "site"))
	kinds := largestMessages(t)
	// Streams stay open, and must not hold on to anything, until all but the
	// slow readers have their answers.
	var waiting sync.WaitGroup
	waiting.Add(memoryStreams - slowReaders)
	all := make(gate)
	go func() { waiting.Wait(); close(all) }()
	var group errgroup.Group
	began := time.Now()
	for range memoryConnections {
		client := h2c(t)
		// The connection is there before the streams want it.
		if r, err := client.Get("http://" + g.address + "/livez"); err != nil {
			t.Fatal(err)
		} else {
			r.Body.Close()
		}
		for i := range limits.StreamsPerConnection {
			kind, messages := kinds[min(i, len(kinds)-1)], 1
			slow := i < slowReaders/memoryConnections
			if slow {
				messages = 3
			}
			group.Go(func() (err error) {
				done := sync.OnceFunc(func() {
					if !slow {
						waiting.Done()
					}
				})
				defer done()
				defer func() {
					if err != nil {
						err = fmt.Errorf("%s: %w", kind.name, err)
						cancel()
					}
				}()
				parts := []io.Reader{bytes.NewReader(metadata)}
				for range messages {
					parts = append(parts, bytes.NewReader(kind.frame))
				}
				r, err := call(ctx, client, g.address, io.MultiReader(append(parts, all)...))
				if err != nil {
					return err
				}
				if slow {
					<-all
				}
				got := 0
				if _, err = answers(r, func(message []byte) error {
					if got++; got == messages {
						defer done()
					}
					return kind.check(message)
				}); err == nil && got != messages {
					err = fmt.Errorf("%d answers to %d messages", got, messages)
				}
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	peak := g.status(t, "VmHWM")
	t.Logf("%d streams in %v: %d MiB resident at most, of %d MiB; %d MiB of data",
		memoryStreams, time.Since(began).Round(time.Second), peak>>20, limits.ResidentBytes>>20, g.status(t, "VmData")>>20)
	if peak > limits.ResidentBytes {
		t.Errorf("%d MiB resident at most, want at most %d MiB", peak>>20, limits.ResidentBytes>>20)
	}
}

// largest is one of the largest messages there may be.
type largest struct {
	name   string
	frame  []byte // enveloped
	events int
	want   pb.EventVerdict_Outcome
}

// check returns an error unless message answers as it should.
func (l *largest) check(message []byte) error {
	var response pb.RecordEventsResponse
	if err := proto.Unmarshal(message, &response); err != nil {
		return err
	}
	if len(response.Verdicts) != l.events {
		return fmt.Errorf("%d verdicts for %d events", len(response.Verdicts), l.events)
	}
	for _, v := range response.Verdicts {
		if v.Outcome != l.want {
			return fmt.Errorf("an event is %v, want %v", v, l.want)
		}
	}
	return nil
}

// A gate is the end of a body, which comes when the gate is closed.
type gate chan struct{}

func (g gate) Read([]byte) (int, error) {
	<-g
	return 0, io.EOF
}

// largestMessages returns what the streams of a connection send. All of it is
// made once: a thousand copies would not fit into the test's own memory.
func largestMessages(t testing.TB) []largest {
	t.Helper()
	event := func(id, text string) []byte {
		return marshal(&pb.Event{
			Id: id, Timestamp: timestamppb.Now(), Feature: "codeSearch", Action: "executed",
			Parameters: &pb.EventParameters{PrivateMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"text": structpb.NewStringValue(text)}}},
		})
	}
	const room = limits.ReceiveBytes - 4096
	const control = "\x01" // six bytes in JSON
	var tiny [][]byte
	for i := range limits.EventsPerMessage {
		id := fmt.Sprintf("%0*d", limits.EventIDBytes, i)
		tiny = append(tiny, marshal(&pb.Event{Id: id, Timestamp: timestamppb.Now(), Feature: "ab", Action: "cd"}))
	}
	var plain [][]byte
	for i := range 32 {
		plain = append(plain, event(fmt.Sprint(i), strings.Repeat("text ", room/32/5-20)))
	}
	var escaped [][]byte
	for i := range 3 {
		escaped = append(escaped, event(fmt.Sprint(i), strings.Repeat(control, room/3-200)))
	}
	message := func(events [][]byte) []byte {
		var payload []byte
		for _, e := range events {
			payload = protowire.AppendBytes(protowire.AppendTag(payload, 1, protowire.BytesType), e)
		}
		wire := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), payload)
		if len(wire) > limits.ReceiveBytes {
			t.Fatalf("a message of %d bytes is too large", len(wire))
		}
		return wire
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(message(escaped)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	one := [][]byte{event("1", strings.Repeat(control, room-200))}
	tinyEvents := largest{"tiny events", envelope(false, message(tiny)), len(tiny), pb.EventVerdict_OUTCOME_ACCEPTED}
	grows := largest{"events that grow sixfold", envelope(false, message(escaped)), len(escaped), pb.EventVerdict_OUTCOME_ACCEPTED}
	bomb := largest{"the same, compressed to next to nothing", envelope(true, zipped.Bytes()), len(escaped), pb.EventVerdict_OUTCOME_ACCEPTED}
	tooLarge := largest{"one event that is too large once encoded", envelope(false, message(one)), 1, pb.EventVerdict_OUTCOME_DEAD_LETTERED}
	// The rest of a connection's streams send the last kind, which costs the
	// least time.
	return []largest{
		tinyEvents, tinyEvents, grows, grows, bomb, bomb, tooLarge, tooLarge,
		{"plain events", envelope(false, message(plain)), len(plain), pb.EventVerdict_OUTCOME_ACCEPTED},
	}
}
