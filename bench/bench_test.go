// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// TestEncodingsAgree shows that the baseline does the same work: its payloads
// equal the gateway's. What it is compared with would otherwise mean nothing.
func TestEncodingsAgree(t *testing.T) {
	gateway, obvious, floor, err := encodings()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds() {
		events, err := newMixOf(1, k.event).events(200)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, event := range events {
			total += len(event)
			now := time.Date(2026, 3, 1, 9, 0, 0, 123, time.UTC)
			var decoded [2]any
			for i, encode := range []encoding{gateway, obvious} {
				data, err := encode(nil, event, now)
				if err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(data, &decoded[i]); err != nil {
					t.Fatal(err)
				}
			}
			if !reflect.DeepEqual(decoded[0], decoded[1]) {
				t.Fatalf("encode%s: payloads differ:\n%v\n%v", k.suffix, decoded[0], decoded[1])
			}
			if copied, err := floor(nil, event, now); err != nil || !bytes.Equal(copied, event) {
				t.Fatalf("encode%s: the floor made %x of %x, %v", k.suffix, copied, event, err)
			}
		}
		if mean := total / len(events); k.suffix == "" && (mean < 350 || mean > 450) {
			t.Errorf("events of the test mix have %d bytes, want about 400", mean)
		}
	}
}
