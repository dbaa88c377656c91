// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"net/url"
	"unsafe"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// An Arena is memory for the labels of a batch of events, which live as long as
// the batch does: until Reset. A batch that is being published while the next
// one is encoded has an arena of its own. The zero value is ready for use.
type Arena struct {
	attributes []Label
	texts      []byte
}

// What an arena keeps of its memory when it is reset: what the batches need that
// are usually published at once.
const (
	keepAttributes = 8 * limits.RequestMessages
	keepTexts      = 128 * limits.RequestMessages // bytes
)

// Reset forgets all labels. Their memory is used again for those of the next
// batch, so that nothing may use them any more, save their event IDs.
func (a *Arena) Reset() {
	clear(a.attributes)
	a.attributes, a.texts = a.attributes[:0], a.texts[:0]
	if cap(a.attributes) > keepAttributes {
		a.attributes = nil
	}
	if cap(a.texts) > keepTexts {
		a.texts = nil
	}
}

// Use makes e take the memory for labels from a, until it is told to use another
// arena. Without one, each event's labels have memory that nobody uses again.
func (e *Encoder) Use(a *Arena) { e.arena = a }

// labelsOf returns the labels of the event that w has walked. When an arena is
// moved to grow, earlier labels go on referring to where it was, which is as
// good.
func (e *Encoder) labelsOf(w *walk) Labels {
	a := e.arena
	if a == nil {
		a = new(Arena)
	}
	from := len(a.attributes)
	a.attributes = append(a.attributes, e.sender...)
	a.attributes = append(
		a.attributes,
		Label{"event.id", w.id},
		Label{"event.feature", w.feature},
		Label{"event.action", w.action},
		Label{"event.hasPrivateMetadata", boolText(w.private)},
	)
	room := limits.Attributes - (len(a.attributes) - from)
	for _, key := range w.records[:min(len(w.records), room)] {
		a.attributes = append(a.attributes, Label{a.join("event", ".", key), boolText(true)})
	}
	to := len(a.attributes)
	id := w.id
	if !plainSegment(id) {
		id = url.PathEscape(id)
	}
	return Labels{EventID: w.id, Key: a.join(e.identity, "/", id), Attributes: a.attributes[from:to:to]}
}

func (a *Arena) join(x, y, z string) string {
	from := len(a.texts)
	a.texts = append(append(append(a.texts, x...), y...), z...)
	return text(a.texts[from:])
}

// plainSegment reports whether s is a part of a path that needs no escapes.
func plainSegment(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~':
		default:
			return false
		}
	}
	return true
}

// text returns b as a string that shares its memory.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
