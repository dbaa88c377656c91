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
	"net/netip"
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

// TestSlowMakeRoom has senders that trickle messages of the largest size hold
// all the memory there is for receiving. Whoever comes then waits for some
// seconds and not for minutes.
func TestSlowMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g, transport, stop := serveOnPipe(t, topic.NewMemory(1000))
		post := func(body io.Reader) []byte {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gateway"+telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventsProcedure, body)
			if err != nil {
				t.Error(err)
			}
			req.Header.Set("Content-Type", "application/connect+proto")
			r, err := transport.RoundTrip(req)
			if err != nil {
				return nil // the test has ended it
			}
			answer, _ := io.ReadAll(r.Body)
			return answer
		}
		md := envelope(marshal(t, metadataMessage(unlicensedMetadata("a"))))
		large := binary.BigEndian.AppendUint32([]byte{0}, limits.ReceiveBytes)

		var slow sync.WaitGroup
		var mu sync.Mutex
		crowded := 0
		share := &g.budget.shares[unlicensed]
		tricklers := int(share.receiveMax / share.receiveCost(limits.ReceiveBytes))
		for range tricklers {
			body, w := io.Pipe()
			slow.Go(func() {
				write(t, w, md, large)
				for {
					if _, err := w.Write([]byte{0}); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			})
			slow.Go(func() {
				if bytes.Contains(post(body), []byte("arrived too slowly")) {
					mu.Lock()
					crowded++
					mu.Unlock()
				}
				_ = body.Close()
			})
		}
		time.Sleep(2 * time.Second) // of the bubble's clock
		if share.receive.TryAcquire(1) {
			t.Fatal("the slow senders do not hold all memory")
		}
		began := time.Now()
		message := envelope(marshal(t, eventsMessage(events("e", 100)...)))
		if answer := post(bytes.NewReader(append(bytes.Clone(md), message...))); !bytes.Contains(answer, []byte("e-99")) {
			t.Errorf("the sender that came later got %q", answer)
		}
		if waited := time.Since(began); waited > limits.CrowdedAge+2*time.Second {
			t.Errorf("it waited %v", waited)
		}
		synctest.Wait() // until whoever was ended knows
		mu.Lock()
		if crowded != 1 {
			t.Errorf("%d slow senders were ended, want as many as had to make room: 1 of %d", crowded, tricklers)
		}
		mu.Unlock()
		cancel()
		slow.Wait()
		stop()
	})
}

func TestPerNetwork(t *testing.T) {
	p := perNetwork{max: 2, exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	enter := func(a string) (func(), bool) { return p.enter(netip.MustParseAddr(a)) }
	leave, ok := enter("2001:db8::1")
	if _, second := enter("2001:db8::2"); !ok || !second {
		t.Fatal("there is no room for two")
	}
	if _, third := enter("2001:db8::3"); third {
		t.Error("a third from the same /64 was let in")
	}
	if _, other := enter("2001:db8:0:1::1"); !other {
		t.Error("one from another network was not")
	}
	leave()
	leave()
	if _, again := enter("2001:db8::3"); !again {
		t.Error("who left still counts")
	}
	if _, third := enter("2001:db8::4"); third {
		t.Error("who left twice counts twice")
	}
	for range 5 {
		if _, ok := enter("10.1.2.3"); !ok {
			t.Error("a trusted proxy is counted")
		}
	}
}

// TestConnectionsPerNetwork opens one connection more than may be open.
func TestConnectionsPerNetwork(t *testing.T) {
	s := start(t, func(_ *Options, _ *identity.Options, o *ServeOptions) { o.ConnectionsPerNetwork = 2 })
	began := time.Now()
	var conns []net.Conn
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		return conn
	}
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range 2 {
		// An answer shows that the connection has been taken.
		conn := dial()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 12)); err != nil {
			t.Fatalf("a connection within the bound: %v", err)
		}
	}
	if n, err := dial().Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("one too many was not closed: %d bytes, %v", n, err)
	}
	// One that is closed makes room, as soon as the gateway has noticed.
	conns[0].Close()
	for {
		conn := dial()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if n, _ := conn.Read(make([]byte, 12)); n > 0 {
			return
		}
		conn.Close()
		if time.Since(began) > time.Minute {
			t.Fatal("a closed connection made no room")
		}
	}
}

// TestNewcomers bounds the calls of one address that have not said who they
// are, and no others.
func TestNewcomers(t *testing.T) {
	s := start(t)
	s.newcomers.max = 1
	client := s.connect(t, connect.WithGRPC())
	batch := func(md *pb.RecordEventsRequestMetadata, want connect.Code, when string) {
		t.Helper()
		_, err := client.RecordEventBatch(t.Context(), connect.NewRequest(&pb.RecordEventBatchRequest{Metadata: md}))
		if codeOfError(err) != want {
			t.Errorf("%s: %v, want code %v", when, err, want)
		}
	}
	for range 3 {
		batch(unlicensedMetadata(""), connect.CodeInvalidArgument, "after others who were refused")
	}
	leave, ok := s.newcomers.enter(netip.MustParseAddr("127.0.0.1"))
	if !ok {
		t.Fatal("who was refused still counts")
	}
	batch(s.licensedMetadata(), connect.CodeResourceExhausted, "beside a newcomer that keeps silent")
	leave()

	stream := client.RecordEvents(t.Context())
	for _, m := range []*pb.RecordEventsRequest{metadataMessage(s.licensedMetadata()), eventsMessage()} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.Receive(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		batch(s.licensedMetadata(), 0, "beside a stream that has said who it is")
	}
}

// TestSmallMessagesCannotCrowd: streams whose messages are too small to be counted
// as arriving do not fill a share together, with the least memory that an operator
// may give.
func TestSmallMessagesCannotCrowd(t *testing.T) {
	b := newBudget(limits.InFlightMinBytes, func(int64) {})
	for of, streams := range map[class]int64{proven: limits.Calls, unlicensed: limits.Calls / limits.UnlicensedShare} {
		share := &b.shares[of]
		if all := streams * share.receiveCost(callAheadBytes); all >= share.receiveMax {
			t.Errorf("class %d: %d streams take %d bytes of %d", of, streams, all, share.receiveMax)
		}
	}
}
