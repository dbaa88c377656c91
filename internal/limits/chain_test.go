// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package limits_test

import (
	"encoding/base64"
	"testing"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// escaped is how much a text can grow as JSON: a control character becomes
// \u00xx. Percent signs grow a byte to three.
const (
	escaped        = 6
	percentEscaped = 3
)

// TestChain asserts that whatever one stage lets through fits into the next
// one, after it has grown as much as it can.
func TestChain(t *testing.T) {
	// What a sender says about itself, as protobuf and as JSON. White space in
	// a licence key is dropped, and the key is base64 in base64: what is left
	// needs no escapes, and the licence in it has at most 9/16 of its bytes,
	// some of them as Unicode escapes that JSON writes shorter.
	const (
		frame         = 1024 // names of fields, braces, times, numbers
		about         = 2*limits.SenderIDBytes + limits.ExternalURLBytes + limits.RequestIDBytes
		firstMessage  = about + limits.LicenseKeyBytes + frame
		licenseFields = limits.LicenseKeyBytes * 9 / 16
		metadata      = escaped*(about+licenseFields) + limits.LicenseKeyBytes + frame
	)
	// A dead letter besides the event and the metadata: the key, six
	// attributes, and the same again as labels in the JSON.
	const (
		key         = limits.IdentityBytes + len("/") + percentEscaped*limits.EventIDBytes
		attribute   = limits.AttributeKeyBytes + limits.AttributeValueBytes + limits.AttributeOverhead
		deadLetter  = key + 6*attribute + escaped*6*attribute + frame + 2*limits.AttributeOverhead
		wrappedRoom = limits.MessageBytes - limits.MetadataBytes - deadLetter
	)
	for _, row := range []struct {
		name  string
		a     int
		fitsB int
	}{
		{"shortest name in longest name", limits.NameMinBytes, limits.NameBytes},
		{"name in attribute", limits.NameBytes, limits.AttributeValueBytes},
		{"event ID in attribute", limits.EventIDBytes, limits.AttributeValueBytes},
		{"sender ID in attribute", limits.SenderIDBytes, limits.AttributeValueBytes},
		{"identity and event ID in key", key, limits.KeyBytes},
		{"key in attribute, as Pub/Sub carries it", limits.KeyBytes, limits.AttributeValueBytes},
		{"identifier in first message", firstMessage, limits.FirstMessageBytes},
		{"metadata as JSON", metadata, limits.MetadataBytes},
		{"first message in smallest receive limit", limits.FirstMessageBytes, limits.ReceiveMinBytes},
		{"smallest receive limit in default", limits.ReceiveMinBytes, limits.ReceiveBytes},
		{"default receive limit in that for Pub/Sub", limits.ReceiveBytes, limits.ReceivePubSubBytes},
		{"receive limit for Pub/Sub in the largest", limits.ReceivePubSubBytes, limits.ReceiveMaxBytes},
		{"largest request of a web app in those worked on at once", limits.IntakeBodyBytes, limits.IntakeWorkingBytes},
		{"a web app's client in every event of a request, in the size of a request", limits.IntakeEvents * limits.IntakeClientBytes, limits.IntakeBodyBytes},
		{"largest recorded event in a message that a client sends by default", limits.RecordedEventBytes + frame, client.DefaultMaxMessageBytes},
		{"largest message of a client by default in what a gateway receives", client.DefaultMaxMessageBytes, limits.ReceiveBytes},
		{"largest recorded event in a topic, as JSON", escaped*limits.RecordedEventBytes + limits.MetadataBytes, limits.MessageBytes},
		{"dead letter of the largest event by default", base64.StdEncoding.EncodedLen(limits.ReceiveBytes), wrappedRoom},
		{"dead letter of the largest event for Pub/Sub", base64.StdEncoding.EncodedLen(limits.ReceivePubSubBytes), wrappedRoom},
		{"largest message in memory for unlicensed senders", limits.ReceiveBytes * limits.InFlightFactor, limits.InFlightBytes / limits.UnlicensedShare},
		{"growth of a payload in the memory charged for it", escaped, limits.PayloadFactor},
		{"full message and its call in an address's burst", limits.EventsPerMessage + 1, limits.UnlicensedBurst},
		{"an address's burst in that of all", limits.UnlicensedBurst, limits.UnlicensedTotalBurst},
		{"an address's rate in that of all", limits.UnlicensedRate, limits.UnlicensedTotalRate},
		{"access token in a call's headers", limits.TokenBytes + frame, limits.HeaderBytes},
		{"an address's rate of tokens in that of all", limits.TokenAddressRate, limits.TokenRate},
		{"an address's burst of tokens in that of all", limits.TokenAddressBurst, limits.TokenBurst},
		{"tokens that reach the provider in one second in the fifty that are promised", limits.TokenRate + limits.TokenBurst, 50},
		{"a stream's responses in those of all", limits.StreamResponseBytes, limits.PendingResponseBytes},
		{"all of a connection's streams in its buffer", limits.StreamsPerConnection * limits.StreamBufferBytes, limits.ConnectionBufferBytes},
		{"what waits on all calls in what the gateway takes besides", limits.Calls * limits.StreamBufferBytes, limits.OtherBytes},
		{"message and topic name in request", limits.MessageBytes + 4096, limits.RequestBytes},
		{"one message in a request", 1, limits.RequestMessages},
	} {
		if row.a > row.fitsB {
			t.Errorf("%s: %d is more than %d", row.name, row.a, row.fitsB)
		}
	}
	if limits.StallTimeout >= limits.IdleTimeout {
		t.Error("a stalled call must end before an idle one")
	}
}
