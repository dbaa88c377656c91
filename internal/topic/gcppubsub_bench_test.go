// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	client "cloud.google.com/go/pubsub/v2"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/topic/pubsubfake"
)

// BenchmarkPubSubPublish measures one message of 930 bytes with 15 attributes,
// client and fake server together: as a batch, and in the obvious way, which is
// the client's usual level with a future for each message from 250 goroutines.
func BenchmarkPubSubPublish(b *testing.B) {
	batch := make([]Message, limits.RequestMessages)
	for i := range batch {
		batch[i] = Message{Key: fmt.Sprintf("01890a5d-ac96-774b-bcce-b302099a%04d", i), Data: bytes.Repeat([]byte("d"), 930)}
		for a := range 15 {
			batch[i].Attributes = append(batch[i].Attributes, Attribute{fmt.Sprintf("event.attribute%02d", a), "some.value"})
		}
	}
	b.Run("batch", func(b *testing.B) {
		pubsubfake.Start(b)
		topic := mustOpen(b, "gcppubsub://projects/p/topics/t")
		b.ReportAllocs()
		for n := 0; n < b.N; n += len(batch) {
			mustPublish(b, topic, batch[:min(len(batch), b.N-n)]...)
		}
	})
	b.Run("obvious", func(b *testing.B) {
		pubsubfake.Start(b)
		c, err := client.NewClient(b.Context(), "p")
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		publisher := c.Publisher("t")
		defer publisher.Stop()
		b.ReportAllocs()
		next := make(chan *Message)
		var wg sync.WaitGroup
		for range 250 {
			wg.Go(func() {
				for m := range next {
					attributes := make(map[string]string, len(m.Attributes)+1)
					for _, a := range m.Attributes {
						attributes[a.Key] = a.Value
					}
					attributes[keyAttribute] = m.Key
					if _, err := publisher.Publish(context.Background(), &client.Message{Data: m.Data, Attributes: attributes}).Get(context.Background()); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for n := range b.N {
			next <- &batch[n%len(batch)]
		}
		close(next)
		wg.Wait()
	})
}
