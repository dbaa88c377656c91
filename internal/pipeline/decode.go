// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"net/url"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// Decode makes the row of the event whose payload m carries: everything in it
// but LandedAt. The row points into m's key and data. If m is no payload, or if
// its key is not that of the event in it, Decode returns why, and the row is of
// no use.
//
// A payload in the form that gateways write is read in one pass. Any other goes
// through payload.Decode, which is twenty times slower and decides what is a
// payload and what is not; both ways make the same row.
func Decode(m *topic.Message, row *warehouse.Row) *limits.Violation {
	return decode(m, row, new(origin))
}

// decode is Decode of one of several messages. It keeps in last what the others
// may have as well.
func decode(m *topic.Message, row *warehouse.Row, last *origin) *limits.Violation {
	if v := decodePayload(m.Data, row, last); v != nil {
		return v
	}
	return identify(m.Key, row)
}

// decodePayload is decode without the key.
func decodePayload(data []byte, row *warehouse.Row, last *origin) *limits.Violation {
	if !decodeCanonical(data, row, last) {
		if v := decodeAny(data, row); v != nil {
			return v
		}
	}
	row.Payload = data
	return nil
}

// Same reports whether two payloads show the same event, also where one shows it
// in another form than the other.
func Same(a, b []byte) bool {
	one, err := payload.Decode(a)
	if err != nil {
		return false
	}
	other, err := payload.Decode(b)
	return err == nil && proto.Equal(one.Event, other.Event)
}

// decodeAny is decodePayload for every form that a payload may have.
func decodeAny(data []byte, row *warehouse.Row) *limits.Violation {
	*row = warehouse.Row{}
	if v := checkText(data); v != nil {
		return v
	}
	m, err := payload.Decode(data)
	if err != nil {
		// The error may quote the event; a violation must not.
		return invalid("", "is not the payload of an event")
	}
	fillOrigin(row, &m.Origin)
	if row.Source == "" {
		return invalid("metadata.identifier", "does not name a kind of sender that this version knows")
	}
	at, ok := parseTime(m.Labels["receivedAt"])
	if !ok {
		return invalid("labels.receivedAt", "is not a time between the years 1 and 9999")
	}
	row.ReceivedAt = at
	switch e := m.Event; {
	case e.GetId() == "":
		return invalid("event.id", "is empty")
	case e.GetFeature() == "":
		return invalid("event.feature", "is empty")
	case e.GetAction() == "":
		return invalid("event.action", "is empty")
	case e.GetTimestamp() == nil || !e.GetTimestamp().IsValid():
		return invalid("event.timestamp", "is not a time between the years 1 and 9999")
	}
	if !fillEvent(row, m.Event) {
		return invalid("event.parameters", "holds a number that is NaN or infinite, or is nested too deep")
	}
	// Decode has seen that this is an object. Just these bytes are what is read
	// in one pass as well.
	var in struct{ Event, Wire json.RawMessage }
	if err := json.Unmarshal(data, &in); err != nil {
		return invalid("", "is not the payload of an event")
	}
	row.ContentHash = contentHash(in.Event, in.Wire)
	return nil
}

// identify fills what comes from the message's key. The key must be that of the
// event: what is known of a sender's events by their keys would be wrong
// otherwise.
func identify(key string, row *warehouse.Row) *limits.Violation {
	slash := strings.LastIndexByte(key, '/')
	if slash <= 0 || !usableKey(key) {
		return invalid("key", "does not begin with a sender's identity")
	}
	if id := key[slash+1:]; id != row.EventID {
		if id, err := url.PathUnescape(id); err != nil || id != row.EventID {
			return invalid("key", "does not end with the event's ID")
		}
	}
	row.Identity = key[:slash]
	row.KeyHash = keyHash(row.Identity, row.EventID)
	return nil
}

// usableKey reports whether key may be the key of an event. One with a NUL in it
// could have the hash of another.
func usableKey(key string) bool { return utf8.ValidString(key) && strings.IndexByte(key, 0) < 0 }

// keyHash is warehouse.Row.KeyHash.
func keyHash(identity, id string) [16]byte {
	var buffer [limits.IdentityBytes + 1 + limits.EventIDBytes]byte
	text := append(buffer[:0], identity...)
	text = append(text, 0)
	text = append(text, id...)
	sum := sha256.Sum256(text)
	return [16]byte(sum[:16])
}

// contentHash is warehouse.Row.ContentHash: of the event as JSON, and of the wire
// bytes where a payload shows those too, quotes included.
func contentHash(event, wire []byte) int64 {
	sum := sha256.Sum256(event)
	if wire != nil {
		both := sha256.Sum256(wire)
		sum = sha256.Sum256(append(sum[:], both[:]...))
	}
	return int64(binary.BigEndian.Uint64(sum[:]))
}

func invalid(field, message string) *limits.Violation {
	return &limits.Violation{Reason: limits.ReasonPayloadInvalid, Field: field, Message: message}
}

// nesting is how deep the JSON of a payload may nest. An event takes
// limits.Depth and a little more. BigQuery takes 500; DuckDB takes any depth, and
// is killed when a query then walks through it.
const nesting = 500

// checkText refuses texts that a warehouse must not be given, and that parsers of
// JSON let pass: they replace bytes that are not UTF-8, and halves of surrogate
// pairs, with something else, and spend memory or stack on each level of nesting.
// It leaves to them whether the text is JSON at all.
func checkText(text []byte) *limits.Violation {
	if !utf8.Valid(text) {
		return invalid("", "is not valid UTF-8")
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			if depth++; depth > nesting {
				return invalid("", "is nested too deep")
			}
		case '}', ']':
			depth--
		case '"':
			end, ok := scanString(text, i+1)
			if !ok {
				return invalid("", "has half of a surrogate pair in a text")
			}
			i = end
		}
	}
	return nil
}

// scanString returns where the string that begins at i ends, and whether all
// surrogates in it are pairs.
func scanString(text []byte, i int) (end int, ok bool) {
	for ; i < len(text) && text[i] != '"'; i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		switch unit, _ := codeUnit(text, i); {
		case 0xdc00 <= unit && unit < 0xe000:
			return i, false
		case 0xd800 <= unit && unit < 0xdc00:
			low, _ := codeUnit(text, i+6)
			if i+5 >= len(text) || text[i+5] != '\\' || low < 0xdc00 || low >= 0xe000 {
				return i, false
			}
			i += 10
		}
	}
	return i, true
}

// codeUnit returns what a \u escape stands for whose u is at i, and whether it is
// one.
func codeUnit[T string | []byte](text T, i int) (unit rune, ok bool) {
	if i+5 > len(text) || text[i] != 'u' {
		return 0, false
	}
	for _, c := range []byte(text[i+1 : i+5]) {
		switch unit <<= 4; {
		case '0' <= c && c <= '9':
			unit |= rune(c - '0')
		case 'a' <= c && c <= 'f':
			unit |= rune(c - 'a' + 10)
		case 'A' <= c && c <= 'F':
			unit |= rune(c - 'A' + 10)
		default:
			return 0, false
		}
	}
	return unit, true
}
