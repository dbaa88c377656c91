// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// Some tests decide each byte of a gRPC call, which no gRPC library lets them:
// they leave messages half sent, or send one and the same bytes a thousand
// times without a copy for each.

// h2c returns an HTTP client with one HTTP/2 connection in cleartext. It reads
// ahead only a little of what it is sent, as a sender does that has no memory
// to spare.
func h2c(t testing.TB) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: p,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:   64 << 10,
			StrictMaxConcurrentRequests: true,
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// envelope frames a message as gRPC does.
func envelope(compressed bool, message []byte) []byte {
	frame := make([]byte, 5, 5+len(message))
	if compressed {
		frame[0] = 1
	}
	binary.BigEndian.PutUint32(frame[1:], uint32(len(message)))
	return append(frame, message...)
}

// call makes a gRPC call to RecordEvents with a body of the caller's.
func call(ctx context.Context, client *http.Client, address string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+recordEvents, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/grpc+proto")
	r.Header.Set("Te", "trailers")
	r.Header.Set("Grpc-Encoding", "gzip") // of messages that are marked as compressed
	return client.Do(r)
}

// answers calls f with each message of a response, then returns the call's
// status as gRPC has it in its trailers: "0" for OK.
func answers(r *http.Response, f func(message []byte) error) (status string, err error) {
	defer r.Body.Close()
	for {
		var prefix [5]byte
		if _, err := io.ReadFull(r.Body, prefix[:]); err == io.EOF {
			break
		} else if err != nil {
			return "", err
		}
		message := make([]byte, binary.BigEndian.Uint32(prefix[1:]))
		if _, err := io.ReadFull(r.Body, message); err != nil {
			return "", fmt.Errorf("message: %w", err)
		}
		if prefix[0]&1 != 0 {
			z, err := gzip.NewReader(bytes.NewReader(message))
			if err != nil {
				return "", err
			}
			if message, err = io.ReadAll(z); err != nil {
				return "", err
			}
		}
		if err := f(message); err != nil {
			return "", err
		}
	}
	status = r.Trailer.Get("Grpc-Status")
	if status == "" {
		// A call that fails at once has its status in the header.
		status = r.Header.Get("Grpc-Status")
	}
	if status != "0" {
		return status, fmt.Errorf("status %s: %s%s", status, r.Trailer.Get("Grpc-Message"), r.Header.Get("Grpc-Message"))
	}
	return status, nil
}
