// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// reader reads JSON without any space between values from left to right. What it
// returns points into the text. After the first thing that it does not expect it
// has failed: it then is at the end, and returns nothing but zeros.
type reader struct {
	text   string // valid UTF-8
	at     int
	failed bool
}

func (r *reader) fail() { r.at, r.failed = len(r.text), true }

// take moves past c if it is next.
func (r *reader) take(c byte) bool {
	if r.at < len(r.text) && r.text[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *reader) want(c byte) {
	if !r.take(c) {
		r.fail()
	}
}

// members yields the names of an object's members. Whoever loops reads each one's
// value.
func (r *reader) members(yield func(name string) bool) {
	r.want('{')
	if r.take('}') {
		return
	}
	for !r.failed {
		name := r.string()
		r.want(':')
		if r.failed || !yield(name) {
			return
		}
		if !r.take(',') {
			r.want('}')
			return
		}
	}
}

// fields is members, of a message of the contract: no name comes twice.
func (r *reader) fields(yield func(name string) bool) {
	var names [16]string // more than any message has
	n := 0
	for name := range r.members {
		if n == len(names) || slices.Contains(names[:n], name) {
			r.fail()
			return
		}
		names[n] = name
		n++
		if !yield(name) {
			return
		}
	}
}

// entries is members, of a map: the names ascend, so none comes twice.
func (r *reader) entries(yield func(name string) bool) {
	last, first := "", true
	for name := range r.members {
		if !first && name <= last {
			r.fail()
			return
		}
		last, first = name, false
		if !yield(name) {
			return
		}
	}
}

// elements yields the indexes of a list's elements. Whoever loops reads each one.
func (r *reader) elements(yield func(i int) bool) {
	r.want('[')
	if r.take(']') {
		return
	}
	for i := 0; !r.failed && yield(i); i++ {
		if !r.take(',') {
			r.want(']')
			return
		}
	}
}

func (r *reader) string() string {
	r.want('"')
	start, i := r.at, r.at
	for i < len(r.text) && plain(r.text[i]) {
		i++
	}
	switch {
	case i == len(r.text):
		r.fail()
		return ""
	case r.text[i] == '"':
		r.at = i + 1
		return r.text[start:i]
	}
	r.at = i
	return r.escaped(r.text[start:i])
}

// plain reports whether c stands for itself within a string.
func plain(c byte) bool { return c >= ' ' && c != '"' && c != '\\' }

// escaped reads the rest of a string after its beginning, into memory of its own.
func (r *reader) escaped(beginning string) string {
	text := []byte(beginning)
	for r.at < len(r.text) {
		c := r.text[r.at]
		r.at++
		switch {
		case c == '"':
			return string(text)
		case c == '\\':
			text = r.escape(text)
		case c < ' ':
			r.fail()
		default:
			text = append(text, c)
		}
	}
	r.fail()
	return ""
}

// escape appends what the escape stands for whose backslash has been read.
func (r *reader) escape(text []byte) []byte {
	if unit, ok := codeUnit(r.text, r.at); ok {
		r.at += 5
		if utf16.IsSurrogate(unit) {
			r.want('\\')
			low, _ := codeUnit(r.text, r.at)
			unit = utf16.DecodeRune(unit, low)
			if unit == '\ufffd' {
				r.fail()
				return nil
			}
			r.at += 5
		}
		return append(text, string(unit)...)
	}
	const from, to = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if r.at < len(r.text) {
		if i := strings.IndexByte(from, r.text[r.at]); i >= 0 {
			r.at++
			return append(text, to[i])
		}
	}
	r.fail()
	return nil
}

// time reads a string that is a time in UTC, as gateways write them.
func (r *reader) time() time.Time {
	text := r.string()
	at, ok := parseTime(text)
	if !ok || len(text) > len("2006-01-02T15:04:05.999999999Z") || text[len(text)-1] != 'Z' {
		r.fail()
	}
	return at
}

// numeral reads the text of a number.
func (r *reader) numeral() string {
	start := r.at
	r.take('-')
	if !r.take('0') {
		r.digits()
	}
	if r.take('.') {
		r.digits()
	}
	if r.take('e') || r.take('E') {
		if !r.take('+') {
			r.take('-')
		}
		r.digits()
	}
	return r.text[start:r.at]
}

// digits reads one digit or more.
func (r *reader) digits() {
	start := r.at
	for r.at < len(r.text) && '0' <= r.text[r.at] && r.text[r.at] <= '9' {
		r.at++
	}
	if r.at == start {
		r.fail()
	}
}

// number reads a number that a double can hold, rounded.
func (r *reader) number() float64 {
	n, err := strconv.ParseFloat(r.numeral(), 64)
	if err != nil {
		r.fail()
	}
	return n
}

// integer reads an integer of so many bits.
func (r *reader) integer(bits int) int64 {
	n, err := strconv.ParseInt(r.numeral(), 10, bits)
	if err != nil {
		r.fail()
	}
	return n
}

// object reads an object of private metadata at the given depth.
func (r *reader) object(depth int) {
	if depth > limits.Depth {
		r.fail()
	}
	for range r.entries {
		r.value(depth)
	}
}

// value reads a value inside of what is at the given depth.
func (r *reader) value(depth int) {
	if r.at == len(r.text) {
		r.fail()
		return
	}
	switch r.text[r.at] {
	case '{':
		r.object(depth + 1)
	case '[':
		if depth+1 > limits.Depth {
			r.fail()
		}
		for range r.elements {
			r.value(depth + 1)
		}
	case '"':
		r.string()
	case 't':
		r.literal("true")
	case 'f':
		r.literal("false")
	case 'n':
		r.literal("null")
	default:
		r.number()
	}
}

func (r *reader) literal(text string) {
	if !strings.HasPrefix(r.text[r.at:], text) {
		r.fail()
		return
	}
	r.at += len(text)
}
