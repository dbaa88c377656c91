// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"encoding/binary"
	"errors"
)

// text and blob pass what is empty as NULL, as which the driver may store it
// anyway.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func blob(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// appendAttributes writes each key and value after its length as a uvarint.
func appendAttributes(dst []byte, as []Attribute) []byte {
	for _, a := range as {
		dst = append(binary.AppendUvarint(dst, uint64(len(a.Key))), a.Key...)
		dst = append(binary.AppendUvarint(dst, uint64(len(a.Value))), a.Value...)
	}
	return dst
}

var errDamaged = errors.New("the file is damaged: attributes cannot be read")

// parseAttributes appends to dst what appendAttributes has written.
func parseAttributes(dst []Attribute, b []byte) ([]Attribute, error) {
	// One copy holds all the strings.
	s, at := string(b), 0
	next := func() (string, bool) {
		n, w := binary.Uvarint(b[at:])
		if w <= 0 || n > uint64(len(b)-at-w) {
			return "", false
		}
		start := at + w
		at = start + int(n)
		return s[start:at], true
	}
	for at < len(b) {
		key, ok := next()
		value, ok2 := next()
		if !ok || !ok2 {
			return dst, errDamaged
		}
		dst = append(dst, Attribute{key, value})
	}
	return dst, nil
}
