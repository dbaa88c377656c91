// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"maps"
	"time"
)

// constant is a text that stands in the source code. Outside of this package
// nothing but an untyped constant becomes one, so what a user typed cannot end
// up in a name.
type constant string

// Entry is one event for RecordAll. A function of your own that records on
// behalf of others takes an Entry, because only constants become names.
type Entry struct {
	// Feature is the part of the product, and Action what happened to it: 2 to
	// 64 bytes, a small letter first, then letters, dots and dashes.
	Feature, Action constant
	Params          Params
}

// Params are what is known about an event besides its feature and action, and
// besides what the context knows. All of them may be left out.
type Params struct {
	// Version of the shape that this event's parameters have. Count it up when
	// their meaning changes. It has 32 bits.
	Version int
	// Metadata are finite numbers, and leave the instance.
	Metadata Metadata
	// PrivateMetadata may be anything, and leaves the instance only where its
	// operator allows it.
	PrivateMetadata PrivateMetadata
	// Billing is for usage that is charged for.
	Billing Billing
	// InteractionID ties events together. It goes before the context's.
	InteractionID string
	// Timestamp is when the event happened: now unless set.
	Timestamp time.Time
}

// Metadata are numbers by name. See Bool and Number.
type Metadata map[constant]float64

// PrivateMetadata are values by name: nil, booleans, numbers, texts, and slices
// and maps of them, nested at most 32 deep. A value with a MarshalText method,
// such as a time, becomes its text, and a []byte becomes base64. Numbers are
// kept as float64, which is exact up to 2^53.
//
// Structs are not taken, because whoever adds a field to one does not think of
// what is recorded. In place of private metadata with a value of a type that is
// not taken, the event has only the key "telemetry.error" with the type's name.
type PrivateMetadata map[constant]any

// Billing is what usage is charged as. Either both are set or none.
type Billing struct {
	Product, Category constant
}

// Bool is 1 for true and 0 for false.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Number is n as metadata. Integers are exact up to 2^53.
func Number[N number](n N) float64 { return float64(n) }

type number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 |
		~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr |
		~float32 | ~float64
}

// MergeMetadata returns new metadata with all that is in ms. Of several values
// for one key the last one is taken.
func MergeMetadata(ms ...Metadata) Metadata {
	merged := Metadata{}
	for _, m := range ms {
		maps.Copy(merged, m)
	}
	return merged
}
