// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

//lint:file-ignore SA1019 There is no other way to choose the order of frames, and TestSendAllThenReadWithSmallWindow tells when this one is gone.

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http2"
)

// windowsFirst sends a stream's window updates ahead of its data.
//
// Go's HTTP/2 server queues both in one line, in which an update waits behind a
// response that the peer has no window for. A sender that reads nothing until it
// has sent everything then gets no window to send more, and both sides wait
// until a timer ends the stream. What a stream may send does not depend on what
// it has received, so the order of the two is free.
type windowsFirst struct {
	http2.WriteScheduler
	updates []http2.FrameWriteRequest
}

// sendWindowsFirst makes server's HTTP/2 connections do so. All else stays as
// server is configured.
func sendWindowsFirst(server *http.Server) error {
	return http2.ConfigureServer(server, &http2.Server{NewWriteScheduler: func() http2.WriteScheduler {
		return &windowsFirst{WriteScheduler: http2.NewRandomWriteScheduler()}
	}})
}

func (w *windowsFirst) Push(r http2.FrameWriteRequest) {
	// The library tells the type of a frame only in this text. Should it change
	// that, TestSendAllThenReadWithSmallWindow fails.
	if r.StreamID() != 0 && r.DataSize() == 0 && strings.Contains(r.String(), "writeWindowUpdate") {
		w.updates = append(w.updates, r)
		return
	}
	w.WriteScheduler.Push(r)
}

func (w *windowsFirst) Pop() (http2.FrameWriteRequest, bool) {
	if len(w.updates) == 0 {
		return w.WriteScheduler.Pop()
	}
	r := w.updates[0]
	w.updates = slices.Delete(w.updates, 0, 1)
	return r, true
}

// CloseStream forgets the updates of a stream, which must not be sent any more.
func (w *windowsFirst) CloseStream(id uint32) {
	w.updates = slices.DeleteFunc(w.updates, func(r http2.FrameWriteRequest) bool { return r.StreamID() == id })
	w.WriteScheduler.CloseStream(id)
}
