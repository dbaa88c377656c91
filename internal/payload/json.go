// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// appendString appends s, which is valid UTF-8, as a JSON string.
func appendString(dst []byte, s string) []byte {
	dst, _ = appendText(append(dst, '"'), s)
	return append(dst, '"')
}

// appendText appends s without quotes. It escapes what protojson escapes and
// nothing else. It reports whether s is valid UTF-8.
func appendText(dst []byte, s string) (_ []byte, ok bool) {
	for {
		n := plainPrefix(s)
		dst, s = append(dst, s[:n]...), s[n:]
		if s == "" {
			return dst, true
		}
		if c := s[0]; c < utf8.RuneSelf {
			dst, s = appendEscaped(dst, c), s[1:]
			continue
		}
		// Runs of other scripts are copied at once, too.
		n = 0
		for n < len(s) && s[n] >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[n:])
			if r == utf8.RuneError && size == 1 {
				return dst, false
			}
			n += size
		}
		dst, s = append(dst, s[:n]...), s[n:]
	}
}

// plainPrefix returns how much of s, from its beginning, is ASCII and needs no
// escape.
func plainPrefix(s string) int {
	n := 0
	for n+8 <= len(s) && plain8(word(s[n:])) {
		n += 8
	}
	if n+8 > len(s) && len(s) >= 8 && plain8(word(s[len(s)-8:])) {
		return len(s)
	}
	for n < len(s) && s[n] >= ' ' && s[n] < utf8.RuneSelf && s[n] != '"' && s[n] != '\\' {
		n++
	}
	return n
}

// plain8 reports whether eight bytes are ASCII and need no escape. A subtraction
// sets the top bit of a byte that is below what is taken from it.
func plain8(w uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	return (w|(w-ones*' ')|((w^ones*'"')-ones)|((w^ones*'\\')-ones))&tops == 0
}

func appendEscaped(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// appendNumber appends n, which is finite, as protojson does.
func appendNumber(dst []byte, n float64) []byte {
	// Most numbers are counts. Those below 2^53 are exact, and minus zero is
	// not one of them.
	if i := int64(n); float64(i) == n && -1<<53 < i && i < 1<<53 && (i != 0 || !math.Signbit(n)) {
		return strconv.AppendInt(dst, i, 10)
	}
	if abs := math.Abs(n); n == 0 || 1e-6 <= abs && abs < 1e21 {
		return strconv.AppendFloat(dst, n, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, n, 'e', -1, 64)
	// e-09 is written e-9.
	if end := len(dst); dst[end-4] == 'e' && dst[end-3] == '-' && dst[end-2] == '0' {
		dst[end-2] = dst[end-1]
		dst = dst[:end-1]
	}
	return dst
}

// appendTimestamp appends a google.protobuf.Timestamp of wire bytes b.
func appendTimestamp(dst []byte, b string) (_ []byte, ok bool) {
	const secondsTag, nanosTag = 1<<3 | byte(protowire.VarintType), 2<<3 | byte(protowire.VarintType)
	var seconds, nanos uint64
	if len(b) > 0 && b[0] == secondsTag {
		var n int
		if seconds, n = varint(b[1:]); seconds == 0 {
			return nil, false
		}
		b = b[1+n:]
	}
	if len(b) > 0 && b[0] == nanosTag {
		var n int
		if nanos, n = varint(b[1:]); nanos == 0 || nanos > 999_999_999 {
			return nil, false
		}
		b = b[1+n:]
	}
	const first, last = -62_135_596_800, 253_402_300_799 // of the years 1 and 9999
	if s := int64(seconds); b != "" || s < first || s > last {
		return nil, false
	}
	return appendTime(dst, time.Unix(int64(seconds), int64(nanos)).UTC()), true
}

// appendTime appends t, in UTC and of the years 1 to 9999, as a JSON string with
// no fraction of a second or one of 3, 6 or 9 digits.
func appendTime(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	digit := func(n int) byte { return byte('0' + n%10) }
	dst = append(
		dst, '"', digit(year/1000), digit(year/100), digit(year/10), digit(year),
		'-', digit(int(month)/10), digit(int(month)), '-', digit(day/10), digit(day),
		'T', digit(hour/10), digit(hour), ':', digit(minute/10), digit(minute), ':', digit(second/10), digit(second),
	)
	if n := t.Nanosecond(); n > 0 {
		dst = append(dst, '.', digit(n/1e8), digit(n/1e7), digit(n/1e6))
		if n%1e6 > 0 {
			dst = append(dst, digit(n/1e5), digit(n/1e4), digit(n/1e3))
		}
		if n%1e3 > 0 {
			dst = append(dst, digit(n/100), digit(n/10), digit(n))
		}
	}
	return append(dst, 'Z', '"')
}

func finite(n float64) bool { return n-n == 0 }
