// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// encoding makes the payload of one event in wire format, in dst if it can.
type encoding func(dst, event []byte, receivedAt time.Time) ([]byte, error)

// encodings are the ways to do it. The floor only copies.
func encodings() (gateway, obvious, floor encoding, err error) {
	md, sender := licensedMetadata("the key itself is not in the payload"), licensedSender()
	e, err := payload.NewEncoder(md, sender, payload.KeyFingerprint)
	if err != nil {
		return nil, nil, nil, err
	}
	o, err := newObviousEncoder(md, sender)
	if err != nil {
		return nil, nil, nil, err
	}
	var labels payload.Arena
	e.Use(&labels)
	gateway = func(dst, event []byte, receivedAt time.Time) ([]byte, error) {
		labels.Reset()
		dst, _, violation := e.Append(dst, event, receivedAt)
		if violation != nil {
			return nil, fmt.Errorf("an event of the mix was refused: %s", violation.Reason)
		}
		return dst, nil
	}
	obvious = func(_, event []byte, receivedAt time.Time) ([]byte, error) {
		var decoded pb.Event
		if err := proto.Unmarshal(event, &decoded); err != nil {
			return nil, err
		}
		data, _, err := o.encode(&decoded, receivedAt)
		return data, err
	}
	floor = func(dst, event []byte, _ time.Time) ([]byte, error) { return append(dst, event...), nil }
	return gateway, obvious, floor, nil
}

// encodeCells measure encoding alone, on one goroutine of this process.
func encodeCells() ([]cell, error) {
	gateway, obvious, floor, err := encodings()
	if err != nil {
		return nil, err
	}
	var cells []cell
	for _, k := range kinds() {
		name := "encode" + k.suffix
		events, err := newMixOf(1, k.event).events(2000)
		if err != nil {
			return nil, err
		}
		cells = append(
			cells,
			cell{name + "/gateway", func(d time.Duration) (sample, error) { return measureEncoding(gateway, events, d) }},
			cell{name + "/obvious", func(d time.Duration) (sample, error) { return measureEncoding(obvious, events, d) }},
			cell{name + "/floor", func(d time.Duration) (sample, error) { return measureEncoding(floor, events, d) }},
		)
	}
	return cells, nil
}

func measureEncoding(encode encoding, events [][]byte, d time.Duration) (sample, error) {
	runtime.GC()
	before, err := ownUsage()
	if err != nil {
		return sample{}, err
	}
	started := time.Now()
	n := 0
	for dst := []byte(nil); time.Since(started) < d; {
		now := time.Now()
		for range 100 {
			if dst, err = encode(dst[:0], events[n%len(events)], now); err != nil {
				return sample{}, err
			}
			n++
		}
	}
	took := time.Since(started)
	after, err := ownUsage()
	return newSample(n, took, after.minus(before), nil), err
}
