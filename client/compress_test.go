// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// Compressed, the metadata of a batch has no part in what comes after it: the
// events may as well hold the licence key, and the message is no smaller.
func TestCompressorSetsTheKeyApart(t *testing.T) {
	key := "c2VjcmV0LWxpY2VuY2Uta2V5LXRoYXQtbm9ib2R5LWd1ZXNzZXM"
	compress := func(feature string) (message, compressed []byte) {
		message, err := proto.Marshal(&telemetrygatewayv1.RecordEventBatchRequest{
			Metadata: &telemetrygatewayv1.RecordEventsRequestMetadata{Identifier: Licensed(key, "site", "").proto},
			Events:   []*telemetrygatewayv1.Event{{Feature: feature}},
		})
		if err != nil {
			t.Fatal(err)
		}
		c := newCompressor()
		var b bytes.Buffer
		for range 2 { // as one is reused
			b.Reset()
			c.Reset(&b)
			if _, err := c.Write(message); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		return message, b.Bytes()
	}
	// Text that deflate makes nothing of, as the key is alone.
	message, with := compress(key)
	_, without := compress(strings.Map(func(r rune) rune { return r + 1 }, key))
	if len(with) != len(without) {
		t.Errorf("%d bytes with the key in an event, %d with other text: the size tells", len(with), len(without))
	}
	r, err := gzip.NewReader(bytes.NewReader(with))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, message) {
		t.Errorf("the message has changed: %v", err)
	}
}

func FuzzCompressor(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add([]byte("\x0a\x03abcdef"), uint8(3))
	f.Add([]byte("\x0a\x7fshort"), uint8(0))
	f.Add([]byte("\x12\x03abc\x0a\x01x"), uint8(2))
	f.Fuzz(func(t *testing.T, m []byte, first uint8) {
		at := min(int(first), len(m)) // however it is written
		var b bytes.Buffer
		c := newCompressor()
		c.Reset(&b)
		for _, p := range [][]byte{m[:at], m[at:]} {
			if n, err := c.Write(p); n != len(p) || err != nil {
				t.Fatalf("wrote %d of %d bytes, %v", n, len(p), err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := gzip.NewReader(&b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, m) {
			t.Errorf("got %q for %q, %v", got, m, err)
		}
	})
}

func TestWhatIsCompressed(t *testing.T) {
	for _, tt := range []struct {
		gateway string
		options Options
		want    bool
	}{
		{"https://telemetry.example.com", Options{}, true},
		{"http://10.1.2.3:6080", Options{}, true},
		{"https://telemetry.example.com", Options{Compression: CompressNever}, false},
		{"https://telemetry.example.com", Options{OldServiceName: true}, false},
		{"https://telemetry.example.com", Options{OldServiceName: true, Compression: CompressAlways}, true},
		{"http://127.0.0.1:6080", Options{}, false},
		{"http://[::1]:6080", Options{}, false},
		{"http://LOCALHOST:6080", Options{}, false},
		{"http://localhost:6080", Options{Compression: CompressAlways}, true},
	} {
		u, err := url.Parse(tt.gateway)
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.options.compresses(u); got != tt.want {
			t.Errorf("%s, %+v: compressed is %v", tt.gateway, tt.options, got)
		}
	}
}
