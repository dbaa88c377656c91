// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// A result is a sequence of frames: the columns, any number of rows, and the end
// or an error. One that just stops is therefore never taken for complete. A value
// is a tag and what belongs to it; lengths, counts and integers are varints.
const (
	frameColumns = 'C'
	frameRow     = 'R'
	frameError   = 'X'
	frameEnd     = 'E'

	tagNull   = 'n'
	tagFalse  = 'f'
	tagTrue   = 't'
	tagInt    = 'i'
	tagFloat  = 'd'
	tagString = 's'
	tagBytes  = 'b'
	tagJSON   = 'j'
	tagTime   = 'u' // seconds since 1970 and nanoseconds, UTC
	tagList   = 'l'
	tagMap    = 'm'
)

// maxDepth is how deep lists and maps may be nested.
const maxDepth = 100

var errTooDeep = errors.New("a value is nested too deeply")

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendColumns(dst []byte, columns []string) []byte {
	dst = binary.AppendUvarint(append(dst, frameColumns), uint64(len(columns)))
	for _, c := range columns {
		dst = appendString(dst, c)
	}
	return dst
}

func appendRow(dst []byte, row []any) (_ []byte, err error) {
	dst = append(dst, frameRow)
	for _, v := range row {
		if dst, err = appendValue(dst, v, maxDepth); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func appendValue(dst []byte, v any, depth int) (_ []byte, err error) {
	if depth == 0 {
		return nil, errTooDeep
	}
	switch v := v.(type) {
	case nil:
		return append(dst, tagNull), nil
	case bool:
		if v {
			return append(dst, tagTrue), nil
		}
		return append(dst, tagFalse), nil
	case int64:
		return binary.AppendVarint(append(dst, tagInt), v), nil
	case float64:
		return binary.BigEndian.AppendUint64(append(dst, tagFloat), math.Float64bits(v)), nil
	case string:
		return appendString(append(dst, tagString), v), nil
	case []byte:
		return appendString(append(dst, tagBytes), string(v)), nil
	case json.RawMessage:
		return appendString(append(dst, tagJSON), string(v)), nil
	case time.Time:
		dst = binary.AppendVarint(append(dst, tagTime), v.Unix())
		return binary.AppendUvarint(dst, uint64(v.Nanosecond())), nil
	case []any:
		dst = binary.AppendUvarint(append(dst, tagList), uint64(len(v)))
		for _, e := range v {
			if dst, err = appendValue(dst, e, depth-1); err != nil {
				return nil, err
			}
		}
		return dst, nil
	case map[string]any:
		dst = binary.AppendUvarint(append(dst, tagMap), uint64(len(v)))
		for k, e := range v {
			if dst, err = appendValue(appendString(dst, k), e, depth-1); err != nil {
				return nil, err
			}
		}
		return dst, nil
	}
	return nil, fmt.Errorf("a value of Go type %T has no form here", v)
}

// reader reads what the functions above append. What it allocates is in
// proportion to what has really arrived, whatever lengths and counts say.
type reader struct{ *bufio.Reader }

func (r reader) text() ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	const step = 64 << 10
	text := make([]byte, 0, min(n, step))
	for uint64(len(text)) < n {
		begin := len(text)
		text = append(text, make([]byte, min(n-uint64(begin), step))...)
		if _, err := io.ReadFull(r, text[begin:]); err != nil {
			return nil, err
		}
	}
	return text, nil
}

func (r reader) columns() ([]string, error) {
	n, err := binary.ReadUvarint(r)
	var columns []string
	for ; err == nil && n > 0; n-- {
		var name []byte
		name, err = r.text()
		columns = append(columns, string(name))
	}
	return columns, err
}

func (r reader) row(columns int) ([]any, error) {
	row := make([]any, columns)
	for i := range row {
		var err error
		if row[i], err = r.value(maxDepth); err != nil {
			return nil, err
		}
	}
	return row, nil
}

func (r reader) value(depth int) (any, error) {
	if depth == 0 {
		return nil, errTooDeep
	}
	tag, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	switch tag {
	case tagNull:
		return nil, nil
	case tagFalse, tagTrue:
		return tag == tagTrue, nil
	case tagInt:
		return binary.ReadVarint(r)
	case tagFloat:
		var b [8]byte
		_, err := io.ReadFull(r, b[:])
		return math.Float64frombits(binary.BigEndian.Uint64(b[:])), err
	case tagString:
		text, err := r.text()
		return string(text), err
	case tagBytes:
		return r.text()
	case tagJSON:
		text, err := r.text()
		return json.RawMessage(text), err
	case tagTime:
		seconds, err := binary.ReadVarint(r)
		if err != nil {
			return nil, err
		}
		nanoseconds, err := binary.ReadUvarint(r)
		return time.Unix(seconds, int64(nanoseconds%1e9)).UTC(), err
	case tagList:
		return r.list(depth)
	case tagMap:
		return r.mapping(depth)
	}
	return nil, fmt.Errorf("a value begins with %q, which no value does", tag)
}

func (r reader) list(depth int) (any, error) {
	n, err := binary.ReadUvarint(r)
	list := []any{}
	for ; err == nil && n > 0; n-- {
		var e any
		e, err = r.value(depth - 1)
		list = append(list, e)
	}
	return list, err
}

func (r reader) mapping(depth int) (any, error) {
	n, err := binary.ReadUvarint(r)
	m := map[string]any{}
	for ; err == nil && n > 0; n-- {
		var k []byte
		if k, err = r.text(); err == nil {
			m[string(k)], err = r.value(depth - 1)
		}
	}
	return m, err
}
