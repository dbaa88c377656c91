// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A part is a field on the wire. Tests take an event apart, change parts of it
// as no library would, and put it together again with the lengths right.
type part struct {
	number protowire.Number
	typ    protowire.Type
	value  []byte  // the bytes behind the tag and the length, if parts is nil
	parts  []*part // of a message
	// How many bytes more than it needs, and as a varint may have, the tag, the
	// length, or a number takes.
	padTag, padLength, padNumber int
}

// takeApart returns the parts of a message that wire holds, if it is one. What
// is inside and is none stays a value.
func takeApart(md protoreflect.MessageDescriptor, wire []byte) (parts []*part, ok bool) {
	parts = []*part{}
	for len(wire) > 0 {
		number, typ, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return nil, false
		}
		size := protowire.ConsumeFieldValue(number, typ, wire[n:])
		if size < 0 {
			return nil, false
		}
		p := &part{number: number, typ: typ, value: wire[n:][:size]}
		if typ == protowire.BytesType {
			p.value, _ = protowire.ConsumeBytes(p.value)
			if field := md.Fields().ByNumber(number); field != nil && field.Message() != nil {
				p.parts, _ = takeApart(field.Message(), p.value)
			}
		}
		parts = append(parts, p)
		wire = wire[n+size:]
	}
	return parts, true
}

func putTogether(parts []*part) []byte {
	var wire []byte
	for _, p := range parts {
		wire = pad(protowire.AppendTag(wire, p.number, p.typ), p.padTag)
		value := p.value
		if p.parts != nil {
			value = putTogether(p.parts)
		}
		if p.typ == protowire.BytesType {
			wire = pad(protowire.AppendVarint(wire, uint64(len(value))), p.padLength)
		}
		wire = append(wire, value...)
		if p.typ == protowire.VarintType {
			wire = pad(wire, p.padNumber)
		}
	}
	return wire
}

// pad makes the varint that wire ends with n bytes longer.
func pad(wire []byte, n int) []byte {
	for range n {
		wire[len(wire)-1] |= 0x80
		wire = append(wire, 0)
	}
	return wire
}

// eachLevel calls f with the parts of each message of a tree, the outermost
// first.
func eachLevel(parts *[]*part, f func(*[]*part)) {
	f(parts)
	for _, p := range *parts {
		if p.parts != nil {
			eachLevel(&p.parts, f)
		}
	}
}

// oddTexts are what a text or a message can be on the wire.
var oddTexts = []string{
	"", "a", "ab", "sevenxx", "eight  8", "nine bytes", "\x00", "\x1f", " ", "\"", "\\", "/", "<&>", "\x7f", "\b\f\n\r\t\v",
	"1234567\"", "12345678\\", "123456789\n", "12345678é", "é12345678", "\u0080", "\u07ff", "\u0800", "\u2028\u2029", "\ufeff", "\ufffd", "\ufffe", "\uffff",
	"\u202e\u2066\u200f", "😀", "\U0010ffff", "12345678901234567890123456789012", "日本語のテキスト", "e\u0301",
	// Not valid UTF-8: a byte alone, cut off, overlong, surrogates, beyond
	// Unicode.
	"\x80", "\xbf", "\xff", "\xfe", "\xc3", "12345678\xc3", "\xe2\x80", "\xf0\x9f\x98", "a\xffb", "12345678901234567\xff", "\xc0\x80", "\xc1\xbf",
	"\xe0\x80\x80", "\xe0\x9f\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\x81\xed\xb0\x80",
	"\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80",
	// Messages.
	"\x08\x00", "\x08\x01", "\x11\x00\x00\x00\x00\x00\x00\x00\x80", "\x11\x00\x00\x00\x00\x00\x00\xf8\x7f", "\x1a\x00", "\x20\x01", "\x20\x02", "\x2a\x00", "\x32\x00",
	"\x0a\x00", "\x0a\x02\x0a\x00", "\x0a\x04\x0a\x00\x12\x00", "\x0a\x06\x0a\x00\x12\x02\x20\x01", "\x1a\x00\x20\x01", "\x08\x00\x08\x00",
	"\x08\x01\x10\x01", "\x10\x01\x08\x01", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
}

// oddVarints and oddFixed are what a number can be.
var oddVarints = []uint64{
	0, 1, 2, 9, 10, 99, 100, 127, 128, 255, 256, 16383, 16384, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<53 - 1, 1 << 53, 1<<53 + 1,
	1<<63 - 1, 1 << 63, 1<<64 - 1<<31, 1<<64 - 1<<31 - 1, 1<<64 - 1, 999_999_999, 1_000_000_000, 253_402_300_799, 253_402_300_800,
	1<<64 - 62_135_596_800, 1<<64 - 62_135_596_801,
}

// levels returns the parts of each message of a tree that has any, the outermost
// first.
func levels(tree *[]*part) (all []*[]*part) {
	eachLevel(tree, func(parts *[]*part) {
		if len(*parts) > 0 {
			all = append(all, parts)
		}
	})
	return all
}

// An edit changes the parts of one message, at i. It may find nothing to change.
type edit func(parts *[]*part, i int) (changed bool)

// edits are every way in which a part can be odd.
func edits() []edit {
	insert := func(p part) edit {
		return always(func(parts *[]*part, i int) { *parts = slices.Insert(*parts, i, &p) })
	}
	all := []edit{
		always(func(parts *[]*part, i int) { *parts = slices.Delete(*parts, i, i+1) }),
		always(func(parts *[]*part, i int) { *parts = slices.Insert(*parts, i, (*parts)[i]) }),
		always(func(parts *[]*part, i int) { *parts = append(*parts, (*parts)[i]) }),
		always(func(parts *[]*part, i int) { *parts = slices.Insert(*parts, 0, (*parts)[i]) }),
		always(func(parts *[]*part, i int) {
			j := (i + 1) % len(*parts)
			(*parts)[i], (*parts)[j] = (*parts)[j], (*parts)[i]
		}),
		always(func(parts *[]*part, _ int) { slices.Reverse(*parts) }),
		insert(part{number: 15, typ: protowire.VarintType, value: []byte{1}}),
		insert(part{number: 900, typ: protowire.BytesType, value: []byte("new")}),
		insert(part{number: 3, typ: protowire.StartGroupType, value: []byte{3<<3 | 4}}),
		insert(part{number: 2, typ: protowire.Fixed32Type, value: make([]byte, 4)}),
		insert(part{number: 0, typ: protowire.VarintType, value: []byte{1}}),
		change(anyType, func(p *part) { p.padTag = 1 }),
		change(anyType, func(p *part) { p.padTag = 4 }),
		change(protowire.BytesType, func(p *part) { p.padLength = 1 }),
		change(protowire.BytesType, func(p *part) { p.padLength = 8 }),
		change(protowire.VarintType, func(p *part) { p.padNumber = 1 }),
		change(protowire.VarintType, func(p *part) { p.padNumber = 9 }),
		change(anyType, func(p *part) { p.number++ }),
		change(anyType, func(p *part) { p.number-- }),
		change(anyType, func(p *part) { p.typ, p.value, p.parts = protowire.Fixed64Type, make([]byte, 8), nil }),
		change(anyType, func(p *part) { p.typ, p.value, p.parts = protowire.BytesType, []byte{1, 2}, nil }),
	}
	for _, text := range oddTexts {
		all = append(all, content([]byte(text)))
	}
	for _, v := range oddVarints {
		all = append(all, change(protowire.VarintType, func(p *part) { p.value = protowire.AppendVarint(nil, v) }))
	}
	for _, text := range []string{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "\x81\x80\x80\x80\x80\x80\x80\x80\x80\x7f", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"} {
		all = append(all, change(protowire.VarintType, func(p *part) { p.value = []byte(text) })) // of more than 64 bits
	}
	for _, bits := range oddDoubles() {
		all = append(all, change(protowire.Fixed64Type, func(p *part) { p.value = protowire.AppendFixed64(nil, bits) }))
	}
	return all
}

func always(f func(parts *[]*part, i int)) edit {
	return func(parts *[]*part, i int) bool {
		f(parts, i)
		return true
	}
}

const anyType protowire.Type = -1

// change changes a part if it is of a type.
func change(typ protowire.Type, f func(p *part)) edit {
	return func(parts *[]*part, i int) bool {
		p := *(*parts)[i]
		if typ != anyType && typ != p.typ {
			return false
		}
		f(&p)
		(*parts)[i] = &p
		return true
	}
}

// content makes b what a part with a length holds.
func content(b []byte) edit {
	return change(protowire.BytesType, func(p *part) { p.value, p.parts = b, nil })
}
