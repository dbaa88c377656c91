// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"errors"
	"slices"
	"testing"
)

func FuzzParseAttributes(f *testing.F) {
	f.Add(appendAttributes(nil, nil))
	f.Add(appendAttributes(nil, []Attribute{{"key", "value"}, {"", ""}, {"\xff", "\x00"}}))
	f.Add([]byte("\x01"))
	f.Add([]byte("\x01a"))
	f.Add([]byte("\x01a\x05b"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		as, err := parseAttributes(nil, b)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("parseAttributes = %v, want errDamaged", err)
			}
			return
		}
		again, err := parseAttributes(nil, appendAttributes(nil, as))
		if err != nil || !slices.Equal(as, again) {
			t.Errorf("%q comes back as %q (%v)", as, again, err)
		}
	})
}
