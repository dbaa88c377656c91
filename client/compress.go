// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"compress/gzip"
	"io"
	"net/url"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
)

// compressFrom is the size in bytes from which on messages are compressed. A
// gateway sets memory aside for a compressed message as for the largest there
// can be, which a stream's metadata and a few events are not worth.
const compressFrom = 4 << 10

// compresses reports whether messages to a gateway are compressed.
func (o Options) compresses(gateway *url.URL) bool {
	switch o.Compression {
	case CompressAlways:
		return true
	case CompressNever:
		return false
	default:
		return !isLoopback(gateway.Hostname()) && !o.OldServiceName
	}
}

func withGzip() connect.ClientOption {
	return connect.WithClientOptions(
		connect.WithAcceptCompression("gzip",
			func() connect.Decompressor { return new(gzip.Reader) },
			func() connect.Compressor { return newCompressor() }),
		connect.WithSendCompression("gzip"),
		connect.WithCompressMinBytes(compressFrom))
}

// compressor is gzip at its fastest. The metadata that a batch begins with is
// put in a member of its own, as it is: compressed together with events, which
// anyone may be able to bring about, the size of messages would tell an
// eavesdropper about the licence key.
type compressor struct {
	stored, fast *gzip.Writer
	begun        bool
	dst          io.Writer
}

func newCompressor() *compressor {
	stored, _ := gzip.NewWriterLevel(io.Discard, gzip.NoCompression) // the levels exist
	fast, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	return &compressor{stored: stored, fast: fast, dst: io.Discard}
}

func (c *compressor) Reset(dst io.Writer) {
	c.begun, c.dst = false, dst
	c.fast.Reset(dst)
}

// Write takes the metadata whole in the first piece, as a message is written.
func (c *compressor) Write(p []byte) (int, error) {
	secret := 0
	if !c.begun {
		secret = metadataSize(p)
	}
	c.begun = true
	if secret > 0 {
		c.stored.Reset(c.dst)
		if n, err := c.stored.Write(p[:secret]); err != nil {
			return n, err
		}
		if err := c.stored.Close(); err != nil {
			return 0, err
		}
		c.stored.Reset(io.Discard)
	}
	n, err := c.fast.Write(p[secret:])
	return secret + n, err
}

func (c *compressor) Close() error { return c.fast.Close() }

// metadataSize is how many bytes of metadata a message begins with. In the
// requests of both calls it is field 1.
func metadataSize(m []byte) int {
	num, typ, n := protowire.ConsumeTag(m)
	if n < 0 || num != metadataField || typ != protowire.BytesType {
		return 0
	}
	return n + max(0, protowire.ConsumeFieldValue(num, typ, m[n:]))
}
