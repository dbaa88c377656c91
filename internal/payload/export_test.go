// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"time"
	"unsafe"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// The two ways, each on its own, and the parts of the fast one.

func EncodeFast(e *Encoder, dst, event []byte, receivedAt time.Time) ([]byte, Labels, bool) {
	return e.encodeFast(dst, event, receivedAt)
}

func EncodePlain(e *Encoder, dst, event []byte, receivedAt time.Time) ([]byte, Labels, *limits.Violation) {
	return e.encodePlain(dst, event, receivedAt)
}

// Walk returns what appends messages of any type, from their wire bytes.
func Walk(md protoreflect.MessageDescriptor) func(dst, wire []byte) ([]byte, bool) {
	m := compile(md)
	return func(dst, wire []byte) ([]byte, bool) {
		if m == nil {
			return nil, false
		}
		var w walk
		return w.message(dst, m, text(wire))
	}
}

// Inspect walks a message of any type as the plain way does.
func Inspect(md protoreflect.MessageDescriptor, wire []byte) (unknown bool, v *limits.Violation) {
	v = inspectMessage(wire, md, 0, &unknown)
	return unknown, v
}

// Kept is how much memory an encoder and an arena hold between batches.
func Kept(e *Encoder, a *Arena) int {
	return cap(e.walk.entries)*int(unsafe.Sizeof(entry{})) + cap(a.attributes)*int(unsafe.Sizeof(Label{})) + cap(a.texts)
}
