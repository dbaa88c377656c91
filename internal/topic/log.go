// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"unicode/utf8"
)

// Log is a topic for looking at: it writes each message as a line.
type Log struct {
	mu     sync.Mutex
	w      io.Writer
	line   []byte
	closed bool
}

// NewLog returns a topic that writes to w, one Write for each Publish. A
// message is as durable as w makes it. Closing the topic leaves w open.
func NewLog(w io.Writer) *Log { return &Log{w: w} }

// Publish writes a line for each message, see [AppendLine].
func (l *Log) Publish(ctx context.Context, ms []Message) []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errorForEach(ms, ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return errorForEach(ms, err)
	}
	if len(ms) == 0 {
		return nil
	}
	l.line = l.line[:0]
	for _, m := range ms {
		l.line = append(AppendLine(l.line, m), '\n')
	}
	if _, err := l.w.Write(l.line); err != nil {
		return errorForEach(ms, fmt.Errorf("write message: %w", err))
	}
	return nil
}

// Ping returns ErrClosed after Close; only writing shows whether w works.
func (l *Log) Ping(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	return nil
}

// Close waits for a Publish under way.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

// AppendLine appends m to dst as one line of JSON, without a newline:
//
//	{"key":"…","attributes":{"…":"…"},"data":…}
//
// Data that is JSON stands there as it is, save for white space; any other data
// is a string in base64. Attributes keep their order.
func AppendLine(dst []byte, m Message) []byte {
	dst = append(dst, `{"key":`...)
	dst = appendString(dst, m.Key)
	dst = append(dst, `,"attributes":{`...)
	for i, a := range m.Attributes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, a.Key)
		dst = append(dst, ':')
		dst = appendString(dst, a.Value)
	}
	dst = append(dst, `},"data":`...)
	// The scanner of encoding/json lets bytes that are not UTF-8 pass.
	if utf8.Valid(m.Data) {
		b := bytes.NewBuffer(dst)
		if json.Compact(b, m.Data) == nil {
			return append(b.Bytes(), '}')
		}
	}
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, m.Data)
	return append(dst, `"}`...)
}

// appendString appends s as a JSON string, with U+FFFD for what is not UTF-8.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(slices.Grow(dst, len(s)+2), '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&0xf])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
