// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
)

// BenchmarkPublish publishes messages as the gateway does, of the size that an
// average event has. An operation is one message.
func BenchmarkPublish(b *testing.B) {
	for _, i := range implementations {
		for _, batch := range []int{1, 100, 1000} {
			ms := make([]Message, batch)
			for n := range ms {
				ms[n] = Message{
					Key:  fmt.Sprintf("4d2ee5c8-7d17-4a4b-8c40-%012d", n),
					Data: bytes.Repeat([]byte("0123456789"), 93),
					Attributes: []Attribute{
						{"event.feature", "codeSearch"},
						{"event.action", "executed"},
						{"source.instance", "instance-0001"},
						{"sender.kind", "licensed"},
					},
				}
			}
			publish := func(b *testing.B, topic Topic) {
				for _, err := range topic.Publish(b.Context(), ms) {
					if err != nil {
						b.Error(err)
						return
					}
				}
			}
			if i.name == "memory" {
				// It would be full, or else the measure of the collector.
				continue
			}
			b.Run(fmt.Sprintf("%s/batch=%d", i.name, batch), func(b *testing.B) {
				topic := i.open(b).publish(b)
				b.ReportAllocs()
				b.ResetTimer()
				for n := 0; n < b.N; n += batch {
					publish(b, topic)
				}
			})
			b.Run(fmt.Sprintf("%s/batch=%d/publishers=8", i.name, batch), func(b *testing.B) {
				topic := i.open(b).publish(b)
				calls := make(chan struct{})
				b.ReportAllocs()
				b.ResetTimer()
				go func() {
					defer close(calls)
					for n := 0; n < b.N; n += batch {
						calls <- struct{}{}
					}
				}()
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						for range calls {
							publish(b, topic)
						}
					})
				}
				wg.Wait()
			})
		}
	}
}
