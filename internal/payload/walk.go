// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// A walk reads the wire bytes of an event once, from left to right, and writes
// JSON as it goes. It knows events as the usual libraries write them: each field
// at most once, in the order of declaration, nothing that the contract does not
// have. Of anything else, and of anything that breaks a rule, it makes nothing
// and gives no reason: the plain way does.
//
// Methods that write return what they have appended to, and whether they could.
type walk struct {
	id, feature, action string
	idFrom, idTo        int // where the ID stands in dst, with its quotes
	timestamp, private  bool
	records             []string // keys of metadata that become attributes, in order

	depth   int     // of objects and lists of private metadata
	entries []entry // those of the maps that are being written, a stack
}

// entry is one of a map. value begins behind its tag.
type entry struct{ key, value string }

// The tags of the fields of map entries and of google.protobuf's types, which
// never change.
const (
	keyTag    = 1<<3 | byte(protowire.BytesType)
	valuesTag = 1<<3 | byte(protowire.BytesType) // ListValue
	nullTag   = 1<<3 | byte(protowire.VarintType)
	numberTag = 2<<3 | byte(protowire.Fixed64Type)
	stringTag = 3<<3 | byte(protowire.BytesType)
	boolTag   = 4<<3 | byte(protowire.VarintType)
	structTag = 5<<3 | byte(protowire.BytesType)
	listTag   = 6<<3 | byte(protowire.BytesType)
)

// keepEntries is how much of its memory a walk keeps for the next one.
const keepEntries = 512

// event appends an event. The walk is then what is known of it, until its end.
func (w *walk) event(dst []byte, event string) ([]byte, bool) {
	dst, ok := w.message(dst, eventMessage(), event)
	return dst, ok && w.id != "" && w.feature != "" && w.action != "" && w.timestamp
}

// end lets go of the event.
func (w *walk) end() {
	clear(w.entries)
	clear(w.records)
	*w = walk{entries: w.entries[:0], records: w.records[:0]}
	if cap(w.entries) > keepEntries {
		w.entries = nil
	}
}

// message appends a message. b is all that there is of it.
func (w *walk) message(dst []byte, m *message, b string) ([]byte, bool) {
	start := len(dst)
	for next := 0; len(b) > 0; next++ {
		tag, n := varint(b)
		for next < len(m.fields) && m.fields[next].tag != tag {
			next++
		}
		if n == 0 || next == len(m.fields) {
			return nil, false
		}
		f, ok := &m.fields[next], false
		dst = append(dst, f.name...)
		switch f.card {
		case single:
			dst, b, ok = w.value(dst, f, b[n:])
		case repeated:
			dst, b, ok = w.repeated(dst, f, b)
		case packed:
			dst, b, ok = w.packed(dst, f, b[n:])
		case mapped:
			dst, b, ok = w.mapped(dst, f, b)
		}
		if !ok {
			return nil, false
		}
	}
	return closed(dst, start, '{', '}'), true
}

// closed makes an object or a list of what was appended to dst from start on,
// each member after a comma.
func closed(dst []byte, start int, open, end byte) []byte {
	if len(dst) == start {
		return append(dst, open, end)
	}
	dst[start] = open
	return append(dst, end)
}

// repeated appends the list that b begins with, tags included.
func (w *walk) repeated(dst []byte, f *field, b string) (_ []byte, rest string, ok bool) {
	start := len(dst)
	for len(b) > 0 {
		tag, n := varint(b)
		if tag != f.tag || n == 0 {
			break
		}
		dst = append(dst, ',')
		if dst, b, ok = w.value(dst, f, b[n:]); !ok {
			return nil, "", false
		}
	}
	return closed(dst, start, '[', ']'), b, true
}

// packed appends the list of numbers that b begins with.
func (w *walk) packed(dst []byte, f *field, b string) (_ []byte, rest string, ok bool) {
	start := len(dst)
	numbers, rest, ok := delimited(b)
	if !ok || numbers == "" {
		return nil, "", false
	}
	for len(numbers) > 0 {
		dst = append(dst, ',')
		if dst, numbers, ok = w.value(dst, f, numbers); !ok {
			return nil, "", false
		}
	}
	return closed(dst, start, '[', ']'), rest, true
}

// mapped appends the map that b begins with, tags included, in the order of its
// keys.
func (w *walk) mapped(dst []byte, f *field, b string) (_ []byte, rest string, ok bool) {
	base, sorted := len(w.entries), true
	for len(b) > 0 {
		tag, n := varint(b)
		if tag != f.tag || n == 0 {
			break
		}
		var content, key string
		if content, b, ok = delimited(b[n:]); !ok {
			return nil, "", false
		}
		// Both a key and a value, each once.
		if content == "" || content[0] != keyTag {
			return nil, "", false
		}
		key, content, ok = delimited(content[1:])
		if !ok || content == "" || content[0] != f.entry {
			return nil, "", false
		}
		sorted = sorted && (len(w.entries) == base || w.entries[len(w.entries)-1].key < key)
		w.entries = append(w.entries, entry{key, content[1:]})
	}
	entries := w.entries[base:]
	if !sorted {
		slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
		for i := 1; i < len(entries); i++ {
			if entries[i].key == entries[i-1].key {
				return nil, "", false
			}
		}
	}
	start := len(dst)
	for i := range entries {
		e := &entries[i]
		dst = append(dst, ',', '"')
		if dst, ok = appendText(dst, e.key); !ok {
			return nil, "", false
		}
		dst = append(dst, '"', ':')
		var more string
		if dst, more, ok = w.value(dst, f, e.value); !ok || more != "" {
			return nil, "", false
		}
		if f.role == metadataRole && recordsPrivate(e.key) && double(e.value) > 0 && len(w.records) < limits.Attributes {
			w.records = append(w.records, e.key)
		}
	}
	clear(w.entries[base:])
	w.entries = w.entries[:base]
	return closed(dst, start, '{', '}'), b, true
}

// value appends the value that b begins with.
func (w *walk) value(dst []byte, f *field, b string) (_ []byte, rest string, ok bool) {
	switch f.kind {
	case textKind, bytesKind, messageKind, timestampKind, structKind, listKind, valueKind:
		content, rest, ok := delimited(b)
		if !ok {
			return nil, "", false
		}
		dst, ok = w.content(dst, f, content)
		return dst, rest, ok
	case doubleKind:
		if len(b) < 8 {
			return nil, "", false
		}
		n := double(b)
		if !finite(n) || f.sparse && math.Float64bits(n) == 0 {
			return nil, "", false
		}
		return appendNumber(dst, n), b[8:], true
	}
	v, n := varint(b)
	if n == 0 || f.sparse && v == 0 {
		return nil, "", false
	}
	switch f.kind {
	case boolKind:
		if v > 1 {
			return nil, "", false
		}
		dst = strconv.AppendBool(dst, v == 1)
	case int32Kind:
		if int64(v) != int64(int32(v)) {
			return nil, "", false
		}
		dst = strconv.AppendInt(dst, int64(v), 10)
	case uint32Kind:
		if v > math.MaxUint32 {
			return nil, "", false
		}
		dst = strconv.AppendUint(dst, v, 10)
	case int64Kind: // texts, since not every reader keeps them exact as numbers
		dst = append(strconv.AppendInt(append(dst, '"'), int64(v), 10), '"')
	case uint64Kind:
		dst = append(strconv.AppendUint(append(dst, '"'), v, 10), '"')
	case enumKind:
		name, known := f.values[v]
		if !known {
			return nil, "", false
		}
		dst = append(dst, name...)
	default:
		return nil, "", false
	}
	return dst, b[n:], true
}

// content appends a value that has a length.
func (w *walk) content(dst []byte, f *field, b string) (_ []byte, ok bool) {
	switch f.kind {
	case textKind:
		if f.sparse && b == "" {
			return nil, false
		}
		from := len(dst)
		if dst, ok = appendText(append(dst, '"'), b); !ok {
			return nil, false
		}
		dst = append(dst, '"')
		switch f.role {
		case idRole:
			w.id, w.idFrom, w.idTo = b, from, len(dst)
			return dst, len(b) <= limits.EventIDBytes
		case featureRole:
			w.feature = b
			return dst, limits.ValidName(b)
		case actionRole:
			w.action = b
			return dst, limits.ValidName(b)
		}
		return dst, true
	case bytesKind:
		if f.sparse && b == "" {
			return nil, false
		}
		dst = base64.StdEncoding.AppendEncode(append(dst, '"'), []byte(b))
		return append(dst, '"'), true
	case messageKind:
		return w.message(dst, f.message, b)
	case timestampKind:
		w.timestamp = w.timestamp || f.role == timestampRole
		return appendTimestamp(dst, b)
	case structKind:
		w.private = w.private || f.role == privateRole
		return w.object(dst, b)
	case listKind:
		return w.list(dst, b)
	case valueKind:
		return w.any(dst, b)
	}
	return nil, false
}

// object appends a google.protobuf.Struct.
func (w *walk) object(dst []byte, b string) (_ []byte, ok bool) {
	if w.depth++; w.depth > limits.Depth {
		return nil, false
	}
	dst, b, ok = w.mapped(dst, &structFields, b)
	w.depth--
	return dst, ok && b == ""
}

// list appends a google.protobuf.ListValue.
func (w *walk) list(dst []byte, b string) (_ []byte, ok bool) {
	if w.depth++; w.depth > limits.Depth {
		return nil, false
	}
	start := len(dst)
	for len(b) > 0 {
		if b[0] != valuesTag {
			return nil, false
		}
		var content string
		if content, b, ok = delimited(b[1:]); !ok {
			return nil, false
		}
		if dst, ok = w.any(append(dst, ','), content); !ok {
			return nil, false
		}
	}
	w.depth--
	return closed(dst, start, '[', ']'), true
}

// any appends a google.protobuf.Value: one field, of whatever kind.
func (w *walk) any(dst []byte, b string) (_ []byte, ok bool) {
	if b == "" {
		return nil, false
	}
	switch tag, b := b[0], b[1:]; tag {
	case nullTag:
		return append(dst, "null"...), b == "\x00"
	case numberTag:
		if len(b) != 8 || !finite(double(b)) {
			return nil, false
		}
		return appendNumber(dst, double(b)), true
	case boolTag:
		return strconv.AppendBool(dst, b == "\x01"), b == "\x01" || b == "\x00"
	case stringTag, structTag, listTag:
		content, rest, ok := delimited(b)
		switch {
		case !ok || rest != "":
			return nil, false
		case tag == structTag:
			return w.object(dst, content)
		case tag == listTag:
			return w.list(dst, content)
		}
		dst, ok = appendText(append(dst, '"'), content)
		return append(dst, '"'), ok
	}
	return nil, false
}
