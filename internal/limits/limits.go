// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package limits says how large things may get and what an event may hold.
// Whatever a stage lets through, the next stage takes, even after it has grown
// as much as it can: chain_test.go asserts it.
package limits

import "time"

// One event. The same rules hold where it is recorded and where it is received.
const (
	// EventIDBytes is the longest event ID.
	EventIDBytes = 128
	// NameMinBytes and NameBytes bound a feature or an action.
	NameMinBytes = 2
	NameBytes    = 64
	// Depth is how deep private metadata may nest: an object or a list inside
	// the outermost object is at depth 2.
	Depth = 32
	// RecordedEventBytes is the largest event that an instance records, in its
	// wire format. It fits into the smallest message that a client sends by
	// default, and into a topic however much it grows as JSON.
	RecordedEventBytes = 1 << 20
)

// What a sender says about itself.
const (
	// SenderIDBytes is the longest instance, service or environment ID.
	SenderIDBytes = 128
	// ExternalURLBytes is the longest external URL.
	ExternalURLBytes = 1024
	// RequestIDBytes is the longest request ID.
	RequestIDBytes = 128
	// LicenseKeyBytes is the longest licence key.
	LicenseKeyBytes = 16 << 10
	// IdentityBytes is the longest name of what a sender's event IDs are unique
	// within.
	IdentityBytes = 512
	// MetadataBytes is the most that all of this may take as JSON, together
	// with the licence's own fields.
	MetadataBytes = 128 << 10
)

// One request of a web app or another client to an instance or to the backend of
// a service.
const (
	// IntakeBodyBytes is the default for the largest request, and IntakeEvents
	// that for the most events in it.
	IntakeBodyBytes = 1 << 20
	IntakeEvents    = 500
	// IntakeValues is how many values a request may have: objects, lists, texts,
	// numbers. Each costs many times its bytes, and an error if it is wrong.
	IntakeValues = 50_000
	// IntakeClientBytes is the longest name and version, together, of a client
	// that says once for all of its events who it is.
	IntakeClientBytes = 256
	// IntakeWorkingBytes is how many bytes of requests are worked on at once.
	// Decoded they take up to a hundred times as much memory.
	IntakeWorkingBytes = 4 << 20
	// IntakeQueryBytes, IntakeDepth and IntakeSelections bound a GraphQL
	// document: its length, how deep its fields nest, and how many there are
	// once fragments stand where they are used. What tools ask to learn the
	// schema is the deepest and longest there is.
	IntakeQueryBytes = 8 << 10
	IntakeDepth      = 16
	IntakeSelections = 1000
	// IntakeErrors is how many errors of a malformed request are reported.
	IntakeErrors = 20
	// IdempotencyKeyBytes is the longest idempotency key, and
	// InteractionIDBytes the longest interaction ID taken from a header.
	IdempotencyKeyBytes = 128
	InteractionIDBytes  = 256
)

// One call to the gateway.
const (
	// ReceiveBytes is the default for the largest message received, as it is
	// after decompression. ReceiveMinBytes and ReceiveMaxBytes bound what an
	// operator may set.
	ReceiveBytes    = 4 << 20
	ReceiveMinBytes = 64 << 10
	ReceiveMaxBytes = 96 << 20
	// ReceivePubSubBytes is the largest message received whose events always
	// fit into a dead letter in Pub/Sub, where they are kept as base64.
	ReceivePubSubBytes = 7 << 20
	// FirstMessageBytes is the largest first message of a stream, which is
	// received before the sender is known.
	FirstMessageBytes = 64 << 10
	// EventsPerMessage is how many events one message may hold.
	EventsPerMessage = 20_000
	// HeaderBytes is how large a request's headers may be.
	HeaderBytes = 32 << 10
	// StreamsPerConnection is how many calls one HTTP/2 connection may have
	// open at once.
	StreamsPerConnection = 100
	// Connections and ConnectionsPerNetwork are the defaults for how many
	// connections may be open at once, in all and from one address. An IPv6
	// address counts by its /64.
	Connections           = 2000
	ConnectionsPerNetwork = 500
	// StreamBufferBytes is what a sender may have on its way on one stream
	// before the gateway asks for it. Divided by the round-trip time it bounds a
	// stream's throughput: 1.3 MB/s at 50 ms.
	StreamBufferBytes = 64 << 10
	// Calls is how many calls may be open at once; UnlicensedShare, as 1/n, is
	// the part of it that streams of unlicensed senders may be; and
	// NewcomersPerNetwork is how many from one address may not yet have said
	// who they are.
	Calls               = 2000
	NewcomersPerNetwork = 1000
	// ConnectionBufferBytes is the same for a connection. It has room for all of
	// its streams: if those whose messages wait for memory could fill it, the
	// one that has the memory would never get its data.
	ConnectionBufferBytes = StreamsPerConnection * StreamBufferBytes
	// PingInterval is how long a connection may be silent before the gateway
	// asks whether the peer is still there.
	PingInterval = time.Minute
	// IdleTimeout ends a stream or connection on which nothing is under way.
	IdleTimeout = 5 * time.Minute
	// StallTimeout ends a call whose peer has begun a message and then neither
	// sends nor reads for this long.
	StallTimeout = 30 * time.Second
	// CrowdedBytesPerSecond is how fast a message must arrive, on average and
	// once it is as old as CrowdedAge, while others wait for its memory.
	CrowdedBytesPerSecond = 128 << 10
	CrowdedAge            = 5 * time.Second
	// SlowestBytesPerSecond is how fast a message must arrive, on average, once
	// it has begun and StallTimeout has passed.
	SlowestBytesPerSecond = 16 << 10
	// StopTimeout is the default for how long a stopping gateway waits for
	// calls to finish.
	StopTimeout = 20 * time.Second
)

// Memory. The worst case of a gateway's resident memory is stated in
// docs/limits.md and held by a test.
const (
	// InFlightBytes is the default for how much memory all messages in flight
	// may take together, and InFlightMinBytes the least an operator may set.
	InFlightBytes    = 256 << 20
	InFlightMinBytes = 32 << 20
	// InFlightFactor times its size is what a message is charged: for the
	// buffer it is received into, which doubles as it grows; and for a copy of
	// it and its payloads, up to six times as large as what they encode.
	ReceiveFactor  = 2
	PayloadFactor  = 6
	InFlightFactor = ReceiveFactor + PayloadFactor
	// ChunkBytes is how many bytes of payloads are gathered before they are
	// published. When events are tiny, most of a payload is about the sender:
	// up to TinyFactor times the event.
	ChunkBytes = 1 << 20
	TinyFactor = 30
	// OtherBytes is what the gateway takes besides: itself, connections,
	// streams, and garbage.
	OtherBytes = 256 << 20
	// UnlicensedShare is the part of InFlightBytes, as 1/n, that unlicensed
	// senders may take together, so that they cannot crowd out licensed ones.
	UnlicensedShare = 4
	// ProvingShare is the part of the share of unary calls, as 1/n, that those
	// take whose senders are being proven by a provider of access tokens.
	ProvingShare = 8
	// PendingResponseBytes is how much memory responses that their senders
	// have not read yet may take together, and StreamResponseBytes the part of
	// it that one stream may take, unless a single response is larger.
	PendingResponseBytes = 64 << 20
	StreamResponseBytes  = 1 << 20
	// ResidentBytes is the most memory that a gateway has resident with the
	// defaults, whatever it is sent: all of the above, which
	// the garbage collector is told to stay within, and what it knows nothing
	// of, such as the program itself.
	ResidentBytes = InFlightBytes + PendingResponseBytes + OtherBytes + 64<<20
)

// Unlicensed senders. A call costs one event more than it carries.
const (
	// UnlicensedRate and UnlicensedBurst are the defaults for events from one
	// address: per second, and at once, which is one full message. An IPv6
	// address counts by its /64.
	UnlicensedRate  = 100
	UnlicensedBurst = EventsPerMessage + 1
	// UnlicensedTotalRate and UnlicensedTotalBurst are the defaults for events
	// from all unlicensed senders together.
	UnlicensedTotalRate  = 2_000
	UnlicensedTotalBurst = 100_000
	// UnlicensedAddresses is how many addresses are told apart at once; the one
	// unused for longest is forgotten first.
	UnlicensedAddresses = 65_536
	// LimitedBytesPerSecond and LimitedBurstBytes bound how much the gateway
	// receives of messages that are more than their senders may send, all of
	// them together: per second, and at once. Each counts as LimitedOverhead
	// bytes more than it has. A sender is held back for LimitedWait at most.
	LimitedBytesPerSecond = 16 << 20
	LimitedBurstBytes     = 8 << 20
	LimitedOverhead       = 8 << 10
	LimitedWait           = 10 * time.Second
)

// Access tokens of managed services, and the provider that is asked about them.
const (
	// TokenBytes is the longest token.
	TokenBytes = 16 << 10
	// TokenRate and TokenBurst bound how many tokens that are not known to be
	// good the provider is asked about: per second, and at once, and so no more
	// than both together in any second. TokenAddressRate and TokenAddressBurst
	// bound those of them that come from one address; an IPv6 address counts by
	// its /64.
	TokenRate         = 25
	TokenBurst        = 25
	TokenAddressRate  = 5
	TokenAddressBurst = 10
	// TokenChecks is how many of them the provider is asked about at once, and
	// again how many of those that were good before, which wait TokenWait for
	// their turn.
	TokenChecks = 16
	TokenWait   = time.Second
	// TokensChecked is how many tokens that are not known to be good are being
	// checked at once, by whatever means: one for each call that there can be.
	TokensChecked = Calls
	// TokenTimeout bounds one exchange with the provider, and TokenAnswerBytes
	// what it says about a token.
	TokenTimeout     = 5 * time.Second
	TokenAnswerBytes = 64 << 10
	// TokensRemembered is how many good tokens are remembered, and again how
	// many bad ones; the one unused for longest is forgotten first.
	TokensRemembered = 10_000
)

// A message in a topic. The numbers are Google Cloud Pub/Sub's, and hold for
// every topic, so that a deployment can move from one to another.
const (
	// RequestBytes and RequestMessages bound one publish request.
	RequestBytes    = 10_000_000
	RequestMessages = 1000
	// MessageBytes is the largest message: key, data and attributes, each with
	// AttributeOverhead, and room in the request for the topic's name.
	MessageBytes = RequestBytes - 4096
	// AttributeOverhead is what one attribute costs besides its key and value,
	// and what a message's key and data cost besides their bytes.
	AttributeOverhead = 16
	// Attributes, AttributeKeyBytes and AttributeValueBytes bound a message's
	// attributes. Pub/Sub allows one attribute more, which carries the key.
	Attributes          = 99
	AttributeKeyBytes   = 256
	AttributeValueBytes = 1024
	// KeyBytes is the longest key.
	KeyBytes = 1024
)
